// SPDX-License-Identifier: Apache-2.0

package seccomp

import (
	"slices"

	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"
)

// Offsets in struct seccomp_data.
const (
	offNr   = 0
	offArch = 4
	offArgs = 16
)

// code builds a program. Its jumps go only forward, to labels.
type code struct {
	insns  []unix.SockFilter
	jumps  []jump
	labels []int // by label, the index of the instruction after it
}

type jump struct{ at, label int }

func (c *code) label() int {
	c.labels = append(c.labels, -1)
	return len(c.labels) - 1
}

func (c *code) place(label int) { c.labels[label] = len(c.insns) }

func (c *code) load(offset uint32) { c.emit(unix.BPF_LD|unix.BPF_W|unix.BPF_ABS, offset) }

func (c *code) ret(v uint32) { c.emit(unix.BPF_RET|unix.BPF_K, v) }

func (c *code) emit(op uint16, k uint32) { c.insns = append(c.insns, unix.SockFilter{Code: op, K: k}) }

// jumpIf jumps to a label if the comparison holds. The jump itself is unconditional, because only
// those can be longer than 255 instructions.
func (c *code) jumpIf(op uint16, k uint32, label int) {
	c.insns = append(c.insns, unix.SockFilter{Code: unix.BPF_JMP | op | unix.BPF_K, Jt: 0, Jf: 1, K: k})
	c.jump(label)
}

// jumpUnless jumps to a label if the comparison does not hold.
func (c *code) jumpUnless(op uint16, k uint32, label int) {
	c.insns = append(c.insns, unix.SockFilter{Code: unix.BPF_JMP | op | unix.BPF_K, Jt: 1, Jf: 0, K: k})
	c.jump(label)
}

func (c *code) jump(label int) {
	c.jumps = append(c.jumps, jump{len(c.insns), label})
	c.emit(unix.BPF_JMP|unix.BPF_JA, 0)
}

func (c *code) link() []unix.SockFilter {
	for _, j := range c.jumps {
		c.insns[j.at].K = uint32(c.labels[j.label] - j.at - 1)
	}
	return c.insns
}

// assemble writes the whole program. It looks at the architecture, then at the number of the
// system call, then at the rules for it.
func assemble(list []arch, rules []rule, def uint32) ([]unix.SockFilter, error) {
	c := &code{}
	c.load(offArch)
	for len(list) > 0 {
		// x86_64 and x32 have the same audit number. A bit tells them apart.
		same := []arch{list[0]}
		rest := list[1:]
		for i := 0; i < len(rest); {
			if rest[i].audit == list[0].audit {
				same = append(same, rest[i])
				rest = slices.Delete(slices.Clone(rest), i, i+1)
				continue
			}
			i++
		}
		next := c.label()
		c.jumpUnless(unix.BPF_JEQ, list[0].audit, next)
		c.load(offNr)
		c.numbers(same, rules, def)
		c.place(next)
		list = rest
		if len(list) > 0 {
			c.load(offArch)
		}
	}
	// The profile does not name the architecture of the call.
	c.ret(unix.SECCOMP_RET_KILL_THREAD)
	return c.link(), nil
}

// span is a run of numbers that have the same rules.
type span struct {
	first uint32
	rules []rule // for these numbers, all conditional, in the order of evaluation
	value uint32 // returned if none of the rules holds
	// narrow means that arguments have 32 bits.
	narrow bool
}

// numbers writes the answers for one audit architecture. The accumulator has the number.
func (c *code) numbers(same []arch, rules []rule, def uint32) {
	spans := []span{{first: 0, value: def}}
	for _, a := range same {
		spans = append(spans, archSpans(a, rules, def)...)
	}
	if same[0].audit == unix.AUDIT_ARCH_X86_64 && !slices.ContainsFunc(same, func(a arch) bool { return a.bit == x32Bit }) {
		// x32 numbers belong to an architecture that the profile does not name. The exception is
		// -1, with which a tracer skips a call.
		spans = append(spans, span{first: x32Bit, value: unix.SECCOMP_RET_KILL_THREAD}, span{first: 1<<32 - 1, value: def})
	}
	slices.SortStableFunc(spans, func(a, b span) int {
		switch {
		case a.first < b.first:
			return -1
		case a.first > b.first:
			return 1
		}
		return 0
	})
	var merged []span
	for _, s := range spans {
		if n := len(merged); n > 0 && merged[n-1].first == s.first {
			merged[n-1] = s // the later span is more specific
			continue
		}
		if n := len(merged); n > 0 && len(s.rules) == 0 && len(merged[n-1].rules) == 0 && merged[n-1].value == s.value {
			continue
		}
		merged = append(merged, s)
	}
	c.search(merged)
}

