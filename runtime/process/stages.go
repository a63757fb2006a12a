package process

import (
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"sysbox/runtime/plan"
	"sysbox/runtime/program"
)

// hostLeg is what every first leg does with the host's credentials: it makes
// sure that it dies with its parent, and raises what only the host may raise.
func (c *calls) stage1(shim int, p plan.Process, limits map[int]unix.Rlimit) {
	c.prelude(shim)
	// Here, as a user namespace may have setgroups denied.
	c.do("leave the host's groups", unix.SYS_SETGROUPS, num(0), num(0))
	for _, l := range p.Rlimits {
		if own, ok := limits[l.Type]; ok && l.Hard > own.Max {
			c.doFor(FieldRlimits, l.Name, "raise the hard limit of "+l.Name+" to "+strconv.FormatUint(l.Hard, 10), unix.SYS_PRLIMIT64, num(0), num(l.Type),
				words(own.Cur, l.Hard), num(0))
		}
	}
	c.affinity("set the cpu affinity outside of the cgroup", p.CPUs.Initial)
	if p.OOMScoreAdj != nil {
		v := itoa(*p.OOMScoreAdj)
		fd := c.open("open oom_score_adj", fd(FDProc), "self/oom_score_adj", unix.O_WRONLY)
		c.add(program.Call{
			Name: "set oom_score_adj to " + v, Field: FieldOOMScoreAdj, Value: v, Nr: unix.SYS_WRITE,
			Args: []program.Arg{fd, str(v), num(len(v))}, Want: program.Equals(int64(len(v))),
		})
		c.do("close oom_score_adj", unix.SYS_CLOSE, fd)
	}
}

// becomeOwner takes on the id of who makes the container's user namespace, all capabilities
// kept. What the kernel counts for a user in there it counts for that one as well, up to the
// limits of the host's (ucounts): instances of inotify, of which there are 128 by default, and
// namespaces. Made by the host's root, all containers would share his with him.
func (c *calls) setOwner(uid uint32) {
	c.do("keep the capabilities", unix.SYS_PRCTL, num(unix.PR_SET_SECUREBITS), num(program.NoSetuidFixup), num(0), num(0), num(0))
	c.do("become the owner of the user namespace", unix.SYS_SETRESUID, num(^uint32(0)), num(uid), num(^uint32(0)))
	c.setNonDumpable()
	c.put(program.ParentDeath(unix.SIGKILL)) // which is forgotten with the id
}

// joinCgroups joins the version 1 cgroups. "0" moves the writing thread alone,
// which spares the kernel the global lock (and the RCU grace period) of moving
// a pid; the kernel asks for the rights of who opened the file. The second leg
// does it, so that the first does not count against a limit of one process.
func (c *calls) joinCgroups(tasks int) {
	for i := range tasks {
		c.want("join a cgroup", 1, unix.SYS_WRITE, num(FDFirst+i), str("0"), num(1))
	}
}

// scheduling sets what a user namespace has no right to raise, as the host. It is the
// leg's own, as some policies are not for children. The shim does this for init, which
// is born in its user namespace.
func (c *calls) scheduling(p plan.Process) {
	if s := p.Scheduler; s != nil {
		// struct sched_attr, sched_setattr(2).
		c.doFor(FieldScheduler, "", "set the scheduler", unix.SYS_SCHED_SETATTR, num(0), words(
			48|uint64(s.Policy)<<32, s.Flags, uint64(uint32(s.Nice))|uint64(s.Priority)<<32,
			s.Runtime, s.Deadline, s.PeriodNs), num(0))
	}
	if p.IOPriority != nil {
		c.doFor(FieldIOPriority, "", "set the io priority", unix.SYS_IOPRIO_SET, num(1), num(0), num(p.IOPriority.Value))
	}
}

// becomeRoot takes on the ids of the container's root.
func (c *calls) setRoot() {
	c.do("become gid 0", unix.SYS_SETRESGID, num(0), num(0), num(0))
	c.do("become uid 0", unix.SYS_SETRESUID, num(0), num(0), num(0))
	c.setNonDumpable()
}

// hide makes the process non-dumpable again: a change of credentials sets what
// the host's fs.suid_dumpable says, which may be 1.
func (c *calls) setNonDumpable() {
	c.do("refuse to be traced", unix.SYS_PRCTL, num(unix.PR_SET_DUMPABLE), num(0), num(0), num(0), num(0))
}

// ownMounts makes the mounts that need not be locked.
func (c *calls) ownMounts(p *plan.Plan) {
	var made []string
	for _, m := range p.Mounts {
		if !m.Own {
			continue
		}
		for _, dir := range Missing(m.Destination, made) {
			c.try("make "+dir, unix.SYS_MKDIRAT, cwd, str(dir), num(0o755))
		}
		made = append(made, m.Destination)
		c.mount(m, p.MountLabel)
	}
	for _, m := range p.Mounts {
		// The copy into this mount namespace has made them bindable.
		if m.Propagation&unix.MS_UNBINDABLE != 0 {
			c.do("make "+m.Destination+" unbindable", unix.SYS_MOUNT, num(0), str(m.Destination), num(0), num(m.Propagation), num(0))
		}
	}
	if f := p.Rootfs.Propagation; f != 0 {
		c.do("set the root's propagation", unix.SYS_MOUNT, num(0), str("/"), num(0), num(f), num(0))
	}
}

