// SPDX-License-Identifier: Apache-2.0

package seccomp

import (
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	profile "github.com/moby/profiles/seccomp"
	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"
)

// oracle builds the program that asks libseccomp.
func oracle(t *testing.T) string {
	t.Helper()
	cc, err := exec.LookPath("cc")
	if err != nil {
		t.Skip("no C compiler to build libseccomp's side with")
	}
	if native() != "amd64" {
		t.Skip("the comparison is of amd64's numbers")
	}
	out := filepath.Join(t.TempDir(), "oracle")
	if b, err := exec.Command(cc, "-O1", "-Wall", "-Werror", "-o", out, "testdata/oracle.c", "-lseccomp").CombinedOutput(); err != nil {
		t.Fatalf("build the oracle (it needs libseccomp-dev): %v\n%s", err, b)
	}
	return out
}

// libseccompOps are enum scmp_compare.
var libseccompOps = map[specs.LinuxSeccompOperator]int{
	specs.OpNotEqual: 1, specs.OpLessThan: 2, specs.OpLessEqual: 3, specs.OpEqualTo: 4,
	specs.OpGreaterEqual: 5, specs.OpGreaterThan: 6, specs.OpMaskedEqual: 7,
}

var libseccompArches = map[specs.Arch]string{specs.ArchX86: "x86", specs.ArchX32: "x32", specs.ArchX86_64: "x86_64"}

// ask returns libseccomp's filter for a profile.
func ask(t *testing.T, program string, p *specs.LinuxSeccomp) []unix.SockFilter {
	t.Helper()
	def, err := actionValue(p.DefaultAction, p.DefaultErrnoRet, "")
	if err != nil {
		t.Fatal(err)
	}
	rules, err := parseRules(p, def)
	if err != nil {
		t.Fatal(err)
	}
	var in strings.Builder
	fmt.Fprintln(&in, "default", def)
	for _, a := range p.Architectures {
		fmt.Fprintln(&in, "arch", libseccompArches[a])
	}
	for _, r := range rules {
		if r.action == def {
			continue
		}
		for _, n := range r.names {
			fmt.Fprint(&in, "rule ", r.action, " ", n, " ", len(r.when))
			for _, a := range r.when {
				fmt.Fprint(&in, " ", a.Index, " ", libseccompOps[a.Op], " ", a.Value, " ", a.ValueTwo)
			}
			fmt.Fprintln(&in)
		}
	}
	cmd := exec.Command(program)
	cmd.Stdin = strings.NewReader(in.String())
	var said strings.Builder
	cmd.Stderr = &said
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("the oracle: %v: %s\n%s", err, said.String(), in.String())
	}
	var insns []unix.SockFilter
	for ; len(out) >= 8; out = out[8:] {
		insns = append(insns, unix.SockFilter{
			Code: binary.LittleEndian.Uint16(out), Jt: out[2], Jf: out[3], K: binary.LittleEndian.Uint32(out[4:]),
		})
	}
	return insns
}

// compare asks both filters about every number of an architecture that
// libseccomp's tables know as well, with all sorts of arguments.
func compare(t *testing.T, what string, p *specs.LinuxSeccomp, theirs []unix.SockFilter, r *rand.Rand) {
	t.Helper()
	ours := mustCompile(t, p, "amd64")
	values := []uint64{0, 1, 2, 8, 0x20000, 1<<31 - 1, 1 << 31, 1<<32 - 1, 1 << 32, 1<<32 + 8, 1<<64 - 1}
	for _, s := range p.Syscalls {
		for _, a := range s.Args {
			values = append(values, a.Value, a.ValueTwo, a.Value-1, a.Value+1)
		}
	}
	bad := 0
	list, err := selectArches(p.Architectures, "amd64")
	if err != nil {
		t.Fatal(err)
	}
	for _, a := range list {
		highest := uint32(0)
		named := map[uint32]bool{}
		table := a.numbers()
		for _, s := range p.Syscalls {
			for _, n := range s.Names {
				if nr, ok := table[n]; ok {
					if nr&^x32Bit < 512 || a.bit != 0 {
						highest = max(highest, nr)
					}
					named[nr] = true
				}
			}
		}
		for nr := a.bit; nr <= highest; nr++ {
			for range 12 {
				d := data{nr: nr, arch: a.audit}
				for i := range d.args {
					d.args[i] = values[r.IntN(len(values))]
				}
				want, err := interpret(theirs, d)
				if err != nil {
					t.Fatal(err)
				}
				got := outcome(t, ours, d)
				if got != want && !newer(a, nr) {
					if bad++; bad < 10 {
						var of []specs.LinuxSyscall
						for _, s := range p.Syscalls {
							if slices.ContainsFunc(s.Names, func(n string) bool { return table[n] == nr }) {
								of = append(of, s)
							}
						}
						t.Errorf("%s: %s call %d %x: %#x, libseccomp says %#x; its rules: %+v", what, a.name, nr, d.args, got, want, of)
					}
				}
			}
		}
	}
}

