package main

import (
	"os/exec"
	"runtime"
	"sync"
	"syscall"
)

type starting struct {
	cmd *exec.Cmd
	err chan error
}

// Linux sends Pdeathsig when the thread that started the process ends, which is
// earlier than the process. So one thread, that lasts, starts all.
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

// startProcess starts cmd so that it ends with this process, however that ends.
func startProcess(cmd *exec.Cmd) error {
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	r := starting{cmd, make(chan error)}
	starter() <- r
	return <-r.err
}
