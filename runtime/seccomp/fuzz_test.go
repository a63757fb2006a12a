// SPDX-License-Identifier: Apache-2.0

package seccomp

import (
	"encoding/json"
	"slices"
	"testing"

	profile "github.com/moby/profiles/seccomp"
	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"
)

// FuzzCompile: a profile from anywhere never panics, and what compiles answers every call
// as the profile says.
func FuzzCompile(f *testing.F) {
	base, err := profile.GetDefaultProfile(&specs.Spec{Process: &specs.Process{Capabilities: &specs.LinuxCapabilities{}}})
	if err != nil {
		f.Fatal(err)
	}
	b, err := json.Marshal(base)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(b)
	for _, s := range []string{
		`{"defaultAction":"SCMP_ACT_ERRNO","architectures":["SCMP_ARCH_X32"],"syscalls":[{"names":["read"],"action":"SCMP_ACT_ALLOW","args":[{"index":0,"value":1,"op":"SCMP_CMP_MASKED_EQ"}]}]}`,
		`{"defaultAction":"SCMP_ACT_KILL","syscalls":[{"names":["read","nonesuch"],"action":"SCMP_ACT_NOTIFY"}]}`,
		`{"defaultAction":"SCMP_ACT_ERRNO","architectures":["SCMP_ARCH_X86","SCMP_ARCH_ARM"],"syscalls":[{"names":["read","rseq"],"action":"SCMP_ACT_ALLOW"}]}`,
		`{"defaultAction":"SCMP_ACT_ERRNO","architectures":["SCMP_ARCH_X86"],"syscalls":[{"names":["accept"],"action":"SCMP_ACT_ALLOW"}]}`,
		`{"defaultAction":"SCMP_ACT_ALLOW","architectures":["SCMP_ARCH_X86"],"syscalls":[{"names":["socket","shmat"],"action":"SCMP_ACT_ERRNO","args":[{"index":0,"value":4294967297,"op":"SCMP_CMP_EQ"}]},{"names":["ipc"],"action":"SCMP_ACT_LOG"}]}`,
		`{"defaultAction":"SCMP_ACT_ERRNO","architectures":["SCMP_ARCH_X86"],"syscalls":[{"names":["socket","semop"],"action":"SCMP_ACT_ALLOW","args":[{"index":0,"value":1,"op":"SCMP_CMP_EQ"}]}]}`,
		`{}`, `{"defaultAction":"SCMP_ACT_TRACE","defaultErrnoRet":65535,"flags":["SECCOMP_FILTER_FLAG_LOG",""]}`,
	} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		var p specs.LinuxSeccomp
		if json.Unmarshal(b, &p) != nil {
			return
		}
		for _, goarch := range []string{"amd64", "arm64"} {
			checkSemantics(t, &p, goarch, data{nr: uint32(len(b)), args: [6]uint64{2: uint64(len(b))}})
		}
	})
}

// FuzzSemantics is FuzzCompile with profiles that are made of the input, nearly all of
// which compile, and one call more to ask about.
func FuzzSemantics(f *testing.F) {
	f.Add([]byte{0, 1, 1, 3, 0, 0}, uint32(0), uint64(1), uint64(2), uint64(3))
	f.Add([]byte("a profile with several entries and many conditions in it"), uint32(102), uint64(1)<<32|1, uint64(7), uint64(9))
	f.Add([]byte{2, 255, 40, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 17, 18, 19, 20}, uint32(117), uint64(21), uint64(0), uint64(5))
	f.Fuzz(func(t *testing.T, b []byte, nr uint32, x, y, z uint64) {
		p := profileOf(b, x, y)
		for _, goarch := range []string{"amd64", "arm64"} {
			checkSemantics(t, p, goarch, data{nr: nr, arch: uint32(z), args: [6]uint64{x, y, z}})
		}
	})
}

// allNames are the calls of all architectures.
var allNames = func() []string {
	var out []string
	for _, a := range arches {
		for n := range a.numbers() {
			out = append(out, n)
		}
	}
	slices.Sort(out)
	return slices.Compact(out)
}()

// profileOf makes a profile of bytes.
func profileOf(b []byte, x, y uint64) *specs.LinuxSeccomp {
	next := func(n int) int {
		if len(b) == 0 {
			return 0
		}
		v := int(b[0]) % n
		b = b[1:]
		return v
	}
	actions := []specs.LinuxSeccompAction{
		specs.ActErrno, specs.ActAllow, specs.ActKill, specs.ActKillProcess, specs.ActKillThread,
		specs.ActTrap, specs.ActTrace, specs.ActLog, specs.ActNotify,
	}
	few := []string{"read", "socket", "socketcall", "ipc", "shmat", "accept", "clone", "mount", "ioctl", "rt_sigaction", "clock_gettime64", "fchmodat2", "nonesuch"}
	p := &specs.LinuxSeccomp{DefaultAction: actions[next(len(actions))]}
	which := next(256)
	for i, a := range []specs.Arch{specs.ArchX86_64, specs.ArchX86, specs.ArchX32, specs.ArchAARCH64, specs.ArchARM, specs.ArchMIPS} {
		if which>>i&1 != 0 {
			p.Architectures = append(p.Architectures, a)
		}
	}
	for len(b) > 0 && len(p.Syscalls) < 40 {
		s := specs.LinuxSyscall{Action: actions[next(len(actions))]}
		if e := next(8); e < 4 {
			n := uint([]int{1, 38, 0, 4095}[e])
			s.ErrnoRet = &n
		}
		for range 1 + next(3) {
			if next(2) == 0 {
				s.Names = append(s.Names, few[next(len(few))])
			} else {
				s.Names = append(s.Names, allNames[(next(256)<<8|next(256))%len(allNames)])
			}
		}
		for range next(4) {
			values := []uint64{0, 1, x, y, x & y, 1 << 32, 0xffffffff, 1 << 31, 1<<64 - 1, 0x7e020000}
			s.Args = append(s.Args, specs.LinuxSeccompArg{Index: uint(next(3)), Value: values[next(len(values))], ValueTwo: values[next(len(values))], Op: operators[next(len(operators))]})
		}
		p.Syscalls = append(p.Syscalls, s)
	}
	return p
}

// TestSemantics compares filters with profiles for some calls of kernels that are not the
// tests' own, too.
func TestSemantics(t *testing.T) {
	for i := range 120 {
		b := make([]byte, 3+i)
		seed := uint64(i)
		for k := range b {
			seed = seed*6364136223846793005 + 1442695040888963407
			b[k] = byte(seed >> 56)
		}
		for _, goarch := range []string{"amd64", "arm64"} {
			checkSemantics(t, profileOf(b, 2, 1<<32|2), goarch, data{nr: uint32(i), arch: unix.AUDIT_ARCH_X86_64, args: [6]uint64{2: seed}})
		}
	}
}
