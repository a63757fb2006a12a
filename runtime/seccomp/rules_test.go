// SPDX-License-Identifier: Apache-2.0

package seccomp

import (
	"flag"
	"os"
	"slices"
	"strings"
	"testing"

	profile "github.com/moby/profiles/seccomp"
	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"
)

// TestOtherWays: a denial holds for every way in which a call can be made.
func TestOtherWays(t *testing.T) {
	deny := func(name string, args ...specs.LinuxSeccompArg) *specs.LinuxSeccomp {
		return &specs.LinuxSeccomp{
			DefaultAction: specs.ActAllow, Architectures: []specs.Arch{specs.ArchX86_64, specs.ArchX86},
			Syscalls: []specs.LinuxSyscall{{Names: []string{name}, Action: specs.ActErrno, Args: args}},
		}
	}
	const x86 = unix.AUDIT_ARCH_I386
	eperm := unix.SECCOMP_RET_ERRNO | uint32(unix.EPERM)
	one := specs.LinuxSeccompArg{Index: 0, Value: 1, Op: specs.OpEqualTo}
	for _, c := range []struct {
		name string
		p    *specs.LinuxSeccomp
		d    data
		want uint32
	}{
		{"socket by socketcall", deny("socket"), data{nr: 102, arch: x86, args: [6]uint64{1}}, eperm},
		{"with rubbish above its 32 bits", deny("socket"), data{nr: 102, arch: x86, args: [6]uint64{1<<32 | 1}}, eperm},
		{"another call by socketcall", deny("socket"), data{nr: 102, arch: x86, args: [6]uint64{2}}, unix.SECCOMP_RET_ALLOW},
		{"shmat by ipc", deny("shmat"), data{nr: 117, arch: x86, args: [6]uint64{21}}, eperm},
		{"shmat by ipc of another version", deny("shmat"), data{nr: 117, arch: x86, args: [6]uint64{1<<16 | 21}}, eperm},
		{"some sockets, of which socketcall cannot tell", deny("socket", one), data{nr: 102, arch: x86, args: [6]uint64{1}}, eperm},
		{"an argument with rubbish above its 32 bits", deny("personality", one), data{nr: 136, arch: x86, args: [6]uint64{7<<32 | 1}}, eperm},
		{"the same with 64 bits is another value", deny("personality", one), data{nr: 135, arch: unix.AUDIT_ARCH_X86_64, args: [6]uint64{7<<32 | 1}}, unix.SECCOMP_RET_ALLOW},
	} {
		if got := outcome(t, mustCompile(t, c.p, "amd64"), c.d); got != c.want {
			t.Errorf("%s: %#x, want %#x", c.name, got, c.want)
		}
	}
	allow := &specs.LinuxSeccomp{
		DefaultAction: specs.ActErrno, Architectures: []specs.Arch{specs.ArchX86},
		Syscalls: []specs.LinuxSyscall{{Names: []string{"socket"}, Action: specs.ActAllow, Args: []specs.LinuxSeccompArg{one}}},
	}
	if got := outcome(t, mustCompile(t, allow, "amd64"), data{nr: 102, arch: x86, args: [6]uint64{1}}); got != eperm {
		t.Errorf("what is allowed on a condition is allowed by socketcall without: %#x", got)
	}
}

