// SPDX-License-Identifier: Apache-2.0

package seccomp

import (
	"encoding/binary"
	"fmt"
	"slices"

	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"
)

// Filter is a compiled profile.
type Filter struct {
	// Insns has at most 4096 instructions (BPF_MAXINSNS).
	Insns []unix.SockFilter
	// Flags are SECCOMP_FILTER_FLAG_* for seccomp(2).
	Flags uint32
	// Listener reports whether an action of the profile is SCMP_ACT_NOTIFY.
	Listener bool
}

// Bytes returns the instructions in the kernel's form: struct sock_filter, 8 bytes each,
// little-endian.
func (f *Filter) Bytes() []byte {
	b := make([]byte, 0, 8*len(f.Insns))
	for _, i := range f.Insns {
		b = binary.LittleEndian.AppendUint16(b, i.Code)
		b = append(b, i.Jt, i.Jf)
		b = binary.LittleEndian.AppendUint32(b, i.K)
	}
	return b
}

// Compile compiles a profile (runtime-spec, config-linux.md, Seccomp) for the running kernel. It
// skips names of system calls that it does not know, as the spec demands.
func Compile(p *specs.LinuxSeccomp) (*Filter, error) { return compile(p, native()) }

func compile(p *specs.LinuxSeccomp, goarch string) (*Filter, error) {
	f := &Filter{}
	var err error
	if f.Flags, err = flags(p.Flags); err != nil {
		return nil, err
	}
	def, err := actionValue(p.DefaultAction, p.DefaultErrnoRet, "defaultAction")
	if err != nil {
		return nil, err
	}
	list, err := selectArches(p.Architectures, goarch)
	if err != nil {
		return nil, err
	}
	rules, err := parseRules(p, def)
	if err != nil {
		return nil, err
	}
	for _, r := range rules {
		f.Listener = f.Listener || r.action == unix.SECCOMP_RET_USER_NOTIF
	}
	f.Listener = f.Listener || def == unix.SECCOMP_RET_USER_NOTIF
	if !f.Listener { // nobody waits for an answer, and then the kernel refuses the flag
		f.Flags &^= unix.SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV
	}
	f.Insns, err = assemble(list, rules, def)
	if err != nil {
		return nil, err
	}
	if len(f.Insns) > unix.BPF_MAXINSNS {
		return nil, fmt.Errorf("the profile compiles to %d instructions, and the kernel accepts at most %d; make it smaller", len(f.Insns), unix.BPF_MAXINSNS)
	}
	return f, nil
}

func flags(names []specs.LinuxSeccompFlag) (uint32, error) {
	var out uint32
	for _, n := range names {
		switch n {
		case specs.LinuxSeccompFlagLog:
			out |= unix.SECCOMP_FILTER_FLAG_LOG
		case specs.LinuxSeccompFlagSpecAllow:
			out |= unix.SECCOMP_FILTER_FLAG_SPEC_ALLOW
		case specs.LinuxSeccompFlagWaitKillableRecv:
			out |= unix.SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV
		case "SECCOMP_FILTER_FLAG_TSYNC":
			// A single thread installs the filter, so there is nothing to synchronise.
		default:
			return 0, fmt.Errorf("flags: %q is unknown; remove it", n)
		}
	}
	return out, nil
}

// actionValue returns the filter's return value for an action.
func actionValue(a specs.LinuxSeccompAction, data *uint, field string) (uint32, error) {
	value := uint32(unix.EPERM)
	if data != nil {
		if *data > 0xffff {
			return 0, fmt.Errorf("%s: errnoRet %d has more than 16 bits; use an errno", field, *data)
		}
		value = uint32(*data)
	}
	switch a {
	case specs.ActAllow:
		return unix.SECCOMP_RET_ALLOW, nil
	case specs.ActKill, specs.ActKillThread:
		return unix.SECCOMP_RET_KILL_THREAD, nil
	case specs.ActKillProcess:
		return unix.SECCOMP_RET_KILL_PROCESS, nil
	case specs.ActTrap:
		return unix.SECCOMP_RET_TRAP, nil
	case specs.ActErrno:
		if value > 4095 { // MAX_ERRNO: the kernel caps it
			return 0, fmt.Errorf("%s: errnoRet %d is not an errno; use one up to 4095", field, value)
		}
		return unix.SECCOMP_RET_ERRNO | value, nil
	case specs.ActTrace:
		return unix.SECCOMP_RET_TRACE | value, nil
	case specs.ActLog:
		return unix.SECCOMP_RET_LOG, nil
	case specs.ActNotify:
		return unix.SECCOMP_RET_USER_NOTIF, nil
	}
	return 0, fmt.Errorf("%s: %q is not an action; use one of the runtime-spec, such as SCMP_ACT_ERRNO", field, a)
}

// rule says what happens to system calls if all conditions hold. A rule with the default action
// changes nothing, except that its names count as known ([beyond]).
type rule struct {
	names  []string
	action uint32
	when   []specs.LinuxSeccompArg
	// added means that [SystemProfile] has added the rule, so the author did not know its names.
	added bool
}

func parseRules(p *specs.LinuxSeccomp, def uint32) ([]rule, error) {
	var out []rule
	for i, s := range p.Syscalls {
		field := fmt.Sprintf("syscalls[%d]", i)
		action, err := actionValue(s.Action, s.ErrnoRet, field+".action")
		if err != nil {
			return nil, err
		}
		if len(s.Names) == 0 {
			return nil, fmt.Errorf("%s.names is empty; name a system call or remove the entry", field)
		}
		seen := map[uint]bool{}
		twice := false
		for j, a := range s.Args {
			if a.Index > 5 {
				return nil, fmt.Errorf("%s.args[%d].index is %d; a system call has arguments 0 to 5", field, j, a.Index)
			}
			if !slices.Contains(operators, a.Op) {
				return nil, fmt.Errorf("%s.args[%d].op: %q is not an operator; use one of the runtime-spec, such as SCMP_CMP_EQ", field, j, a.Op)
			}
			twice = twice || seen[a.Index]
			seen[a.Index] = true
		}
		if action == def {
			out = append(out, rule{s.Names, action, nil, widens(s)})
			continue
		}
		if twice {
			// Several conditions on the same argument are alternatives, as in the runtimes for
			// which profiles are written.
			for _, a := range s.Args {
				out = append(out, rule{s.Names, action, []specs.LinuxSeccompArg{a}, false})
			}
			continue
		}
		// A mask without bits always holds.
		when := slices.DeleteFunc(slices.Clone(s.Args), func(a specs.LinuxSeccompArg) bool { return a.Op == specs.OpMaskedEqual && a.Value == 0 })
		out = append(out, rule{s.Names, action, when, widens(s)})
	}
	return out, nil
}

var operators = []specs.LinuxSeccompOperator{
	specs.OpEqualTo, specs.OpNotEqual, specs.OpGreaterThan, specs.OpGreaterEqual,
	specs.OpLessThan, specs.OpLessEqual, specs.OpMaskedEqual,
}
