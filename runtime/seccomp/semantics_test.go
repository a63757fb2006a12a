// SPDX-License-Identifier: Apache-2.0

package seccomp

import (
	"slices"
	"testing"

	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"
)

// evaluate says what a profile answers to a call, without a filter: entry by entry, as
// runtime-spec and doc.go have it. It shares nothing with the compiler but the tables of
// numbers.
func evaluate(p *specs.LinuxSeccomp, goarch string, d data) uint32 {
	def := answer(p.DefaultAction, p.DefaultErrnoRet)
	a, known := archOf(p, goarch, d)
	if !known {
		if d.arch == unix.AUDIT_ARCH_X86_64 && goarch == "amd64" && d.nr == 1<<32-1 {
			return def // a tracer's way of skipping a call
		}
		return unix.SECCOMP_RET_KILL_THREAD
	}
	table := tableOf(a)
	named, highest := false, uint32(0)
	for i, s := range p.Syscalls {
		for _, n := range s.Names {
			if nr, ok := table[n]; ok && !ours(p.Syscalls[i]) {
				named, highest = true, max(highest, nr)
			}
		}
	}
	var all []uint32 // answers of entries that hold
	decided := false
	for _, name := range namesOf(a, d.nr) {
		list, unconditional := entriesOf(p, a, name, d, def)
		if unconditional {
			return list[0]
		}
		all = append(all, list...)
		decided = decided || slices.ContainsFunc(p.Syscalls, func(s specs.LinuxSyscall) bool {
			return slices.Contains(s.Names, name) && answer(s.Action, s.ErrnoRet) != def
		})
	}
	if a.name == specs.ArchX86 && (d.nr == table["socketcall"] || d.nr == table["ipc"]) {
		list, any := byMultiplexer(p, a, d, table["socketcall"] == d.nr, def)
		all, decided = append(all, list...), decided || any
	}
	if len(all) > 0 {
		return slices.MinFunc(all, func(x, y uint32) int { return int(int32(x&0xffff0000)) - int(int32(y&0xffff0000)) })
	}
	if named && d.nr > highest && !decided {
		switch p.DefaultAction {
		case specs.ActErrno, specs.ActKill, specs.ActKillThread, specs.ActKillProcess, specs.ActTrap:
			return unix.SECCOMP_RET_ERRNO | uint32(unix.ENOSYS) // newer than the profile's author
		}
	}
	return def
}

var tables = map[specs.Arch]map[string]uint32{}

// tableOf is a.numbers, which takes long.
func tableOf(a arch) map[string]uint32 {
	if tables[a.name] == nil {
		tables[a.name] = a.numbers()
	}
	return tables[a.name]
}

var calls = map[specs.Arch]map[uint32][]string{}

// namesOf are the names of a number.
func namesOf(a arch, nr uint32) []string {
	if calls[a.name] == nil {
		calls[a.name] = map[uint32][]string{}
		for name, nr := range tableOf(a) {
			calls[a.name][nr] = append(calls[a.name][nr], name)
		}
	}
	return calls[a.name][nr]
}

// ours tells of entries that widening adds, which say nothing of what its author knew.
func ours(s specs.LinuxSyscall) bool {
	return s.Action == specs.ActAllow && slices.ContainsFunc(widened, func(w widening) bool {
		return slices.Equal(w.names, s.Names) && slices.Equal(w.args, s.Args)
	})
}

// archOf is the architecture of a call, if the profile names it or it is the kernel's own.
func archOf(p *specs.LinuxSeccomp, goarch string, d data) (arch, bool) {
	for _, a := range arches {
		own := a.name == specs.ArchX86_64 && goarch == "amd64" || a.name == specs.ArchAARCH64 && goarch == "arm64"
		if a.audit != d.arch || a.family != goarch || !own && !slices.Contains(p.Architectures, a.name) {
			continue
		}
		if a.audit == unix.AUDIT_ARCH_X86_64 && (a.bit != 0) != (d.nr >= x32Bit) {
			continue
		}
		return a, true
	}
	return arch{}, false
}

// entriesOf are the answers of the entries for a name that hold: that of the first
// unconditional one alone, if there is one.
func entriesOf(p *specs.LinuxSeccomp, a arch, name string, d data, def uint32) (list []uint32, unconditional bool) {
	for _, s := range p.Syscalls {
		if !slices.Contains(s.Names, name) || answer(s.Action, s.ErrnoRet) == def {
			continue
		}
		if always(s.Args) {
			return []uint32{answer(s.Action, s.ErrnoRet)}, true
		}
		if fulfilled(s.Args, a, d) {
			list = append(list, answer(s.Action, s.ErrnoRet))
		}
	}
	return list, false
}

// byMultiplexer are the answers for single calls that a socketcall or ipc of i386 stands
// for. Their arguments are out of sight: conditions hold if that is stricter.
func byMultiplexer(p *specs.LinuxSeccomp, a arch, d data, sockets bool, def uint32) (list []uint32, any bool) {
	single, which := ipcs, d.args[0]&0xffff
	if sockets {
		single, which = socketcalls, d.args[0]&0xffffffff
	}
	for name, number := range single {
		var answers []uint32
		for _, s := range p.Syscalls {
			v := answer(s.Action, s.ErrnoRet)
			if !slices.Contains(s.Names, name) || v == def {
				continue
			}
			if always(s.Args) {
				answers = []uint32{v}
				break
			}
			if int32(v&0xffff0000) <= int32(def&0xffff0000) {
				answers = append(answers, v)
			}
		}
		any = any || len(answers) > 0
		if number == which {
			list = append(list, answers...)
		}
	}
	return list, any
}

