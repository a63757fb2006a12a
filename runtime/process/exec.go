// SPDX-License-Identifier: Apache-2.0

package process

import (
	"golang.org/x/sys/unix"

	"sysbox/runtime/plan"
	"sysbox/runtime/program"
	"sysbox/runtime/seccomp"
)

// Join has everything that the program of a further process depends on.
type Join struct {
	Process *plan.Process
	Shim    int
	Limits  map[int]unix.Rlimit
	CapLast int // the kernel's highest capability
	Tasks   int
	Unified bool
	// Namespaces has the CLONE_NEW* flags of the namespaces that init does not share with the
	// shim. The pid namespace must be among them.
	Namespaces uint64
	Filter     *seccomp.Filter
	Trap       *seccomp.Filter
	Keyring    Keyring
}

// Exec writes the program of a further process in a running container. If it has a terminal,
// files 0 to 2 are the terminal's slave side.
//
// The namespaces are joined in two steps. The pid namespace comes first, because only children
// enter it: the child is then a process of the host's root in there, out of the container's
// reach. It joins all others with one setns(2). For that call the kernel checks each namespace
// against the host's credentials, so a network namespace that belongs to the host can be joined
// as well.
func Exec(in Join) program.Program {
	c := newCalls()
	c.stage1(in.Shim, *in.Process, in.Limits)
	c.do("join the pid namespace", unix.SYS_SETNS, fd(FDTarget), num(unix.CLONE_NEWPID))
	c.fork(0, in.Unified)

	c.joinCgroups(in.Tasks)
	c.scheduling(*in.Process)
	c.memoryPolicy(in.Process.MemoryPolicy)
	if rest := in.Namespaces &^ unix.CLONE_NEWPID; rest != 0 {
		c.do("join the namespaces", unix.SYS_SETNS, fd(FDTarget), num(rest))
	}
	c.do("close the files of stage 1", unix.SYS_CLOSE_RANGE, fd(FDTarget), num(^uint32(0)), num(0))
	env := c.env(in.Process.Env, false)
	if in.Namespaces&unix.CLONE_NEWUSER == 0 {
		// This is a hook of the host, which keeps the host's identity.
		c.execute(*in.Process, env)
		return c.p
	}
	c.setRoot()
	c.labelKeys(*in.Process)
	c.joinKeyring(in.Keyring)
	c.setIdentity(*in.Process, in.CapLast, in.Filter, in.Trap, env)
	return c.p
}
