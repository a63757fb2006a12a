// SPDX-License-Identifier: Apache-2.0

package config

import (
	"time"

	"sysbox/runtime/program"
)

// Testing are switches for tests of what cannot be caused on the kernel that they run on, or
// would take too long. Their zero values are what a shim has.
type Testing struct {
	// ProcHelper and Chown take the ways of older kernels: a helper process mounts proc, and
	// a root file system is chowned instead of mounted with shifted ids.
	ProcHelper, Chown bool
	// Slow changes each child's program before it is started; nil leaves it.
	Slow func(program.Program) program.Program
	// StepDeadline bounds each step of a child, HomeDeadline the reading of /etc/passwd, and
	// ServerDeadline the set-up of a FUSE server; 0 is the usual one.
	StepDeadline, HomeDeadline, ServerDeadline time.Duration
	// Received is called with the caller's thread id for each trapped call; nil is not.
	Received func(tid int)
	// Startable tells why no container starts on this kernel; nil asks the kernel.
	Startable func() error
}
