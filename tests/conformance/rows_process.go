// SPDX-License-Identifier: Apache-2.0

package conformance

import (
	"fmt"
	"strings"

	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"
)

// inherited is the niceness that the tests were started with, and processes that ask for
// none have.
func inherited() int {
	n, err := unix.Getpriority(unix.PRIO_PROCESS, 0)
	if err != nil {
		return 0
	}
	return 20 - n // getpriority(2)
}

// rlimits in the order of their numbers.
var rlimits = []string{
	"RLIMIT_CPU", "RLIMIT_FSIZE", "RLIMIT_DATA", "RLIMIT_STACK", "RLIMIT_CORE", "RLIMIT_RSS", "RLIMIT_NPROC", "RLIMIT_NOFILE",
	"RLIMIT_MEMLOCK", "RLIMIT_AS", "RLIMIT_LOCKS", "RLIMIT_SIGPENDING", "RLIMIT_MSGQUEUE", "RLIMIT_NICE", "RLIMIT_RTPRIO", "RLIMIT_RTTIME",
}

// capSets: the field, the letters in /proc/self/status, what the row gives them, and what
// the kernel makes of it for a user that is not root, in execve(2): only those that are
// permitted, inheritable and ambient become permitted and effective.
var capSets = []struct {
	field, letters string
	names          []string
	mask           string
	of             func(*specs.LinuxCapabilities) *[]string
}{
	{"bounding", "Bnd", []string{"CAP_CHOWN", "CAP_KILL", "CAP_NET_RAW", "CAP_SETUID"}, "00000000000020a1", func(c *specs.LinuxCapabilities) *[]string { return &c.Bounding }},
	{"effective", "Eff", []string{"CAP_CHOWN"}, "0000000000000001", func(c *specs.LinuxCapabilities) *[]string { return &c.Effective }},
	{"inheritable", "Inh", []string{"CAP_KILL", "CAP_CHOWN"}, "0000000000000021", func(c *specs.LinuxCapabilities) *[]string { return &c.Inheritable }},
	{"permitted", "Prm", []string{"CAP_CHOWN", "CAP_SETUID"}, "0000000000000001", func(c *specs.LinuxCapabilities) *[]string { return &c.Permitted }},
	{"ambient", "Amb", []string{"CAP_CHOWN", "CAP_KILL"}, "0000000000000001", func(c *specs.LinuxCapabilities) *[]string { return &c.Ambient }},
}