// Missing are the folders on the way to destination that cannot be made
// before the mounts in made are there, because they lie on one of them.
func Missing(destination string, made []string) []string {
	base := ""
	for _, m := range made {
		if strings.HasPrefix(destination, m+"/") && len(m) > len(base) {
			base = m
		}
	}
	if base == "" {
		return nil
	}
	var out []string
	at := base
	for part := range strings.SplitSeq(destination[len(base)+1:], "/") {
		at += "/" + part
		out = append(out, at)
	}
	return out
}

// mount makes a new file system and attaches it. The mount point is found
// without magic links; nothing of the container has run yet, but who shares a volume with
// it may lead the same path elsewhere meanwhile. An mqueue has to be given its label.
func (c *calls) mount(m plan.Mount, label string) {
	do := c.do
	if m.Optional {
		do = c.try
	}
	what := m.Type + " at " + m.Destination
	how := words(unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0, unix.RESOLVE_NO_MAGICLINKS)
	at := do("open the mount point "+m.Destination, unix.SYS_OPENAT2, cwd, str(m.Destination), how, num(24))
	fs := do("open a file system for "+what, unix.SYS_FSOPEN, str(m.Type), num(unix.FSOPEN_CLOEXEC))
	source := m.Source
	if source == "" {
		source = m.Type
	}
	do("name "+what, unix.SYS_FSCONFIG, fs, num(unix.FSCONFIG_SET_STRING), str("source"), str(source), num(0))
	for _, d := range m.Data {
		if k, v, ok := strings.Cut(d, "="); ok {
			do("set option "+d+" of "+what, unix.SYS_FSCONFIG, fs, num(unix.FSCONFIG_SET_STRING), str(k), str(v), num(0))
		} else {
			do("set option "+d+" of "+what, unix.SYS_FSCONFIG, fs, num(unix.FSCONFIG_SET_FLAG), str(d), num(0), num(0))
		}
	}
	do("make "+what, unix.SYS_FSCONFIG, fs, num(unix.FSCONFIG_CMD_CREATE), num(0), num(0), num(0))
	fd := do("mount "+what, unix.SYS_FSMOUNT, fs, num(unix.FSMOUNT_CLOEXEC), num(m.Set))
	if label != "" && m.Type == "mqueue" {
		// It has no path yet, and by fd, which is O_PATH, the kernel sets no attribute.
		c.do("enter "+what, unix.SYS_FCHDIR, fd)
		c.do("label "+what, unix.SYS_SETXATTR, str("."), str("security.selinux"), str(label), num(len(label)+1), num(0))
		c.do("go back to the root", unix.SYS_CHDIR, str("/"))
	}
	do("attach "+what, unix.SYS_MOVE_MOUNT, fd, str(""), at, str(""), num(unix.MOVE_MOUNT_F_EMPTY_PATH|unix.MOVE_MOUNT_T_EMPTY_PATH))
	for _, f := range []ref{at, fs, fd} {
		c.try("close a handle", unix.SYS_CLOSE, f)
	}
}

// makeConsole opens a terminal on the container's own devpts, keeps its
// master for the shim and makes its slave files 0 to 2 and /dev/console.
func (c *calls) makeConsole(p plan.Process) {
	master := c.open("open a terminal", cwd, "/dev/pts/ptmx", unix.O_RDWR|unix.O_NOCTTY)
	c.do("unlock the terminal", unix.SYS_IOCTL, master, num(unix.TIOCSPTLCK), words(0))
	slave := c.do("open the terminal's slave", unix.SYS_IOCTL, master, num(unix.TIOCGPTPEER),
		num(unix.O_RDWR|unix.O_NOCTTY|unix.O_CLOEXEC))
	if p.Width != 0 || p.Height != 0 {
		size := uint64(p.Height) | uint64(p.Width)<<16
		c.do("size the terminal", unix.SYS_IOCTL, slave, num(unix.TIOCSWINSZ), words(size))
	}
	c.do("give the terminal to its user", unix.SYS_FCHOWN, slave, num(p.UID), num(^uint32(0)))
	tree := c.do("copy the terminal's mount", unix.SYS_OPEN_TREE, slave, str(""),
		num(unix.OPEN_TREE_CLONE|unix.OPEN_TREE_CLOEXEC|unix.AT_EMPTY_PATH))
	c.do("attach /dev/console", unix.SYS_MOVE_MOUNT, tree, str(""), cwd, str("/dev/console"), num(unix.MOVE_MOUNT_F_EMPTY_PATH))
	for fd := range 3 {
		c.do("make the terminal file "+itoa(fd), unix.SYS_DUP3, slave, num(fd), num(0))
	}
	c.do("keep the master for the shim", unix.SYS_DUP3, master, fd(FDConsole), num(unix.O_CLOEXEC))
	for _, f := range []ref{tree, slave, master} {
		c.do("close a handle", unix.SYS_CLOSE, f)
	}
}
