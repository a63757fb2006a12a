// SPDX-License-Identifier: Apache-2.0

package process

import (
	"strconv"

	"golang.org/x/sys/unix"

	"sysbox/runtime/plan"
	"sysbox/runtime/program"
)

// stage1 adds what every stage 1 does with the host's credentials: it makes sure that it dies
// with its parent, and raises what only the host may raise.
func (c *calls) stage1(shim int, p plan.Process, limits map[int]unix.Rlimit) {
	c.prelude(shim)
	// This happens here, because a user namespace may deny setgroups.
	c.do("leave the host's groups", unix.SYS_SETGROUPS, num(0), num(0))
	for _, l := range p.Rlimits {
		if own, ok := limits[l.Type]; ok && l.Hard > own.Max {
			c.doFor(FieldRlimits, l.Name, "raise the hard limit of "+l.Name+" to "+strconv.FormatUint(l.Hard, 10), unix.SYS_PRLIMIT64, num(0), num(l.Type),
				words(own.Cur, l.Hard), num(0))
		}
	}
	c.affinity("set the initial cpu affinity", p.CPUs.Initial)
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

// setOwner takes on the id that will own the container's user namespace, and keeps all
// capabilities. What the kernel counts for a user in the namespace, it counts for the owner as
// well, up to the host's limits (ucounts): namespaces, and instances of inotify, of which there
// are 128 by default. If the host's root owned the namespaces, all containers would share its
// limits.
func (c *calls) setOwner(uid uint32) {
	c.do("keep the capabilities", unix.SYS_PRCTL, num(unix.PR_SET_SECUREBITS), num(program.NoSetuidFixup), num(0), num(0), num(0))
	c.do("set the owner of the user namespace", unix.SYS_SETRESUID, num(^uint32(0)), num(uid), num(^uint32(0)))
	c.setNonDumpable()
	c.put(program.ParentDeath(unix.SIGKILL)) // the change of ids has removed it
}

// joinCgroups joins the version 1 cgroups. "0" moves only the writing thread. To move a pid, the
// kernel would need its global lock and an RCU grace period. The kernel checks the rights of the
// process that opened the file. Stage 2 does this, so that stage 1 does not count against a limit
// of one process.
func (c *calls) joinCgroups(tasks int) {
	for i := range tasks {
		c.want("join a cgroup", 1, unix.SYS_WRITE, num(FDFirst+i), str("0"), num(1))
	}
}

// scheduling sets, with the rights of the host, what a user namespace may not raise. The stage
// sets it for itself, because some policies are not inherited. For init, which begins in its user
// namespace, the shim sets it.
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

// setRoot takes on the ids of the container's root.
func (c *calls) setRoot() {
	c.do("set gid 0", unix.SYS_SETRESGID, num(0), num(0), num(0))
	c.do("set uid 0", unix.SYS_SETRESUID, num(0), num(0), num(0))
	c.setNonDumpable()
}

// setNonDumpable makes the process non-dumpable again: a change of credentials sets the flag to
// the host's fs.suid_dumpable, which may be 1.
func (c *calls) setNonDumpable() {
	c.do("refuse tracing", unix.SYS_PRCTL, num(unix.PR_SET_DUMPABLE), num(0), num(0), num(0), num(0))
}
