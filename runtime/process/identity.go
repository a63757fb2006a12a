// SPDX-License-Identifier: Apache-2.0

package process

import (
	"golang.org/x/sys/unix"

	"sysbox/runtime/plan"
	"sysbox/runtime/program"
	"sysbox/runtime/seccomp"
)

// setIdentity takes on the identity of the process and executes it.
func (c *calls) setIdentity(p plan.Process, capLast int, f, trap *seccomp.Filter, env env) {
	c.do("start a session", unix.SYS_SETSID)
	if p.Terminal {
		c.do("take the terminal", unix.SYS_IOCTL, num(0), num(unix.TIOCSCTTY), num(0))
	}
	c.labels(p)
	if p.Personality != nil {
		c.do("set the personality", unix.SYS_PERSONALITY, num(p.Personality.Value))
	}
	c.affinity("set the cpu affinity", p.CPUs.Final)
	if p.Umask != nil {
		c.do("set the umask", unix.SYS_UMASK, num(*p.Umask))
	} else {
		c.do("set the umask", unix.SYS_UMASK, num(0o022))
	}
	// No magic links: /proc/self/fd/N must not lead out of the container.
	dir := c.doFor(FieldCwd, p.Cwd, "open the working directory "+p.Cwd, unix.SYS_OPENAT2, cwd, str(p.Cwd),
		words(unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0, unix.RESOLVE_NO_MAGICLINKS), num(24))
	c.do("enter the working directory "+p.Cwd, unix.SYS_FCHDIR, dir)
	// The files are closed here and not by execve. That first gives the process memory that
	// belongs to the container, whose root may then look at its files, and closes them later.
	c.do("close the working directory", unix.SYS_CLOSE, dir)
	c.do("close the files of the set-up", unix.SYS_CLOSE_RANGE, fd(FDSync), fd(FDProc), num(0))
	c.do("close the numbered files of the set-up", unix.SYS_CLOSE_RANGE, num(FDTrap+1), num(^uint32(0)), num(0))
	c.do("close the remaining two on exec", unix.SYS_CLOSE_RANGE, fd(FDReport), fd(FDTrap), num(unix.CLOSE_RANGE_CLOEXEC))
	c.limits(p)
	for n := range capLast + 1 {
		if p.Caps.Bounding&(1<<n) == 0 {
			c.do("drop capability "+itoa(n)+" from the bounding set", unix.SYS_PRCTL, num(unix.PR_CAPBSET_DROP), num(n), num(0), num(0), num(0))
		}
	}
	if p.NoNewPrivs {
		c.do("set no_new_privs", unix.SYS_PRCTL, num(unix.PR_SET_NO_NEW_PRIVS), num(1), num(0), num(0), num(0))
		c.trapFilter(trap)
	} else {
		c.trapFilter(trap)
		// Without no_new_privs a filter needs CAP_SYS_ADMIN, which the process may lose next.
		c.profileFilter(f)
	}
	c.setCreds(p, capLast)
	if p.NoNewPrivs {
		c.profileFilter(f)
	}
	c.execute(p, env)
}

// labels writes the LSM labels for the next execve through the host's procfs, which nothing in
// the container can redirect.
func (c *calls) labels(p plan.Process) {
	if p.AppArmorProfile != "" {
		c.label("AppArmor profile", "self/attr/apparmor/exec", "exec "+p.AppArmorProfile)
	}
	if p.SELinuxLabel != "" {
		c.label("SELinux label", "self/attr/exec", p.SELinuxLabel)
	}
}

func (c *calls) label(what, file, value string) {
	fd := c.open("open "+file, fd(FDProc), file, unix.O_WRONLY)
	c.want("set the "+what+" "+value, int64(len(value)), unix.SYS_WRITE, fd, str(value), num(len(value)))
	c.do("close "+file, unix.SYS_CLOSE, fd)
}

// memoryPolicy sets a policy that all later steps inherit. The kernel accepts only nodes of the
// process's cgroups.
func (c *calls) memoryPolicy(m *plan.MemoryPolicy) {
	if m == nil {
		return
	}
	const name = "set the memory policy"
	if len(m.Nodes) == 0 {
		c.doFor(FieldMemoryPolicy, "", name, unix.SYS_SET_MEMPOLICY, num(m.Mode), num(0), num(0))
		return
	}
	mask := bitmap(m.Nodes)
	// The kernel reads one bit less than this number.
	c.doFor(FieldMemoryPolicy, "", name, unix.SYS_SET_MEMPOLICY, num(m.Mode), words(mask...), num(64*len(mask)+1))
}