// processRows are the fields of process but for the scheduling. What a further process
// of the container has as well is tried for such a one too.
func processRows() []Row {
	user := func(p *specs.Process) {
		p.User = specs.User{UID: 1000, GID: 1001, AdditionalGids: []uint32{7, 8}, Umask: ptr(uint32(0o27))}
	}
	var rows []Row
	both := func(field, kase string, set func(*specs.Process), box, ask, want string) {
		rows = append(rows,
			Row{Field: field, Case: kase, Set: func(s *specs.Spec) { set(s.Process) }, Box: box, Ask: ask, Want: want},
			Row{Field: field, Case: join(kase, "of exec"), Exec: set, Ask: ask, Want: want})
	}
	refused := func(field, kase string, set func(*specs.Process), message string) {
		rows = append(rows, Row{Field: field, Case: kase, Set: func(s *specs.Spec) { set(s.Process) }, Refused: message})
	}
	rows = append(rows,
		Row{Field: "process.terminal", Case: "true", Box: "terminal", Ask: "terminal", Want: "controlling, at files 0 to 2 and /dev/console"},
		Row{Field: "process.terminal", Case: "false", Box: "system", Ask: "terminal", Want: "none"},
	)
	size := func(s *specs.Spec) { s.Process.ConsoleSize = &specs.Box{Height: 33, Width: 111} }
	for _, f := range []string{"height", "width"} {
		rows = append(rows, Row{Field: "process.consoleSize." + f, Set: size, Box: "terminal", Ask: "window", Want: "33 lines 111 columns"})
	}
	rows = append(rows, Row{Field: "process.consoleSize.width", Case: "without a terminal", Set: size, Box: "system", Ask: "terminal", Want: "none", Note: "ignored, as the specification says"})

	both("process.user.uid", "", user, "ordinary:user", "uid", "1000 1000 1000 1000")
	both("process.user.gid", "", user, "ordinary:user", "gid", "1001 1001 1001 1001")
	both("process.user.additionalGids", "", user, "ordinary:user", "groups", "7 8")
	both("process.user.umask", "", user, "ordinary:user", "umask", "0027")
	rows = append(rows, Row{Field: "process.user.umask", Case: "none", Box: "system", Ask: "umask", Want: "0022"})
	refused("process.user.umask", "more than 0777", func(p *specs.Process) { p.User.Umask = ptr(uint32(0o1000)) }, `process.user.umask is "01000": it is more than 0777; use permission bits only`)
	refused("process.user.uid", "4294967295", func(p *specs.Process) { p.User.UID = 1<<32 - 1 }, `process.user.uid is "4294967295": it is not a valid id; use an id below 4294967295`)
	refused("process.user.uid", "beyond the mapping", func(p *specs.Process) { p.User.UID = 1 << 20 }, `process.user.uid is "1048576": the container does not map it (its last id is 262143); use a mapped id or map more ids (ids.range_size in the configuration if the spec has no mappings)`)

	both("process.args", "", func(p *specs.Process) { p.Args = append([]string{"/bin/inside", "args"}, p.Args[1:]...) }, "system:args", "args", "/bin/inside args")
	rows = append(rows, Row{Field: "process.args", Case: "looked up in PATH", Set: func(s *specs.Spec) { s.Process.Args[0] = "inside" }, Box: "system:path", Ask: "hostname", Want: "box"})
	refused("process.args", "none", func(p *specs.Process) { p.Args = nil }, `process.args: it is empty; set the program to run`)
	refused("process.args", "not there", func(p *specs.Process) { p.Args = []string{"/no/such"} }, `exec: "/no/such": no such file or directory`)
	both("process.env", "", func(p *specs.Process) { p.Env = append(p.Env, "A=1", "B=2", "A=3") }, "system:env", "env A", "3")
	refused("process.env", "without a name", func(p *specs.Process) { p.Env = append(p.Env, "=x") }, `process.env is "=x": it must have the form NAME=VALUE`)
	refused("process.env", "an unknown SYSBOX_*", func(p *specs.Process) { p.Env = append(p.Env, "SYSBOX_X=1") }, `process.env is "SYSBOX_X=1": unknown variable; supported: SYSBOX_SYSCONT_MODE, SYSBOX_IGNORE_SYSFS_CHOWN, SYSBOX_ALLOW_TRUSTED_XATTR, SYSBOX_HONOR_CAPS, SYSBOX_SKIP_UID_SHIFT`)
	both("process.cwd", "", func(p *specs.Process) { p.Cwd = "/etc" }, "system:cwd", "cwd", "/etc")
	rows = append(rows, Row{Field: "process.cwd", Case: "not in the image", Set: func(s *specs.Spec) { s.Process.Cwd = "/srv/made/for/it" }, Box: "system:cwd2", Ask: "cwd", Want: "/srv/made/for/it"})
	refused("process.cwd", "relative", func(p *specs.Process) { p.Cwd = "etc" }, `process.cwd is "etc": it must be an absolute path; use for example "/"`)

	caps := func(p *specs.Process) {
		p.User.UID, p.Capabilities = 1000, &specs.LinuxCapabilities{}
		for _, c := range capSets {
			*c.of(p.Capabilities) = c.names
		}
	}
	for _, c := range capSets {
		both("process.capabilities."+c.field, "", caps, "ordinary:caps", "caps "+c.letters, c.mask)
	}
	rows = append(rows,
		Row{Field: "process.capabilities.effective", Case: "of root in an ordinary container", Set: func(s *specs.Spec) { caps(s.Process); s.Process.User.UID = 0 }, Box: "ordinary:root-caps", Ask: "caps Eff", Want: "00000000000020a1", Note: "execve(2) gives root the bounding set"},
		Row{Field: "process.capabilities.effective", Case: "of root in a system container", Box: "system", Ask: "caps Eff", Want: "000001ffffffffff", Note: "all, within its user namespace"},
		Row{Field: "process.capabilities.bounding", Case: "with SYSBOX_HONOR_CAPS=TRUE", Set: func(s *specs.Spec) {
			s.Process.Env = append(s.Process.Env, "SYSBOX_HONOR_CAPS=TRUE")
			caps(s.Process)
		}, Box: "system:caps", Ask: "caps Bnd", Want: "00000000000020a1"},
		Row{Field: "process.capabilities.bounding", Case: "that the kernel has not", Set: func(s *specs.Spec) {
			s.Process.Capabilities = &specs.LinuxCapabilities{Bounding: []string{"CAP_NOSUCH"}}
		}, Box: "ordinary:nocap", Look: "notes CAP_NOSUCH", Want: `process.capabilities.bounding: "CAP_NOSUCH" left out: this kernel has no such capability`},
	)
	both("process.noNewPrivileges", "true", func(p *specs.Process) { p.NoNewPrivileges = true }, "system:nnp", "nnp", "1")
	rows = append(rows, Row{Field: "process.noNewPrivileges", Case: "false", Box: "system", Ask: "nnp", Want: "0"})

	// Each limit of its own value, above what the program itself needs.
	limits := func(p *specs.Process) {
		p.Rlimits = nil
		for i, name := range rlimits {
			p.Rlimits = append(p.Rlimits, specs.POSIXRlimit{Type: name, Soft: limit(i), Hard: hard(i)})
		}
	}
	for i, name := range rlimits {
		both("process.rlimits[].type", name, limits, "ordinary:limits", "limit "+name, fmt.Sprint(limit(i), " ", hard(i)))
	}
	for _, f := range []string{"soft", "hard"} {
		both("process.rlimits[]."+f, "", limits, "ordinary:limits", "limit RLIMIT_CORE", fmt.Sprint(limit(4), " ", hard(4)))
	}
	refused("process.rlimits[].type", "unknown", func(p *specs.Process) { p.Rlimits = []specs.POSIXRlimit{{Type: "RLIMIT_NOSUCH"}} },
		`process.rlimits[0].type is "RLIMIT_NOSUCH": Linux has no such limit; supported: RLIMIT_AS, RLIMIT_CORE, RLIMIT_CPU, RLIMIT_DATA, RLIMIT_FSIZE, RLIMIT_LOCKS, RLIMIT_MEMLOCK, RLIMIT_MSGQUEUE, RLIMIT_NICE, RLIMIT_NOFILE, RLIMIT_NPROC, RLIMIT_RSS, RLIMIT_RTPRIO, RLIMIT_RTTIME, RLIMIT_SIGPENDING, RLIMIT_STACK`)
	refused("process.rlimits[].type", "twice", func(p *specs.Process) { p.Rlimits = []specs.POSIXRlimit{{Type: "RLIMIT_CORE"}, {Type: "RLIMIT_CORE"}} },
		`process.rlimits[1].type is "RLIMIT_CORE": it occurs twice; list each limit once`)
	refused("process.rlimits[].soft", "above hard", func(p *specs.Process) { p.Rlimits = []specs.POSIXRlimit{{Type: "RLIMIT_CORE", Soft: 2, Hard: 1}} },
		`process.rlimits[0] is "RLIMIT_CORE soft 2 hard 1": the soft limit is above the hard limit; lower it`)

	both("process.oomScoreAdj", "", func(p *specs.Process) { p.OOMScoreAdj = ptr(321) }, "system:oom", "read /proc/self/oom_score_adj", "321")
	rows = append(rows,
		Row{Field: "process.oomScoreAdj", Case: "-1000 of an ordinary container", Set: func(s *specs.Spec) { s.Process.OOMScoreAdj = ptr(-1000) }, Box: "ordinary:oom", When: powerful, Ask: "read /proc/self/oom_score_adj", Want: "-1000"},
		Row{Field: "process.oomScoreAdj", Case: "-1000 of a system container", Set: func(s *specs.Spec) { s.Process.OOMScoreAdj = ptr(-1000) }, Box: "system:oom2", When: powerful, Ask: "read /proc/self/oom_score_adj", Want: "-999", Note: "a system container cannot be exempt from the OOM killer; logged"})
	refused("process.rlimits[].hard", "above fs.nr_open", func(p *specs.Process) {
		p.Rlimits = []specs.POSIXRlimit{{Type: "RLIMIT_NOFILE", Hard: 1 << 62}}
	}, "process.rlimits: the host's kernel refuses to raise the hard limit of RLIMIT_NOFILE to 4611686018427387904: operation not permitted; for a limit above containerd's own the shim needs CAP_SYS_RESOURCE, and RLIMIT_NOFILE must not exceed the sysctl fs.nr_open")
	refused("process.cwd", "a file", func(p *specs.Process) { p.Cwd = "/etc/passwd" },
		`process.cwd is "/etc/passwd": /etc/passwd, or a directory on the way to it, is a file in the image: not a directory; use a directory of the container`)
	refused("process.oomScoreAdj", "above 1000", func(p *specs.Process) { p.OOMScoreAdj = ptr(1001) }, `process.oomScoreAdj is "1001": it must be between -1000 and 1000`)

	return append(rows, labelRows()...)
}

