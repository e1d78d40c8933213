package proxies

import "syscall"

func init() { endWithParent = &syscall.SysProcAttr{Pdeathsig: syscall.SIGTERM} }
