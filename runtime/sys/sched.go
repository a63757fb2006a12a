// SPDX-License-Identifier: Apache-2.0

package sys

import "golang.org/x/sys/unix"

// SetScheduler sets the scheduling policy of the thread pid, sched_setattr(2).
func SetScheduler(pid int, a unix.SchedAttr) error {
	return call(func() error { return unix.SchedSetAttr(pid, &a, 0) }, "sched_setattr", "%d, policy %d", pid, a.Policy)
}

// SetIOPriority sets the io priority of the thread pid: class << 13 | level,
// ioprio_set(2).
func SetIOPriority(pid, value int) error {
	const whoProcess = 1
	return call(func() error {
		if _, _, e := unix.Syscall(unix.SYS_IOPRIO_SET, whoProcess, uintptr(pid), uintptr(value)); e != 0 {
			return e
		}
		return nil
	}, "ioprio_set", "IOPRIO_WHO_PROCESS, %d, %#x", pid, value)
}