// TestDisagreement: the first unconditional entry decides, else the strictest that holds.
func TestDisagreement(t *testing.T) {
	errno := uint(33)
	one := []specs.LinuxSeccompArg{{Index: 0, Value: 1, Op: specs.OpEqualTo}}
	positive := []specs.LinuxSeccompArg{{Index: 0, Value: 0, Op: specs.OpGreaterThan}}
	entry := func(a specs.LinuxSeccompAction, args []specs.LinuxSeccompArg) specs.LinuxSyscall {
		s := specs.LinuxSyscall{Names: []string{"kill"}, Action: a, Args: args}
		if a == specs.ActErrno {
			s.ErrnoRet = &errno
		}
		return s
	}
	denied := unix.SECCOMP_RET_ERRNO | uint32(33)
	for _, c := range []struct {
		name    string
		entries []specs.LinuxSyscall
		want    uint32
	}{
		{"the first of two", []specs.LinuxSyscall{entry(specs.ActLog, nil), entry(specs.ActErrno, nil)}, unix.SECCOMP_RET_LOG},
		{"unconditional after conditional", []specs.LinuxSyscall{entry(specs.ActErrno, one), entry(specs.ActLog, nil)}, unix.SECCOMP_RET_LOG},
		{"the strictest, last", []specs.LinuxSyscall{entry(specs.ActLog, one), entry(specs.ActErrno, positive)}, denied},
		{"the strictest, first", []specs.LinuxSyscall{entry(specs.ActErrno, positive), entry(specs.ActLog, one)}, denied},
	} {
		f := mustCompile(t, &specs.LinuxSeccomp{DefaultAction: specs.ActAllow, Syscalls: c.entries}, "amd64")
		if got := outcome(t, f, data{nr: unix.SYS_KILL, arch: unix.AUDIT_ARCH_X86_64, args: [6]uint64{1}}); got != c.want {
			t.Errorf("%s: %#x, want %#x", c.name, got, c.want)
		}
	}
}

// TestNewCalls: calls that are newer than a profile fail with ENOSYS, on which libraries
// take an older one, also when the profile is widened by newer ones still; calls that it
// denies by name fail as it says.
func TestNewCalls(t *testing.T) {
	p := &specs.LinuxSeccomp{DefaultAction: specs.ActErrno, Syscalls: []specs.LinuxSyscall{
		{Names: []string{"read", "futex_waitv"}, Action: specs.ActAllow},
		{Names: []string{"fchmodat2"}, Action: specs.ActErrno},
	}}
	table := arches[0].numbers()
	enosys, eperm := unix.SECCOMP_RET_ERRNO|uint32(unix.ENOSYS), unix.SECCOMP_RET_ERRNO|uint32(unix.EPERM)
	for name, f := range map[string]*Filter{"plain": mustCompile(t, p, "amd64"), "widened": mustCompile(t, SystemProfile(p), "amd64")} {
		for call, want := range map[string]uint32{"map_shadow_stack": enosys, "fchmodat2": eperm, "iopl": eperm, "futex_waitv": unix.SECCOMP_RET_ALLOW} {
			if got := outcome(t, f, data{nr: table[call], arch: unix.AUDIT_ARCH_X86_64}); got != want {
				t.Errorf("%s, %s: %#x, want %#x", name, call, got, want)
			}
		}
	}
}

// TestDenialsStay: a list of denials is its author's will; denials of a list of what is
// allowed give way to what a system container needs.
func TestDenialsStay(t *testing.T) {
	list := &specs.LinuxSeccomp{DefaultAction: specs.ActAllow, Syscalls: []specs.LinuxSyscall{{Names: []string{"mount", "bpf"}, Action: specs.ActErrno}}}
	docker, err := profile.GetDefaultProfile(&specs.Spec{Process: &specs.Process{Capabilities: &specs.LinuxCapabilities{}}})
	if err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct {
		p    *specs.LinuxSeccomp
		want uint32
	}{"denials": {list, unix.SECCOMP_RET_ERRNO | uint32(unix.EPERM)}, "Docker's": {docker, unix.SECCOMP_RET_ALLOW}} {
		if got := outcome(t, mustCompile(t, SystemProfile(c.p), "amd64"), data{nr: unix.SYS_MOUNT, arch: unix.AUDIT_ARCH_X86_64}); got != c.want {
			t.Errorf("%s: mount: %#x, want %#x", name, got, c.want)
		}
	}
}

var update = flag.Bool("update", false, "write the table of docs/system-calls.md")