// archSpans are the spans of one architecture's numbers that have rules.
func archSpans(a arch, rules []rule, def uint32) []span {
	table := a.numbers()
	by := map[uint32]*span{}
	settled := unconditional(rules, def)
	highest, known := a.bit, false
	add := func(nr uint32, r rule) {
		s := by[nr]
		if s == nil {
			s = &span{first: nr, value: def}
			by[nr] = s
		}
		if len(r.when) == 0 {
			s.value = r.action
		} else {
			s.rules = append(s.rules, r)
		}
	}
	for i, r := range rules {
		for _, name := range r.names {
			nr, ok := table[name]
			if ok && !r.added {
				highest, known = max(highest, nr), true
			}
			if first, ok := settled[name]; r.action == def || ok && first != i {
				continue
			}
			if ok {
				add(nr, r)
			}
			if a.name == specs.ArchX86 {
				if by, r, ok := multiplex(name, r, def); ok && !has(settled, by) {
					add(table[by], r)
				}
			}
		}
	}
	if !known {
		highest = 1<<32 - 1 // the author of the profile did not think of this architecture
	}
	var out []span
	if a.bit != 0 { // the last span of the other architecture ends here
		out = append(out, span{first: a.bit, value: def})
	}
	for nr, s := range by {
		slices.SortStableFunc(s.rules, func(a, b rule) int { return strictness(a.action) - strictness(b.action) })
		s.narrow = a.narrow()
		out = append(out, *s)
		if by[nr+1] == nil {
			out = append(out, span{first: nr + 1, value: beyond(nr, highest, def)})
		}
	}
	if known && by[highest] == nil && by[highest+1] == nil {
		out = append(out, span{first: highest + 1, value: beyond(highest, highest, def)})
	}
	return out
}

func has(m map[string]int, name string) bool {
	_, ok := m[name]
	return ok
}

// unconditional returns the names that have an unconditional rule, with the index of the first
// one.
func unconditional(rules []rule, def uint32) map[string]int {
	out := map[string]int{}
	for i, r := range rules {
		if len(r.when) > 0 || r.action == def {
			continue
		}
		for _, n := range r.names {
			if _, ok := out[n]; !ok {
				out[n] = i
			}
		}
	}
	return out
}

// strictness orders actions as the kernel does if several filters answer: the lowest wins
// (seccomp(2), "Filter return values").
func strictness(action uint32) int { return int(int32(action & unix.SECCOMP_RET_ACTION_FULL)) }

// beyond is the answer for numbers above nr that have no rule. Numbers above all that the profile
// names are newer than the profile. If these calls would fail, they fail with ENOSYS, so that
// libraries fall back to an older call.
func beyond(nr, highest, def uint32) uint32 {
	if nr < highest {
		return def
	}
	switch def & unix.SECCOMP_RET_ACTION_FULL {
	case unix.SECCOMP_RET_ERRNO, unix.SECCOMP_RET_KILL_PROCESS, unix.SECCOMP_RET_KILL_THREAD, unix.SECCOMP_RET_TRAP:
		return unix.SECCOMP_RET_ERRNO | uint32(unix.ENOSYS)
	}
	return def
}

// search finds the span of the number in the accumulator by bisection.
func (c *code) search(spans []span) {
	if len(spans) == 1 {
		c.body(spans[0])
		return
	}
	mid := len(spans) / 2
	upper := c.label()
	c.jumpIf(unix.BPF_JGE, spans[mid].first, upper)
	c.search(spans[:mid])
	c.place(upper)
	c.search(spans[mid:])
}

func (c *code) body(s span) {
	for _, r := range s.rules {
		next := c.label()
		for _, a := range r.when {
			c.condition(a, s.narrow, next)
		}
		c.ret(r.action)
		c.place(next)
	}
	c.ret(s.value)
}

// condition jumps to fail unless it holds. Arguments have 64 bits and the machine has 32: the
// high word decides unless it is equal, or does not count (narrow).
func (c *code) condition(a specs.LinuxSeccompArg, narrow bool, fail int) {
	lo, hi := uint32(offArgs+8*a.Index), uint32(offArgs+8*a.Index+4)
	vlo, vhi := uint32(a.Value), uint32(a.Value>>32)
	hold := c.label()
	if !narrow {
		c.load(hi)
		switch a.Op {
		case specs.OpEqualTo:
			c.jumpUnless(unix.BPF_JEQ, vhi, fail)
		case specs.OpNotEqual:
			c.jumpUnless(unix.BPF_JEQ, vhi, hold)
		case specs.OpMaskedEqual:
			c.emit(unix.BPF_ALU|unix.BPF_AND|unix.BPF_K, vhi)
			c.jumpUnless(unix.BPF_JEQ, uint32(a.ValueTwo>>32)&vhi, fail)
		case specs.OpGreaterThan, specs.OpGreaterEqual:
			c.jumpIf(unix.BPF_JGT, vhi, hold)
			c.jumpUnless(unix.BPF_JEQ, vhi, fail)
		case specs.OpLessThan, specs.OpLessEqual:
			c.jumpIf(unix.BPF_JGT, vhi, fail)
			c.jumpUnless(unix.BPF_JEQ, vhi, hold)
		}
	}
	c.load(lo)
	switch a.Op {
	case specs.OpEqualTo:
		c.jumpUnless(unix.BPF_JEQ, vlo, fail)
	case specs.OpNotEqual:
		c.jumpIf(unix.BPF_JEQ, vlo, fail)
	case specs.OpMaskedEqual:
		// value is the mask, and valueTwo is the expected result (runtime-spec). Bits of valueTwo
		// outside of the mask do not count, as with libseccomp.
		c.emit(unix.BPF_ALU|unix.BPF_AND|unix.BPF_K, vlo)
		c.jumpUnless(unix.BPF_JEQ, uint32(a.ValueTwo)&vlo, fail)
	case specs.OpGreaterThan:
		c.jumpUnless(unix.BPF_JGT, vlo, fail)
	case specs.OpGreaterEqual:
		c.jumpUnless(unix.BPF_JGE, vlo, fail)
	case specs.OpLessThan:
		c.jumpIf(unix.BPF_JGE, vlo, fail)
	case specs.OpLessEqual:
		c.jumpIf(unix.BPF_JGT, vlo, fail)
	}
	c.place(hold)
}
