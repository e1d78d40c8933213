//go:build !linux

package main

import "os/exec"

// startProcess starts cmd. If this process is killed, a server may go on. A key that
// interrupts this process interrupts the servers too.
func startProcess(cmd *exec.Cmd) error { return cmd.Start() }

func giveToServerUser(string) error { return nil }

func asServerUser(*exec.Cmd) {}