// limit is a value for the limit of number i: large, and no other's; below what the shim
// has where it must not raise it, and below fs.nr_open.
func limit(i int) uint64 {
	v := 1<<40 + uint64(i)*10
	switch rlimits[i] {
	case "RLIMIT_NOFILE":
		v = 1000
	case "RLIMIT_STACK": // every thread's, of some C libraries
		v = 1 << 26
	}
	var own unix.Rlimit
	if unix.Getrlimit(i, &own) == nil && !hasSysResource() && own.Max <= v {
		v = max(own.Max, 1) - 1
	}
	return v
}

// hard is the hard limit beside it.
func hard(i int) uint64 {
	if v := limit(i); v > 0 {
		return v + 1
	}
	return 0
}

func join(words ...string) string {
	var out []string
	for _, w := range words {
		if w != "" {
			out = append(out, w)
		}
	}
	return strings.Join(out, ", ")
}

func labelRows() []Row {
	apparmor := func(name string) func(*specs.Spec) {
		return func(s *specs.Spec) { s.Process.ApparmorProfile = name }
	}
	const known, unknown = "system_u:system_r:container_t:s0:c1,c2", "system_u:system_r:nosuch_t:s0"
	selinux := func(label string) func(*specs.Spec) {
		return func(s *specs.Spec) { s.Process.SelinuxLabel = label }
	}
	return []Row{
		{Field: "process.apparmorProfile", Set: apparmor("unconfined"), When: appArmor, Box: "ordinary:apparmor", Ask: "first /proc/self/attr/current", Want: "unconfined", Note: "a profile that confines: package e2e, TestAppArmor"},
		{Field: "process.apparmorProfile", Case: "unconfined", Set: apparmor("unconfined"), When: noAppArmor, Box: "ordinary:apparmor", Ask: "hostname", Want: "box"},
		{Field: "process.apparmorProfile", Set: apparmor("some"), When: noAppArmor, Refused: `process.apparmorProfile is "some": AppArmor is not enabled on this host; enable it or remove the profile`},
		{Field: "process.selinuxLabel", Set: selinux(known), When: noSELinux, Refused: `process.selinuxLabel is "` + known + `": SELinux is not enabled on this host; enable it or remove the label`},
		{Field: "process.selinuxLabel", Set: selinux(known), When: seLinux, Box: "ordinary:selinux", Ask: "read /proc/self/attr/current", Want: known},
		{Field: "process.selinuxLabel", Case: "of the session keyring", Set: selinux(known), When: seLinux, Box: "ordinary:selinux", Ask: "keylabel", Want: known},
		{Field: "process.selinuxLabel", Case: "of a system container", Set: selinux(known), When: seLinux, Box: "system:selinux", Ask: "read /proc/self/attr/current", Want: known},
		{Field: "process.selinuxLabel", Case: "of exec", Exec: func(p *specs.Process) { p.SelinuxLabel = known }, When: seLinux, Ask: "read /proc/self/attr/current", Want: known},
		{Field: "process.selinuxLabel", Case: "not in the policy", Set: selinux(unknown), When: seLinux, Refused: `process.selinuxLabel is "` + unknown + `": the SELinux policy of this host does not have it; use a user, role, type and level of the policy, or load one that has them`},
	}
}