// always tells of conditions that hold whatever the arguments are.
func always(args []specs.LinuxSeccompArg) bool {
	seen := map[uint]bool{}
	for _, c := range args {
		if seen[c.Index] || c.Op != specs.OpMaskedEqual || c.Value != 0 {
			return false
		}
		seen[c.Index] = true
	}
	return true
}

// fulfilled asks all conditions; where two are of one argument, any.
func fulfilled(args []specs.LinuxSeccompArg, a arch, d data) bool {
	some, seen, twice := false, map[uint]bool{}, false
	every := true
	for _, c := range args {
		x, v, w := d.args[c.Index], c.Value, c.ValueTwo
		if a.name != specs.ArchX86_64 && a.name != specs.ArchAARCH64 {
			x, v, w = x&0xffffffff, v&0xffffffff, w&0xffffffff
		}
		is := map[specs.LinuxSeccompOperator]bool{
			specs.OpEqualTo: x == v, specs.OpNotEqual: x != v, specs.OpGreaterThan: x > v, specs.OpGreaterEqual: x >= v,
			specs.OpLessThan: x < v, specs.OpLessEqual: x <= v, specs.OpMaskedEqual: x&v == w&v,
		}[c.Op]
		some, every = some || is, every && is
		twice = twice || seen[c.Index]
		seen[c.Index] = true
	}
	return every || twice && some
}

// answer is what a filter returns for an action, include/uapi/linux/seccomp.h.
func answer(a specs.LinuxSeccompAction, errno *uint) uint32 {
	n := uint32(1) // EPERM
	if errno != nil {
		n = uint32(*errno)
	}
	switch a {
	case specs.ActKill, specs.ActKillThread:
		return 0
	case specs.ActTrap:
		return 0x00030000
	case specs.ActErrno:
		return 0x00050000 | n
	case specs.ActNotify:
		return 0x7fc00000
	case specs.ActTrace:
		return 0x7ff00000 | n
	case specs.ActLog:
		return 0x7ffc0000
	case specs.ActKillProcess:
		return 0x80000000
	}
	return 0x7fff0000
}

// questions are calls that a profile could be wrong about: around those that it names, by
// every way in, with arguments around those that it compares.
func questions(p *specs.LinuxSeccomp, goarch string, more data) []data {
	numbers := []uint32{0, 102, 117, 403, 424, 467, 1 << 20, x32Bit, x32Bit + 59, x32Bit + 548, 1<<32 - 1, more.nr}
	values := []uint64{0, 1, 1<<32 - 1, 1 << 32, more.args[0], more.args[1]}
	for _, s := range p.Syscalls {
		for _, n := range s.Names {
			for _, a := range arches {
				if nr, ok := tableOf(a)[n]; ok && a.family == goarch && len(numbers) < 120 {
					numbers = append(numbers, nr-1, nr, nr+1)
				}
			}
		}
		for _, c := range s.Args {
			for _, v := range []uint64{c.Value, c.ValueTwo} {
				if len(values) < 60 {
					values = append(values, v, v-1, v+1, v^1<<32, v&0xffffffff)
				}
			}
		}
	}
	slices.Sort(numbers)
	var out []data
	seed := more.args[2]
	for _, nr := range slices.Compact(numbers) {
		for _, audit := range []uint32{unix.AUDIT_ARCH_X86_64, unix.AUDIT_ARCH_I386, unix.AUDIT_ARCH_AARCH64, unix.AUDIT_ARCH_ARM, more.arch} {
			tries := 4
			multiplexer := (nr == 102 || nr == 117) && audit == unix.AUDIT_ARCH_I386
			if multiplexer {
				tries = 32
			}
			for n := range tries {
				d := data{nr: nr, arch: audit}
				for i := range d.args {
					seed = seed*6364136223846793005 + 1442695040888963407
					d.args[i] = values[(seed>>33)%uint64(len(values))]
				}
				if multiplexer {
					d.args[0] = uint64(n) | seed>>60<<32 | seed>>56&1<<16
				}
				out = append(out, d)
			}
		}
	}
	return out
}

// checkSemantics compares a compiled profile, and the same widened, with what they say.
func checkSemantics(t *testing.T, p *specs.LinuxSeccomp, goarch string, more data) {
	t.Helper()
	plain, err := compile(p, goarch)
	if err != nil {
		return
	}
	wide := SystemProfile(p)
	wider, err := compile(wide, goarch)
	if err != nil {
		if len(plain.Insns) < unix.BPF_MAXINSNS/2 {
			t.Errorf("widened, it does not compile: %v", err)
		}
		wider = nil
	}
	added := map[string]bool{}
	for _, w := range widened {
		for _, n := range w.names {
			added[n] = true
		}
	}
	for _, d := range questions(p, goarch, more) {
		want := evaluate(p, goarch, d)
		if got := outcome(t, plain, d); got != want {
			t.Fatalf("%s: %+v: the filter says %#x, the profile %#x", goarch, d, got, want)
		}
		if wider == nil {
			continue
		}
		got := outcome(t, wider, d)
		if w := evaluate(wide, goarch, d); got != w {
			t.Fatalf("%s, widened: %+v: the filter says %#x, the profile %#x", goarch, d, got, w)
		}
		a, known := archOf(p, goarch, d)
		isAdded := false
		if known {
			isAdded = slices.ContainsFunc(namesOf(a, d.nr), func(n string) bool { return added[n] })
		}
		if !isAdded && got != want {
			t.Fatalf("%s: widening changes the answer to %+v from %#x to %#x", goarch, d, want, got)
		}
	}
}
