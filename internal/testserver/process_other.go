//go:build !linux

package testserver

import (
	"os/exec"
)

func (s *Server) confine(cmd *exec.Cmd) { cmd.Dir = s.Dir }

func startOnLastingThread(cmd *exec.Cmd) error { return cmd.Start() }
