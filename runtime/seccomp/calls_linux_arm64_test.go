package seccomp_test

import "golang.org/x/sys/unix"

var mkdirs = map[int]bool{unix.SYS_MKDIRAT: true}
