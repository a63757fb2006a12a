package process

import (
	"golang.org/x/sys/unix"

	"sysbox/runtime/plan"
	"sysbox/runtime/program"
	"sysbox/runtime/seccomp"
)

// Join is what the program of a further process is written from.
type Join struct {
	Process *plan.Process
	Shim    int
	Limits  map[int]unix.Rlimit
	CapLast int // the kernel's highest capability
	Tasks   int
	Unified bool
	// Namespaces are the CLONE_NEW* flags of those that init does not share
	// with the shim; the pid namespace must be among them.
	Namespaces uint64
	Filter     *seccomp.Filter
	Trap       *seccomp.Filter
	Keyring    Keyring
}

// Exec writes the program of a further process in a running container. With a
// terminal, its slave side is handed over as files 0 to 2.
//
// The namespaces are joined in two steps. The pid namespace comes first, as
// only children enter it; the child is then a process of the host's root in
// there, out of the container's reach. In one setns(2) it joins all others:
// the kernel checks each against the host's credentials, so that a network
// namespace that belongs to the host can be joined as well.
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
	c.do("close the first leg's files", unix.SYS_CLOSE_RANGE, fd(FDTarget), num(^uint32(0)), num(0))
	env := c.env(in.Process.Env, false)
	if in.Namespaces&unix.CLONE_NEWUSER == 0 {
		// A hook of the host's, which keeps the host's identity.
		c.execute(*in.Process, env)
		return c.p
	}
	c.setRoot()
	c.labelKeys(*in.Process)
	c.joinKeyring(in.Keyring)
	c.setIdentity(*in.Process, in.CapLast, in.Filter, in.Trap, env)
	return c.p
}
