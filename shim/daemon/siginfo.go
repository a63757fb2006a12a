// SPDX-License-Identifier: Apache-2.0

package daemon

import (
	"unsafe"

	"golang.org/x/sys/unix"
)

// sigchldInfo is siginfo_t as waitid(2) fills it in on 64-bit machines
// (include/uapi/asm-generic/siginfo.h); x/sys does not export the union.
type sigchldInfo struct {
	signo, errno, code, _ int32
	pid                   int32
}

func siginfoPid(i *unix.Siginfo) int {
	return int((*sigchldInfo)(unsafe.Pointer(i)).pid)
}
