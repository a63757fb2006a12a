// SPDX-License-Identifier: Apache-2.0

package program

import (
	"strconv"

	"sysbox/runtime/syscalls"
)

// sysName returns the name of the system call with this number on an architecture.
func sysName(arch string, nr uintptr) string {
	if name, ok := syscalls.Name(syscalls.Arch(arch), uint32(nr)); ok {
		return name
	}
	return "syscall_" + strconv.FormatUint(uint64(nr), 10)
}

// translate returns the number that a system call of one architecture has on another.
func translate(nr uintptr, from, to string) (uintptr, bool) {
	if from == to {
		return nr, true
	}
	name, ok := syscalls.Name(syscalls.Arch(from), uint32(nr))
	if !ok {
		return 0, false
	}
	out, ok := syscalls.Number(syscalls.Arch(to), name)
	return uintptr(out), ok
}