func bitmap(numbers []int) []uint64 {
	mask := make([]uint64, numbers[len(numbers)-1]/64+1)
	for _, n := range numbers {
		mask[n/64] |= 1 << (n % 64)
	}
	return mask
}

func (c *calls) affinity(name string, cpus []int) {
	if len(cpus) == 0 {
		return
	}
	mask := bitmap(cpus)
	c.do(name, unix.SYS_SCHED_SETAFFINITY, num(0), num(8*len(mask)), words(mask...))
}

// limits sets the limits that the spec asks for; stage 1 has raised the hard ones. This comes
// late, because a small limit would break the set-up itself.
func (c *calls) limits(p plan.Process) {
	for _, l := range p.Rlimits {
		c.do("set "+l.Name, unix.SYS_PRLIMIT64, num(0), num(l.Type), words(l.Soft, l.Hard), num(0))
	}
}

func (c *calls) profileFilter(f *seccomp.Filter) {
	if f == nil {
		return
	}
	listener := c.do("install the seccomp filter", unix.SYS_SECCOMP, num(unix.SECCOMP_SET_MODE_FILTER), num(f.Flags), c.fprog(f.Bytes()))
	if f.Flags&unix.SECCOMP_FILTER_FLAG_NEW_LISTENER != 0 {
		// From here on calls may wait for answers of the agent, which gets its listener now.
		c.put(program.SendFile("give the agent's listener to the shim", FDTrap, "the listener", listener))
	}
}

// trapFilter installs the notification filter and sends its listener to the shim. It comes before
// the profile's filter, which may deny the calls that send it. The kernel allows only one filter
// with a listener for a process (EBUSY). If there is one already, this process is in a container
// within a container, and the outer shim answers.
func (c *calls) trapFilter(f *seccomp.Filter) {
	if f == nil {
		return
	}
	const none = "another filter has the listener"
	listener := c.add(program.Call{
		Name: "install the notification filter", Nr: unix.SYS_SECCOMP,
		Args:    []program.Arg{num(unix.SECCOMP_SET_MODE_FILTER), num(f.Flags), c.fprog(f.Bytes())},
		OnError: none, Errno: unix.EBUSY,
	})
	c.put(program.SendFile("give the listener to the shim", FDTrap, "the listener", listener))
	c.do("close the listener", unix.SYS_CLOSE, listener) // before execve, like the others
	c.mark(none)
	c.try("close the listener's socket", unix.SYS_CLOSE, fd(FDTrap))
}

// setCreds sets the groups, ids and capabilities of the process.
func (c *calls) setCreds(p plan.Process, capLast int) {
	groups := make([]byte, 0, 4*len(p.AdditionalGIDs))
	for _, g := range p.AdditionalGIDs {
		groups = le32(groups, g)
	}
	c.do("keep capabilities when ids change", unix.SYS_PRCTL, num(unix.PR_SET_KEEPCAPS), num(1), num(0), num(0), num(0))
	if len(groups) > 0 {
		c.do("set the additional groups", unix.SYS_SETGROUPS, num(len(p.AdditionalGIDs)), bytes(groups))
	}
	c.do("set gid "+itoa(int(p.GID)), unix.SYS_SETRESGID, num(p.GID), num(p.GID), num(p.GID))
	c.do("set uid "+itoa(int(p.UID)), unix.SYS_SETRESUID, num(p.UID), num(p.UID), num(p.UID))
	c.setNonDumpable()
	// struct __user_cap_header_struct and _data_struct, capset(2), version 3.
	const version3 = 0x20080522
	var data []byte
	for _, shift := range []uint{0, 32} {
		for _, set := range []uint64{p.Caps.Effective, p.Caps.Permitted, p.Caps.Inheritable} {
			data = le32(data, uint32(set>>shift))
		}
	}
	c.do("set the capabilities", unix.SYS_CAPSET, bytes(le32(le32(nil, version3), 0)), bytes(data))
	for n := range capLast + 1 {
		if p.Caps.Ambient&(1<<n) != 0 {
			c.do("raise ambient capability "+itoa(n), unix.SYS_PRCTL, num(unix.PR_CAP_AMBIENT), num(unix.PR_CAP_AMBIENT_RAISE), num(n), num(0), num(0))
		}
	}
}
