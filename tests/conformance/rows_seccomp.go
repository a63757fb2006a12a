// SPDX-License-Identifier: Apache-2.0

package conformance

import (
	"github.com/opencontainers/runtime-spec/specs-go"
)

// profile answers a system call as an action says, and allows all others.
func profile(action specs.LinuxSeccompAction, errno *uint, names []string, args ...specs.LinuxSeccompArg) *specs.LinuxSeccomp {
	return &specs.LinuxSeccomp{DefaultAction: specs.ActAllow, Syscalls: []specs.LinuxSyscall{{Names: names, Action: action, ErrnoRet: errno, Args: args}}}
}

func with(p *specs.LinuxSeccomp, change func(*specs.LinuxSeccomp)) func(*specs.Spec) {
	if change != nil {
		change(p)
	}
	return func(s *specs.Spec) { s.Linux.Seccomp = p }
}

// agentSocket stands for the socket of the test's agent.
const agentSocket = "/agent"

// seccompRows are linux.seccomp. The calls are ones that nothing else makes or refuses.
func seccompRows() []Row {
	const f = "linux.seccomp."
	errno := ptr(uint(39)) // ENOTEMPTY: no kernel answers these calls so
	var rows []Row
	row := func(field, kase string, set func(*specs.Spec), ask, want string) {
		rows = append(rows, Row{Field: f + field, Case: kase, Set: set, Box: "ordinary:seccomp-" + field + kase, Ask: ask, Want: want})
	}
	names := []string{"getpgid"}
	for _, x := range []struct {
		action specs.LinuxSeccompAction
		want   string
	}{
		{specs.ActAllow, "works"},
		{specs.ActErrno, "ENOTEMPTY"},
		{specs.ActKill, "thread killed"},
		{specs.ActKillThread, "thread killed"},
		{specs.ActKillProcess, "process killed"},
		{specs.ActTrap, "trapped"},
		{specs.ActTrace, "ENOSYS"},
		{specs.ActLog, "works"},
	} {
		var e *uint
		if x.action == specs.ActErrno || x.action == specs.ActTrace {
			e = errno
		}
		row("syscalls[].action", string(x.action), with(profile(x.action, e, names), nil), "call getpgid 0", x.want)
	}
	refused := func(field, kase string, set func(*specs.Spec), message string) {
		rows = append(rows, Row{Field: f + field, Case: kase, Set: set, Refused: message})
	}
	refused("syscalls[].action", "unknown", with(profile("X", nil, names), nil), `linux.seccomp: syscalls[0].action: "X" is not an action; use one of the runtime-spec, such as SCMP_ACT_ERRNO`)
	row("syscalls[].names", "several", with(profile(specs.ActErrno, errno, []string{"getsid", "getpgid"}), nil), "call getpgid 0", "ENOTEMPTY")
	row("syscalls[].names", "that the kernel has not", with(profile(specs.ActErrno, errno, []string{"nosuchcall", "getpgid"}), nil), "call getpgid 0", "ENOTEMPTY")
	refused("syscalls[].names", "none", with(profile(specs.ActErrno, errno, nil), nil), `linux.seccomp: syscalls[0].names is empty; name a system call or remove the entry`)
	row("syscalls[].errnoRet", "", with(profile(specs.ActErrno, errno, names), nil), "call getpgid 0", "ENOTEMPTY")
	row("syscalls[].errnoRet", "none", with(profile(specs.ActErrno, nil, names), nil), "call getpgid 0", "EPERM")
	refused("syscalls[].errnoRet", "4096", with(profile(specs.ActErrno, ptr(uint(4096)), names), nil), `linux.seccomp: syscalls[0].action: errnoRet 4096 is not an errno; use one up to 4095`)

	// The default action, of a profile that names what is allowed.
	listed := func(action specs.LinuxSeccompAction, errno *uint) func(*specs.Spec) {
		return func(s *specs.Spec) {
			p := dockerProfile()
			p.DefaultAction, p.DefaultErrnoRet = action, errno
			s.Linux.Seccomp = p
		}
	}
	row("defaultAction", "SCMP_ACT_ERRNO", listed(specs.ActErrno, nil), "call swapoff 0", "EPERM")
	row("defaultAction", "SCMP_ACT_KILL_PROCESS", listed(specs.ActKillProcess, nil), "call swapoff 0", "process killed")
	row("defaultAction", "SCMP_ACT_TRAP", listed(specs.ActTrap, nil), "call swapoff 0", "trapped")
	row("defaultAction", "SCMP_ACT_LOG", with(profile(specs.ActErrno, errno, names), func(p *specs.LinuxSeccomp) { p.DefaultAction = specs.ActLog }), "call getsid 0", "works")
	row("defaultErrnoRet", "", listed(specs.ActErrno, errno), "call swapoff 0", "ENOTEMPTY")
	refused("defaultAction", "unknown", with(profile(specs.ActErrno, errno, names), func(p *specs.LinuxSeccomp) { p.DefaultAction = "X" }), `linux.seccomp: defaultAction: "X" is not an action; use one of the runtime-spec, such as SCMP_ACT_ERRNO`)
	rows = append(rows, Row{Field: f + "defaultAction", Case: "in a system container, mount", Set: listed(specs.ActErrno, errno), Box: "system:seccomp", Ask: "call personality 0xffffffff", Want: "works", Note: "widened by what system software calls (package seccomp)"})

	for _, x := range []struct {
		op         specs.LinuxSeccompOperator
		value, two uint64
		hit, miss  string
	}{
		{specs.OpEqualTo, 5, 0, "5", "6"},
		{specs.OpNotEqual, 5, 0, "6", "5"},
		{specs.OpLessThan, 5, 0, "4", "5"},
		{specs.OpLessEqual, 5, 0, "5", "6"},
		{specs.OpGreaterThan, 5, 0, "6", "5"},
		{specs.OpGreaterEqual, 5, 0, "5", "4"},
		{specs.OpMaskedEqual, 6, 4, "5", "2"},
	} {
		set := with(profile(specs.ActErrno, errno, []string{"umask"}, specs.LinuxSeccompArg{Index: 0, Value: x.value, ValueTwo: x.two, Op: x.op}), nil)
		rows = append(rows,
			Row{Field: f + "syscalls[].args[].op", Case: string(x.op) + " holds", Set: set, Box: "ordinary:op-" + string(x.op), Ask: "call umask " + x.hit, Want: "ENOTEMPTY"},
			Row{Field: f + "syscalls[].args[].op", Case: string(x.op) + " does not hold", Set: set, Box: "ordinary:op-" + string(x.op), Ask: "call umask " + x.miss, Want: "works"})
	}
	arg := func(index uint, value, two uint64, op specs.LinuxSeccompOperator) func(*specs.Spec) {
		return with(profile(specs.ActErrno, errno, []string{"lseek"}, specs.LinuxSeccompArg{Index: index, Value: value, ValueTwo: two, Op: op}), nil)
	}
	row("syscalls[].args[].index", "2", arg(2, 77, 0, specs.OpEqualTo), "call lseek 1 0 77", "ENOTEMPTY")
	row("syscalls[].args[].value", "of 64 bits", arg(1, 1<<40, 0, specs.OpEqualTo), "call lseek 99 0x10000000000 0", "ENOTEMPTY")
	row("syscalls[].args[].value", "of 64 bits, another", arg(1, 1<<40, 0, specs.OpEqualTo), "call lseek 99 0 0", "EBADF")
	row("syscalls[].args[].valueTwo", "", arg(2, 0xf0, 0x30, specs.OpMaskedEqual), "call lseek 99 0 0x3f", "ENOTEMPTY")
	refused("syscalls[].args[].index", "6", arg(6, 0, 0, specs.OpEqualTo), `linux.seccomp: syscalls[0].args[0].index is 6; a system call has arguments 0 to 5`)
	refused("syscalls[].args[].op", "unknown", arg(0, 0, 0, "X"), `linux.seccomp: syscalls[0].args[0].op: "X" is not an operator; use one of the runtime-spec, such as SCMP_CMP_EQ`)

	// Architectures: those of this machine are filtered, others of no effect.
	all := func(p *specs.LinuxSeccomp) { p.Architectures = allArches }
	row("architectures[]", "SCMP_ARCH_X86_64, SCMP_ARCH_AARCH64", with(profile(specs.ActErrno, errno, names), all), "call getpgid 0", "ENOTEMPTY")
	const getpgid32 = "132" // of i386
	rows = append(rows,
		Row{Field: f + "architectures[]", Case: "SCMP_ARCH_X86", Set: with(profile(specs.ActErrno, errno, names), all), Box: "ordinary:seccomp-x86", Ask: "call32 " + getpgid32, Want: "ENOTEMPTY", When: &Condition{"32-bit programs", runs32}},
		Row{Field: f + "architectures[]", Case: "SCMP_ARCH_X32", Set: with(profile(specs.ActErrno, errno, []string{"umask"}), all), Box: "ordinary:seccomp-x32", Ask: "call x32:umask 022", Want: "ENOTEMPTY", When: &Condition{"x86-64", func() bool { return machine() == "x86_64" }}})
	for _, a := range foreignArches {
		rows = append(rows, Row{Field: f + "architectures[]", Case: string(a), Set: with(profile(specs.ActErrno, errno, names), all), Box: "ordinary:seccomp-foreign", Ask: "call getpgid 0", Want: "ENOTEMPTY", Note: "of no effect on another machine"})
	}
	refused("architectures[]", "unknown", with(profile(specs.ActErrno, errno, names), func(p *specs.LinuxSeccomp) { p.Architectures = []specs.Arch{"X"} }), `linux.seccomp: architectures: "X" is unknown; use names of the runtime-spec, such as SCMP_ARCH_X86_64`)
	for _, flag := range []specs.LinuxSeccompFlag{specs.LinuxSeccompFlagLog, specs.LinuxSeccompFlagSpecAllow, specs.LinuxSeccompFlagWaitKillableRecv, "SECCOMP_FILTER_FLAG_TSYNC"} {
		row("flags[]", string(flag), with(profile(specs.ActErrno, errno, names), func(p *specs.LinuxSeccomp) { p.Flags = []specs.LinuxSeccompFlag{flag} }), "call getpgid 0", "ENOTEMPTY")
	}
	logged := with(profile(specs.ActErrno, errno, names), func(p *specs.LinuxSeccomp) { p.Flags = []specs.LinuxSeccompFlag{specs.LinuxSeccompFlagLog} })
	metadata := &Condition{"CONFIG_CHECKPOINT_RESTORE", func() bool { return exists("/proc/sys/kernel/ns_last_pid") }}
	rows = append(rows,
		Row{Field: f + "flags[]", Case: "SECCOMP_FILTER_FLAG_LOG in the kernel", Set: logged, Box: "ordinary:seccomp-log", Look: "filter", Want: "log", When: metadata},
		Row{Field: f + "flags[]", Case: "none in the kernel", Set: with(profile(specs.ActErrno, errno, names), nil), Box: "ordinary:seccomp-none", Look: "filter", Want: "no flags", When: metadata})
	refused("flags[]", "unknown", with(profile(specs.ActErrno, errno, names), func(p *specs.LinuxSeccomp) { p.Flags = []specs.LinuxSeccompFlag{"X"} }), `linux.seccomp: flags: "X" is unknown; remove it`)
	agent := func(socket, metadata string) func(*specs.Spec) {
		return with(profile(specs.ActNotify, nil, names), func(p *specs.LinuxSeccomp) { p.ListenerPath, p.ListenerMetadata = socket, metadata })
	}
	const asOrdinary = "create an ordinary container (SYSBOX_SYSCONT_MODE=FALSE in its environment) or use another action"
	rows = append(rows,
		Row{Field: f + "syscalls[].action", Case: string(specs.ActNotify), Set: agent(agentSocket, "metadata"), Box: "agent", Ask: "call getpgid 0", Want: "ENOTEMPTY"},
		Row{Field: f + "listenerPath", Set: agent(agentSocket, "metadata"), Box: "agent", Look: "agent seccompFd", Want: "init's"},
		Row{Field: f + "listenerMetadata", Set: agent(agentSocket, "metadata"), Box: "agent", Look: "agent metadata", Want: "metadata"},
		Row{Field: f + "syscalls[].action", Case: "SCMP_ACT_NOTIFY in a system container", Set: agent(agentSocket, ""), Refused: `linux.seccomp is "SCMP_ACT_NOTIFY": the kernel allows one listener per process, and in a system container this runtime uses it; ` + asOrdinary},
		Row{Field: f + "listenerPath", Case: "none", Set: agent("", ""), Box: "ordinary", Refused: `linux.seccomp is "SCMP_ACT_NOTIFY": it needs listenerPath; set it to the socket of the agent, or use another action`},
		Row{Field: f + "listenerPath", Case: "relative", Set: agent("agent", ""), Box: "ordinary", Refused: `linux.seccomp.listenerPath is "agent": it must be an absolute path of at most 107 bytes`},
		Row{Field: f + "listenerMetadata", Case: "without listenerPath", Set: with(profile(specs.ActErrno, errno, names), func(p *specs.LinuxSeccomp) { p.ListenerMetadata = "x" }), Refused: `linux.seccomp.listenerMetadata is "x": listenerPath is empty; set it to the socket of the agent, or remove listenerMetadata`},
	)
	rows = append(rows,
		Row{Field: f + "syscalls[].action", Case: "in a process that is executed later", Exec: func(*specs.Process) {}, Ask: "call mlockall 0x40", Want: "ENOTEMPTY"},
		Row{Field: f + "syscalls[].action", Case: "with noNewPrivileges", Set: func(s *specs.Spec) {
			with(profile(specs.ActErrno, errno, names), nil)(s)
			s.Process.NoNewPrivileges = true
		}, Box: "ordinary:seccomp-nnp", Ask: "call getpgid 0", Want: "ENOTEMPTY"})
	return rows
}

var foreignArches = []specs.Arch{
	specs.ArchARM, specs.ArchMIPS, specs.ArchMIPS64, specs.ArchMIPS64N32, specs.ArchMIPSEL, specs.ArchMIPSEL64, specs.ArchMIPSEL64N32,
	specs.ArchPPC, specs.ArchPPC64, specs.ArchPPC64LE, specs.ArchS390, specs.ArchS390X, specs.ArchPARISC, specs.ArchPARISC64,
	specs.ArchRISCV64, specs.ArchLOONGARCH64, specs.ArchM68K, specs.ArchSH, specs.ArchSHEB,
}

var allArches = append([]specs.Arch{specs.ArchX86_64, specs.ArchX86, specs.ArchX32, specs.ArchAARCH64}, foreignArches...)