// schedulingRows are process.scheduler, ioPriority and execCPUAffinity.
func schedulingRows() []Row {
	var rows []Row
	s := func(x specs.Scheduler) func(*specs.Process) { return func(p *specs.Process) { p.Scheduler = &x } }
	row := func(field, kase string, set func(*specs.Process), ask, want string) {
		rows = append(rows,
			Row{Field: field, Case: kase, Set: func(s *specs.Spec) { set(s.Process) }, Box: "ordinary:" + field + kase, Ask: ask, Want: want},
			Row{Field: field, Case: join(kase, "of exec"), Exec: set, Ask: ask, Want: want})
	}
	refused := func(field, kase string, set func(*specs.Process), message string) {
		rows = append(rows, Row{Field: field, Case: kase, Set: func(s *specs.Spec) { set(s.Process) }, Refused: message})
	}
	const f = "process.scheduler."
	row(f+"policy", "SCHED_OTHER", s(specs.Scheduler{Policy: specs.SchedOther, Nice: 5}), "sched", "policy 0 flags 0 nice 5 priority 0")
	row(f+"nice", "5", s(specs.Scheduler{Policy: specs.SchedOther, Nice: 5}), "sched", "policy 0 flags 0 nice 5 priority 0")
	row(f+"policy", "SCHED_BATCH", s(specs.Scheduler{Policy: specs.SchedBatch, Nice: 3}), "sched", "policy 3 flags 0 nice 3 priority 0")
	row(f+"policy", "SCHED_IDLE", s(specs.Scheduler{Policy: specs.SchedIdle}), "sched", fmt.Sprintf("policy 5 flags 0 nice %d priority 0", inherited()))
	row(f+"flags[]", "SCHED_FLAG_RESET_ON_FORK", s(specs.Scheduler{Policy: specs.SchedOther, Flags: []specs.LinuxSchedulerFlag{specs.SchedFlagResetOnFork}}), "sched", "policy 0 flags 1 nice 0 priority 0")
	refused(f+"policy", "SCHED_ISO", s(specs.Scheduler{Policy: specs.SchedISO}), `process.scheduler.policy is "SCHED_ISO": Linux has no such policy; supported: SCHED_OTHER, SCHED_FIFO, SCHED_RR, SCHED_BATCH, SCHED_IDLE and SCHED_DEADLINE`)
	refused(f+"nice", "20", s(specs.Scheduler{Policy: specs.SchedOther, Nice: 20}), `process.scheduler.nice is "20": it must be between -20 and 19`)
	refused(f+"priority", "of SCHED_OTHER", s(specs.Scheduler{Policy: specs.SchedOther, Priority: 1}), `process.scheduler.priority is "1": SCHED_OTHER has no priorities; remove it or use nice`)
	refused(f+"priority", "0 of SCHED_RR", s(specs.Scheduler{Policy: specs.SchedRR}), `process.scheduler.priority is "0": a real-time policy needs a priority from 1 to 99`)
	for i, field := range []string{"runtime", "deadline", "period"} {
		x := []specs.Scheduler{{Runtime: 1}, {Deadline: 1}, {Period: 1}}[i]
		x.Policy = specs.SchedOther
		refused(f+field, "of SCHED_OTHER", s(x), fmt.Sprintf(`process.scheduler is "runtime %d deadline %d period %d": SCHED_OTHER does not use these; remove them or use SCHED_DEADLINE`, x.Runtime, x.Deadline, x.Period))
		refused(f+field, "of SCHED_DEADLINE, 1", s(specs.Scheduler{Policy: specs.SchedDeadline, Runtime: x.Runtime, Deadline: x.Deadline, Period: x.Period}),
			fmt.Sprintf(`process.scheduler is "runtime %d deadline %d period %d": SCHED_DEADLINE needs 1024 ≤ runtime ≤ deadline ≤ period, in nanoseconds`, x.Runtime, x.Deadline, x.Period))
	}
	// What the kernel says of these depends on its configuration and on the cgroups above.
	either := func(field, kase string, set func(*specs.Process), ask, want, message string) {
		rows = append(rows, Row{Field: field, Case: kase, Set: func(s *specs.Spec) { set(s.Process) }, Box: "ordinary:" + kase, Look: ask, Want: want, Refused: message})
	}
	eperm := func(policy int) string {
		return fmt.Sprintf("process.scheduler: the host's kernel refuses it: sched_setattr(PID, policy %d): operation not permitted; for a real-time policy the shim needs CAP_SYS_NICE, and with cgroup version 1 the container needs linux.resources.cpu.realtimeRuntime", policy)
	}
	either(f+"policy", "SCHED_FIFO", s(specs.Scheduler{Policy: specs.SchedFIFO, Priority: 10}), "sched of init", "policy 1 flags 0 nice 0 priority 10", eperm(1))
	either(f+"policy", "SCHED_RR", s(specs.Scheduler{Policy: specs.SchedRR, Priority: 11}), "sched of init", "policy 2 flags 0 nice 0 priority 11", eperm(2))
	either(f+"priority", "11", s(specs.Scheduler{Policy: specs.SchedRR, Priority: 11}), "sched of init", "policy 2 flags 0 nice 0 priority 11", eperm(2))
	either(f+"policy", "SCHED_DEADLINE", s(specs.Scheduler{Policy: specs.SchedDeadline, Runtime: 1e6, Deadline: 1e7, Period: 1e7}), "sched of init", "policy 6 flags 0 nice 0 priority 0", eperm(6))
	either(f+"nice", "-5", s(specs.Scheduler{Policy: specs.SchedOther, Nice: -5}), "sched of init", "policy 0 flags 0 nice -5 priority 0", eperm(0))
	for _, flag := range []specs.LinuxSchedulerFlag{specs.SchedFlagReclaim, specs.SchedFlagDLOverrun, specs.SchedFlagKeepPolicy, specs.SchedFlagKeepParams} {
		want := "policy 0 flags 0 nice 0 priority 0"
		if flag == specs.SchedFlagKeepParams {
			want = fmt.Sprintf("policy 0 flags 0 nice %d priority 0", inherited())
		}
		row(f+"flags[]", string(flag), s(specs.Scheduler{Policy: specs.SchedOther, Flags: []specs.LinuxSchedulerFlag{flag}}), "sched", want)
	}
	for _, flag := range []specs.LinuxSchedulerFlag{specs.SchedFlagUtilClampMin, specs.SchedFlagUtilClampMax} {
		refused(f+"flags[]", string(flag), s(specs.Scheduler{Policy: specs.SchedOther, Flags: []specs.LinuxSchedulerFlag{flag}}), `process.scheduler.flags[0] is "`+string(flag)+`": the runtime spec has no field for the value that it sets; remove it`)
	}
	refused(f+"flags[]", "unknown", s(specs.Scheduler{Policy: specs.SchedOther, Flags: []specs.LinuxSchedulerFlag{"X"}}), `process.scheduler.flags[0] is "X": Linux has no such flag; remove it`)

	io := func(class specs.IOPriorityClass, n int) func(*specs.Process) {
		return func(p *specs.Process) { p.IOPriority = &specs.LinuxIOPriority{Class: class, Priority: n} }
	}
	row("process.ioPriority.class", "IOPRIO_CLASS_BE", io(specs.IOPRIO_CLASS_BE, 6), "ioprio", "class 2 level 6")
	row("process.ioPriority.priority", "", io(specs.IOPRIO_CLASS_BE, 1), "ioprio", "class 2 level 1")
	row("process.ioPriority.class", "IOPRIO_CLASS_IDLE", io(specs.IOPRIO_CLASS_IDLE, 0), "ioprio", "class 3 level 0")
	either("process.ioPriority.class", "IOPRIO_CLASS_RT", io(specs.IOPRIO_CLASS_RT, 2), "ioprio of init", "class 1 level 2", "process.ioPriority: the host's kernel refuses it: operation not permitted; for IOPRIO_CLASS_RT the shim needs CAP_SYS_NICE")
	refused("process.ioPriority.class", "unknown", io("X", 0), `process.ioPriority.class is "X": Linux has no such class; supported: IOPRIO_CLASS_RT, IOPRIO_CLASS_BE and IOPRIO_CLASS_IDLE`)
	refused("process.ioPriority.priority", "8", io(specs.IOPRIO_CLASS_BE, 8), `process.ioPriority.priority is "8": it must be between 0 and 7`)

	final := func(s string) func(*specs.Process) {
		return func(p *specs.Process) { p.ExecCPUAffinity = &specs.CPUAffinity{Final: s} }
	}
	a := "process.execCPUAffinity."
	initial := func(p *specs.Process) { p.ExecCPUAffinity = &specs.CPUAffinity{Initial: "1"} }
	rows = append(rows,
		Row{Field: a + "initial", Case: "of exec", Exec: initial, Ask: "cpus", Want: "1", When: &Condition{"Linux 6.2", func() bool { return kernel(6, 2) }}, Note: "before Linux 6.2 the move into the cgroup ends it"},
		Row{Field: a + "initial", Case: "of init", Set: func(s *specs.Spec) { initial(s.Process) }, Box: "ordinary:affinity2", Look: "cpus of init", Want: "as ours", Note: "ignored, as the specification says"},
		Row{Field: a + "final", Case: "of exec", Exec: final("1"), Ask: "cpus", Want: "1"},
		Row{Field: a + "final", Case: "of init", Set: func(s *specs.Spec) { final("1")(s.Process) }, Box: "ordinary:affinity", Look: "cpus of init", Want: "as ours", Note: "ignored, as the specification says"})
	refused(a+"final", "no list", final("1-0"), `process.execCPUAffinity.final is "1-0": a range ends before it begins; use a list such as "0-3,7"`)
	refused(a+"initial", "no list", func(p *specs.Process) { p.ExecCPUAffinity = &specs.CPUAffinity{Initial: "x"} }, `process.execCPUAffinity.initial is "x": it is not a list of numbers and ranges; use a list such as "0-3,7"`)
	return rows
}
