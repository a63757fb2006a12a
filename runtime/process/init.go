// SPDX-License-Identifier: Apache-2.0

package process

import (
	"slices"

	"golang.org/x/sys/unix"

	"sysbox/runtime/plan"
	"sysbox/runtime/program"
	"sysbox/runtime/seccomp"
)

// Create has everything that the program of a container's init depends on.
type Create struct {
	Plan *plan.Plan
	// Shim is the pid of the process that will run the program.
	Shim int
	// Limits are the shim's own resource limits by RLIMIT_ number. Stage 1 raises a hard limit
	// above them.
	Limits map[int]unix.Rlimit
	// Owner is the host's id that the container's root maps to.
	Owner uint32
	// CapLast is the kernel's highest capability.
	CapLast int
	// Tasks is the number of version 1 cgroups to join. Their files begin at FDFirst. Unified
	// reports whether there is an FDUnified.
	Tasks   int
	Unified bool
	// Joins are the CLONE_NEW* flags of the namespaces to join, in the order of their files,
	// which follow those of the cgroups.
	Joins []int
	// Filter is the compiled seccomp filter, nil for none. If its flags ask for a listener, the
	// listener goes to the shim over FDTrap, and Trap is nil.
	Filter *seccomp.Filter
	// Trap is the notification filter, nil for none. Its listener goes to the shim over FDTrap.
	Trap *seccomp.Filter
	// Keyring is the name of the session keyring to make.
	Keyring string
	// HomeFromSync makes init take the value of HOME from the sync pipe.
	HomeFromSync bool
}

// Init writes the program of a container's init.
func Init(in Create) program.Program {
	c := newCalls()
	c.stage1(in.Shim, in.Plan.Process, in.Limits)
	for i, kind := range in.Joins {
		if kind == unix.CLONE_NEWCGROUP {
			continue
		}
		c.do("join "+namespaceName(kind)+" namespace", unix.SYS_SETNS, num(FDFirst+in.Tasks+i), num(kind))
	}
	ns := in.Plan.Namespaces
	if ns.User.Mode == plan.NamespaceNew {
		c.setOwner(in.Owner)
	}
	c.fork(cloneFlags(ns), in.Unified)

	// From here on the child is init.
	c.joinCgroups(in.Tasks)
	if i := slices.Index(in.Joins, unix.CLONE_NEWCGROUP); i >= 0 {
		// This must come after the cgroups: if cgroup2 is mounted with nsdelegate, as systemd
		// does it, a process in a cgroup namespace cannot join a cgroup outside of it (ENOENT).
		c.do("join cgroup namespace", unix.SYS_SETNS, num(FDFirst+in.Tasks+i), num(unix.CLONE_NEWCGROUP))
	}
	c.do("close the files of stage 1", unix.SYS_CLOSE_RANGE, fd(FDTarget), num(^uint32(0)), num(0))
	var children ref
	if ns.Time.Mode == plan.NamespaceNew {
		c.do("make the time namespace", unix.SYS_UNSHARE, num(unix.CLONE_NEWTIME))
		children = c.do("open the time namespace", unix.SYS_OPENAT, num(unix.AT_FDCWD), str("/proc/self/ns/time_for_children"), num(unix.O_RDONLY|unix.O_CLOEXEC))
		c.report("report the time namespace", TagTime)
	}
	if ns.Network.Mode == plan.NamespaceNew {
		c.loopback() // while the shim makes the mount tree
	}
	env := c.env(in.Plan.Process.Env, in.HomeFromSync)
	c.want("wait for the mount tree", SyncSize, unix.SYS_READ, fd(FDSync), env.home, num(SyncSize))
	if ns.Time.Mode == plan.NamespaceNew { // before Linux 6.3 execve does not enter it
		c.do("enter the time namespace", unix.SYS_SETNS, children, num(unix.CLONE_NEWTIME))
	}
	c.do("enter the root", unix.SYS_CHDIR, str("/"))
	c.setRoot()
	c.pingGroups(in.Plan)
	c.memoryPolicy(in.Plan.Process.MemoryPolicy)
	c.labelKeys(in.Plan.Process)
	keyring := c.makeKeyring(in.Keyring)
	c.do("make the mount and cgroup namespaces", unix.SYS_UNSHARE, num(unshareFlags(ns)))
	c.reveal(in.Plan) // before there are masks
	c.ownMounts(in.Plan)
	c.masks(in.Plan)
	c.attributes(in.Plan)
	if in.Plan.Hostname != "" {
		c.do("set the host name", unix.SYS_SETHOSTNAME, str(in.Plan.Hostname), num(len(in.Plan.Hostname)))
	}
	if in.Plan.Domainname != "" {
		c.do("set the domain name", unix.SYS_SETDOMAINNAME, str(in.Plan.Domainname), num(len(in.Plan.Domainname)))
	}
	if in.Plan.Process.Terminal {
		c.makeConsole(in.Plan.Process)
	}
	c.lookUp(in.Plan.Process)
	c.put(program.Report("report that init is ready, with its keyring", TagReady, string(keyring)))
	c.want("wait for start", 1, unix.SYS_READ, fd(FDSync), c.buffer(1), num(1))
	c.setIdentity(in.Plan.Process, in.CapLast, in.Filter, in.Trap, env)
	return c.p
}

func cloneFlags(ns plan.Namespaces) uint64 {
	var flags uint64
	for _, n := range []struct {
		ns   plan.Namespace
		flag uint64
	}{
		{ns.User, unix.CLONE_NEWUSER},
		{ns.PID, unix.CLONE_NEWPID},
		{ns.Network, unix.CLONE_NEWNET},
		{ns.UTS, unix.CLONE_NEWUTS},
	} {
		if n.ns.Mode == plan.NamespaceNew {
			flags |= n.flag
		}
	}
	return flags
}

// unshareFlags are the namespaces that init makes after it has become root in its user namespace:
// the mount namespace so that the mount tree is copied and locked, the ipc namespace so that its
// mqueue belongs to root (if it were made with the user namespace, it would belong to nobody),
// and the cgroup namespace so that its root is init's cgroup.
func unshareFlags(ns plan.Namespaces) uint64 {
	flags := uint64(unix.CLONE_NEWNS)
	if ns.Cgroup.Mode == plan.NamespaceNew {
		flags |= unix.CLONE_NEWCGROUP
	}
	if ns.IPC.Mode == plan.NamespaceNew {
		flags |= unix.CLONE_NEWIPC
	}
	return flags
}

func namespaceName(kind int) string {
	switch kind {
	case unix.CLONE_NEWUSER:
		return "user"
	case unix.CLONE_NEWPID:
		return "pid"
	case unix.CLONE_NEWNET:
		return "network"
	case unix.CLONE_NEWIPC:
		return "ipc"
	case unix.CLONE_NEWUTS:
		return "uts"
	case unix.CLONE_NEWCGROUP:
		return "cgroup"
	case unix.CLONE_NEWTIME:
		return "time"
	}
	return "unknown"
}
