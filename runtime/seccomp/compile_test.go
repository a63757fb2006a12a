// SPDX-License-Identifier: Apache-2.0

package seccomp

import (
	"math/rand/v2"
	"testing"

	profile "github.com/moby/profiles/seccomp"
	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"
)

// outcome is what a filter returns for a call.
func outcome(t *testing.T, f *Filter, d data) uint32 {
	t.Helper()
	v, err := interpret(f.Insns, d)
	if err != nil {
		t.Fatal(err)
	}
	return v
}

func mustCompile(t *testing.T, p *specs.LinuxSeccomp, goarch string) *Filter {
	t.Helper()
	f, err := compile(p, goarch)
	if err != nil {
		t.Fatal(err)
	}
	return f
}

// TestVerdicts: one row a question, as the kernel would ask it.
func TestVerdicts(t *testing.T) {
	errno := func(e unix.Errno) uint32 { return unix.SECCOMP_RET_ERRNO | uint32(e) }
	n := uint(unix.ENOTTY)
	p := &specs.LinuxSeccomp{
		DefaultAction: specs.ActErrno,
		Architectures: []specs.Arch{specs.ArchX86_64, specs.ArchX86},
		Syscalls: []specs.LinuxSyscall{
			{Names: []string{"read", "write", "nonesuch"}, Action: specs.ActAllow},
			{Names: []string{"ioctl"}, Action: specs.ActErrno, ErrnoRet: &n},
			{Names: []string{"kill"}, Action: specs.ActKillProcess},
			{Names: []string{"personality"}, Action: specs.ActAllow, Args: []specs.LinuxSeccompArg{{Index: 0, Value: 0xffffffff, Op: specs.OpEqualTo}}},
			{Names: []string{"personality"}, Action: specs.ActAllow, Args: []specs.LinuxSeccompArg{{Index: 0, Value: 0x1_0000_0000, Op: specs.OpGreaterEqual}}},
			{Names: []string{"clone"}, Action: specs.ActAllow, Args: []specs.LinuxSeccompArg{{Index: 0, Value: unix.CLONE_NEWUSER, ValueTwo: 0, Op: specs.OpMaskedEqual}, {Index: 1, Value: 7, Op: specs.OpNotEqual}}},
			{Names: []string{"socket"}, Action: specs.ActAllow, Args: []specs.LinuxSeccompArg{{Index: 0, Value: 1, Op: specs.OpEqualTo}, {Index: 0, Value: 2, Op: specs.OpEqualTo}}},
		},
	}
	f := mustCompile(t, p, "amd64")
	const x64, x86 = unix.AUDIT_ARCH_X86_64, unix.AUDIT_ARCH_I386
	for _, c := range []struct {
		name string
		d    data
		want uint32
	}{
		{"allowed", data{nr: 0, arch: x64}, unix.SECCOMP_RET_ALLOW},
		{"default", data{nr: unix.SYS_GETPID, arch: x64}, errno(unix.EPERM)},
		{"errno of its own", data{nr: unix.SYS_IOCTL, arch: x64}, errno(unix.ENOTTY)},
		{"kill", data{nr: unix.SYS_KILL, arch: x64}, unix.SECCOMP_RET_KILL_PROCESS},
		{"argument equal", data{nr: unix.SYS_PERSONALITY, arch: x64, args: [6]uint64{0xffffffff}}, unix.SECCOMP_RET_ALLOW},
		{"argument not equal", data{nr: unix.SYS_PERSONALITY, arch: x64, args: [6]uint64{1}}, errno(unix.EPERM)},
		{"second entry, high word", data{nr: unix.SYS_PERSONALITY, arch: x64, args: [6]uint64{0x1_0000_0000}}, unix.SECCOMP_RET_ALLOW},
		{"both conditions", data{nr: unix.SYS_CLONE, arch: x64, args: [6]uint64{17, 6}}, unix.SECCOMP_RET_ALLOW},
		{"the mask has a bit", data{nr: unix.SYS_CLONE, arch: x64, args: [6]uint64{unix.CLONE_NEWUSER, 6}}, errno(unix.EPERM)},
		{"the second condition fails", data{nr: unix.SYS_CLONE, arch: x64, args: [6]uint64{17, 7}}, errno(unix.EPERM)},
		{"alternatives on one argument", data{nr: unix.SYS_SOCKET, arch: x64, args: [6]uint64{2}}, unix.SECCOMP_RET_ALLOW},
		{"newer than the profile", data{nr: 467, arch: x64}, errno(unix.ENOSYS)},
		{"i386 read", data{nr: 3, arch: x86}, unix.SECCOMP_RET_ALLOW},
		{"i386 number of amd64's read", data{nr: 0, arch: x86}, errno(unix.EPERM)},
		{"x32 without its architecture", data{nr: x32Bit, arch: x64}, unix.SECCOMP_RET_KILL_THREAD},
		{"another architecture", data{nr: 0, arch: unix.AUDIT_ARCH_AARCH64}, unix.SECCOMP_RET_KILL_THREAD},
	} {
		if got := outcome(t, f, c.d); got != c.want {
			t.Errorf("%s: %#x, want %#x", c.name, got, c.want)
		}
	}
}