// newer tells of calls that libseccomp 2.5.4's tables do not have: those of
// Linux 5.17 and later, and x86_64's uretprobe and uprobe, numbered otherwise.
func newer(a arch, nr uint32) bool {
	nr &^= x32Bit
	return nr >= 450 && nr < 512 || a.name != specs.ArchX86 && (nr == 335 || nr == 336)
}

// old are calls that x32 never had, and those by which others are multiplexed.
var old = []string{"uselib", "_sysctl", "create_module", "get_kernel_syms", "query_module", "nfsservctl", "set_thread_area", "get_thread_area", "epoll_ctl_old", "epoll_wait_old", "vserver", "socketcall", "ipc"}

// multiplexed tells of calls that i386 makes in two ways.
func multiplexed(name string) bool { return socketcalls[name] != 0 || ipcs[name] != 0 }

func TestAgainstLibseccomp(t *testing.T) {
	program := oracle(t)
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	r := rand.New(rand.NewPCG(seed, 2))
	base, err := profile.GetDefaultProfile(&specs.Spec{Process: &specs.Process{Capabilities: &specs.LinuxCapabilities{Bounding: []string{"CAP_SYS_ADMIN"}}}})
	if err != nil {
		t.Fatal(err)
	}
	base.Architectures = []specs.Arch{specs.ArchX86_64}
	compare(t, "Docker's default profile", base, ask(t, program, base), r)
	wide := SystemProfile(base)
	compare(t, "the same, widened", wide, ask(t, program, wide), r)

	table := arches[0].numbers()
	var names []string
	for n := range table {
		if !slices.Contains(old, n) {
			names = append(names, n)
		}
	}
	slices.Sort(names)
	for i := range 150 {
		p := &specs.LinuxSeccomp{DefaultAction: specs.ActErrno, Architectures: []specs.Arch{specs.ArchX86_64, specs.ArchX86, specs.ArchX32}[:1+r.IntN(3)]}
		// Either conditions or calls that i386 makes in two ways: with both, libseccomp
		// 2.5.4 sometimes leaves rules of i386 out.
		plain := r.IntN(3) == 0
		// One rule a call: libseccomp 2.5.4 merges several with ranges wrongly
		// (x > 11, or x >= 4 and y >= 11, denies 11, 15).
		for _, n := range r.Perm(len(names))[:1+r.IntN(30)] {
			s := specs.LinuxSyscall{Names: []string{names[n]}, Action: specs.ActAllow}
			if multiplexed(names[n]) && !plain {
				continue
			}
			for k := range r.IntN(3) {
				if plain {
					break
				}
				// i386 has 32 bits an argument; libseccomp cuts values for it.
				s.Args = append(s.Args, specs.LinuxSeccompArg{Index: uint(k), Value: uint64(r.Uint32N(16)), ValueTwo: uint64(r.Uint32N(16)), Op: operators[r.IntN(len(operators))]})
			}
			p.Syscalls = append(p.Syscalls, s)
			if r.IntN(4) == 0 { // the first unconditional entry decides
				errno := uint(33)
				p.Syscalls = append(p.Syscalls, specs.LinuxSyscall{Names: s.Names, Action: specs.ActErrno, ErrnoRet: &errno})
			}
			if k := len(p.Syscalls); k > 1 && r.IntN(2) == 0 {
				p.Syscalls[k-1], p.Syscalls[k-2] = p.Syscalls[k-2], p.Syscalls[k-1]
			}
		}
		compare(t, fmt.Sprintf("random profile %d", i), p, ask(t, program, p), r)
		if t.Failed() {
			break
		}
	}
}
