// SPDX-License-Identifier: Apache-2.0

package sys

import (
	"runtime"

	"golang.org/x/sys/unix"
)

// WithoutCapability runs f without one effective capability, a number of capabilities(7), on a
// locked thread, and restores the thread's set. A thread whose set cannot be restored is thrown
// away.
//
// Errors: those of f, or that the set cannot be changed.
func WithoutCapability(capability uint, f func() error) (err error) {
	runtime.LockOSThread()
	unlock := true
	defer func() {
		if unlock {
			runtime.UnlockOSThread()
		}
	}()
	h := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
	var old [2]unix.CapUserData
	if err := unix.Capget(&h, &old[0]); err != nil {
		return &Error{Call: "capget", Err: err}
	}
	reduced := old
	reduced[capability/32].Effective &^= 1 << (capability % 32)
	if err := unix.Capset(&h, &reduced[0]); err != nil {
		return &Error{Call: "capset", Err: err}
	}
	defer func() {
		if e := unix.Capset(&h, &old[0]); e != nil {
			unlock = false
			if err == nil {
				err = &Error{Call: "capset", Err: e}
			}
		}
	}()
	return f()
}