// TestWidenedTable: docs/system-calls.md tells of each call that is added to a profile, who
// needs it and how far it reaches.
func TestWidenedTable(t *testing.T) {
	const (
		file  = "../../docs/system-calls.md"
		first = "<!-- added to profiles: made by `go test ./runtime/seccomp -run TestWidenedTable -update` -->\n"
		last  = "<!-- end of added to profiles -->\n"
	)
	b := strings.Builder{}
	b.WriteString("| call | who needs it | what it can start or change at most |\n|---|---|---|\n")
	var all []string
	for _, w := range widened {
		if w.why == "" || w.reach == "" {
			t.Errorf("%v are added without a reason", w.names)
		}
		names := strings.Join(w.names, ", ")
		for range w.args {
			names += " without its third argument"
		}
		b.WriteString("| " + names + " | " + w.why + " | " + w.reach + " |\n")
		all = append(all, w.names...)
	}
	slices.Sort(all)
	if n := len(all); len(slices.Compact(all)) != n {
		t.Error("a call is added twice")
	}
	docs, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	before, rest, ok1 := strings.Cut(string(docs), first)
	have, after, ok2 := strings.Cut(rest, last)
	if !ok1 || !ok2 {
		t.Fatalf("%s has no place for the table", file)
	}
	if *update {
		if err := os.WriteFile(file, []byte(before+first+b.String()+last+after), 0o644); err != nil {
			t.Fatal(err)
		}
	} else if have != b.String() {
		t.Errorf("%s has another table; read the change and run the test with -update", file)
	}
}

// TestRequestKey: a profile is widened by request_key without information for a callout, by
// each of the machine's entries; with it the kernel would start a program of the host's, and
// the profile's default action stands. What a profile itself allows stays allowed.
func TestRequestKey(t *testing.T) {
	docker, err := profile.GetDefaultProfile(&specs.Spec{Process: &specs.Process{Capabilities: &specs.LinuxCapabilities{}}})
	if err != nil {
		t.Fatal(err)
	}
	own := &specs.LinuxSeccomp{DefaultAction: specs.ActErrno, Architectures: docker.Architectures, Syscalls: []specs.LinuxSyscall{{Names: []string{"request_key"}, Action: specs.ActAllow}}}
	eperm := unix.SECCOMP_RET_ERRNO | uint32(unix.EPERM)
	for _, c := range []struct {
		name     string
		p        *specs.LinuxSeccomp
		nr, arch uint32
		callout  uint64
		want     uint32
	}{
		{"none", docker, unix.SYS_REQUEST_KEY, unix.AUDIT_ARCH_X86_64, 0, unix.SECCOMP_RET_ALLOW},
		{"some", docker, unix.SYS_REQUEST_KEY, unix.AUDIT_ARCH_X86_64, 0x7fff00001000, eperm},
		{"some, whose address has 32 bits of 0", docker, unix.SYS_REQUEST_KEY, unix.AUDIT_ARCH_X86_64, 1 << 32, eperm},
		{"none by i386", docker, 287, unix.AUDIT_ARCH_I386, 0, unix.SECCOMP_RET_ALLOW},
		{"some by i386", docker, 287, unix.AUDIT_ARCH_I386, 0x1000, eperm},
		{"some by x32", docker, x32Bit | unix.SYS_REQUEST_KEY, unix.AUDIT_ARCH_X86_64, 0x1000, eperm},
		{"none by x32", docker, x32Bit | unix.SYS_REQUEST_KEY, unix.AUDIT_ARCH_X86_64, 0, unix.SECCOMP_RET_ALLOW},
		{"some, which the profile allows", own, unix.SYS_REQUEST_KEY, unix.AUDIT_ARCH_X86_64, 0x1000, unix.SECCOMP_RET_ALLOW},
	} {
		if got := outcome(t, mustCompile(t, SystemProfile(c.p), "amd64"), data{nr: c.nr, arch: c.arch, args: [6]uint64{1, 2, c.callout}}); got != c.want {
			t.Errorf("%s: %#x, want %#x", c.name, got, c.want)
		}
	}
}
