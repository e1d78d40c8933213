package main

import (
	"os"
	"os/exec"
	osuser "os/user"
	"runtime"
	"strconv"
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

// startProcess starts cmd so that it ends with this process, however that ends. A key
// that interrupts this process does not interrupt cmd.
func startProcess(cmd *exec.Cmd) error {
	if cmd.SysProcAttr == nil {
		cmd.SysProcAttr = &syscall.SysProcAttr{}
	}
	cmd.SysProcAttr.Pdeathsig, cmd.SysProcAttr.Setpgid = syscall.SIGKILL, true
	r := starting{cmd, make(chan error)}
	starter() <- r
	return <-r.err
}

// serverUser returns the user that runs the servers that refuse to run as root.
func serverUser() (uid, gid int, ok bool) {
	if os.Getuid() != 0 {
		return 0, 0, false
	}
	u, err := osuser.Lookup("nobody")
	if err != nil {
		return 0, 0, false
	}
	uid, _ = strconv.Atoi(u.Uid)
	gid, _ = strconv.Atoi(u.Gid)
	return uid, gid, true
}

func giveToServerUser(dir string) error {
	if uid, gid, ok := serverUser(); ok {
		return os.Chown(dir, uid, gid)
	}
	return nil
}

func asServerUser(cmd *exec.Cmd) {
	if uid, gid, ok := serverUser(); ok {
		cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: uint32(uid), Gid: uint32(gid)}}
	}
	cmd.Dir = "/"
}