// TestAgainstPlainReading compares random profiles with a plain reading of
// the spec, for random and boundary calls.
func TestAgainstPlainReading(t *testing.T) {
	seed := rand.Uint64()
	r := rand.New(rand.NewPCG(seed, 1))
	table := arches[0].numbers()
	var names []string
	for n := range table {
		names = append(names, n)
	}
	values := []uint64{0, 1, 7, 1<<31 - 1, 1 << 31, 1<<32 - 1, 1 << 32, 1<<32 + 7, 1<<64 - 1}
	for range 300 {
		p := &specs.LinuxSeccomp{DefaultAction: specs.ActLog}
		for range r.IntN(40) {
			s := specs.LinuxSyscall{Names: []string{names[r.IntN(len(names))]}, Action: specs.ActAllow}
			for i := range r.IntN(3) {
				s.Args = append(s.Args, specs.LinuxSeccompArg{Index: uint(i), Value: values[r.IntN(len(values))], ValueTwo: values[r.IntN(len(values))], Op: operators[r.IntN(len(operators))]})
			}
			p.Syscalls = append(p.Syscalls, s)
		}
		f := mustCompile(t, p, "amd64")
		for range 300 {
			d := data{nr: uint32(r.IntN(480)), arch: unix.AUDIT_ARCH_X86_64}
			for i := range d.args {
				d.args[i] = values[r.IntN(len(values))]
			}
			want := uint32(unix.SECCOMP_RET_LOG)
			for _, s := range p.Syscalls {
				if nr, ok := table[s.Names[0]]; ok && nr == d.nr && holds(s.Args, d) {
					want = unix.SECCOMP_RET_ALLOW
				}
			}
			if got := outcome(t, f, d); got != want {
				t.Fatalf("seed %d: call %d %x: %#x, want %#x in %+v", seed, d.nr, d.args, got, want, p.Syscalls)
			}
		}
	}
}

func holds(args []specs.LinuxSeccompArg, d data) bool {
	for _, a := range args {
		v := d.args[a.Index]
		ok := false
		switch a.Op {
		case specs.OpEqualTo:
			ok = v == a.Value
		case specs.OpNotEqual:
			ok = v != a.Value
		case specs.OpGreaterThan:
			ok = v > a.Value
		case specs.OpGreaterEqual:
			ok = v >= a.Value
		case specs.OpLessThan:
			ok = v < a.Value
		case specs.OpLessEqual:
			ok = v <= a.Value
		case specs.OpMaskedEqual:
			ok = v&a.Value == a.ValueTwo&a.Value
		}
		if !ok {
			return false
		}
	}
	return true
}

func TestRefused(t *testing.T) {
	big := uint(70000)
	for name, p := range map[string]*specs.LinuxSeccomp{
		"defaultAction":                {DefaultAction: "SCMP_ACT_X"},
		"flags":                        {DefaultAction: specs.ActAllow, Flags: []specs.LinuxSeccompFlag{"X"}},
		"architectures":                {DefaultAction: specs.ActAllow, Architectures: []specs.Arch{"X"}},
		"syscalls[0].names":            {DefaultAction: specs.ActAllow, Syscalls: []specs.LinuxSyscall{{Action: specs.ActErrno}}},
		"syscalls[0].args[0].op":       {DefaultAction: specs.ActAllow, Syscalls: []specs.LinuxSyscall{{Names: []string{"read"}, Action: specs.ActErrno, Args: []specs.LinuxSeccompArg{{Op: "X"}}}}},
		"syscalls[0].action: errnoRet": {DefaultAction: specs.ActAllow, Syscalls: []specs.LinuxSyscall{{Names: []string{"read"}, Action: specs.ActErrno, ErrnoRet: &big}}},
	} {
		_, err := Compile(p)
		if err == nil || len(err.Error()) < len(name) || err.Error()[:len(name)] != name {
			t.Errorf("%s: error %v", name, err)
		}
	}
}

// TestSystemProfile: the widened default profile of Docker allows what it
// must, on both machines, and still refuses the rest.
func TestSystemProfile(t *testing.T) {
	base, err := profile.GetDefaultProfile(&specs.Spec{Process: &specs.Process{Capabilities: &specs.LinuxCapabilities{}}})
	if err != nil {
		t.Fatal(err)
	}
	f := mustCompile(t, SystemProfile(base), "amd64")
	for name, want := range map[string]uint32{
		"mount": unix.SECCOMP_RET_ALLOW, "clone3": unix.SECCOMP_RET_ALLOW, "fsopen": unix.SECCOMP_RET_ALLOW, "read": unix.SECCOMP_RET_ALLOW,
		"kexec_load": unix.SECCOMP_RET_ERRNO | 1, "iopl": unix.SECCOMP_RET_ERRNO | 1,
	} {
		if got := outcome(t, f, data{nr: arches[0].numbers()[name], arch: unix.AUDIT_ARCH_X86_64}); got != want {
			t.Errorf("%s: %#x, want %#x", name, got, want)
		}
	}
	t.Logf("%d instructions", len(f.Insns))
	if _, err := compile(SystemProfile(base), "arm64"); err != nil {
		t.Error(err)
	}
}
