package testserver

import (
	"os/exec"
	"runtime"
	"sync"
	"syscall"
)

// confine makes cmd run in the server's folder, as its user, and end when the
// process of the test ends, by a panic for instance.
func (s *Server) confine(cmd *exec.Cmd) {
	cmd.Dir = s.Dir
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: s.engine.stop}
	if uid, gid, ok := s.credential(); ok {
		cmd.SysProcAttr.Credential = &syscall.Credential{Uid: uint32(uid), Gid: uint32(gid)}
	}
}

type starting struct {
	cmd *exec.Cmd
	err chan error
}

// Linux sends Pdeathsig when the thread that started the process ends, which is
// earlier than the process of the test. So one thread, that lasts, starts all.
var starter = sync.OnceValue(func() chan starting {
	requests := make(chan starting)
	go func() {
		runtime.LockOSThread()
		for r := range requests {
			r.err <- r.cmd.Start()
		}
	}()
	return requests
})

func startOnLastingThread(cmd *exec.Cmd) error {
	r := starting{cmd, make(chan error)}
	starter() <- r
	return <-r.err
}
