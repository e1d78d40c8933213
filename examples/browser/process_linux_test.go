package browser

import "syscall"

func init() { endWithParent = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL} }
