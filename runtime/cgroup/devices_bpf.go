package cgroup

import (
	"fmt"

	"github.com/cilium/ebpf/asm"
)

// deviceProgram compiles rules for BPF_PROG_TYPE_CGROUP_DEVICE.
//
// The last rule decides, so the program asks them from last to first and
// keeps in R3 what is still undecided of the access asked for: an allow rule
// takes its bits away, and with none left the answer is yes; a deny rule that
// meets one left says no. (The program of containerd/cgroups lets a rule for
// reading admit an open for reading and writing, so it isn't used.)
func deviceProgram(rules []rule) asm.Instructions {
	// struct bpf_cgroup_dev_ctx { __u32 access_type; __u32 major; __u32 minor; };
	// access_type is (access << 16) | type.
	p := asm.Instructions{
		asm.LoadMem(asm.R2, asm.R1, 0, asm.Word),
		asm.Mov.Reg32(asm.R3, asm.R2),
		asm.And.Imm32(asm.R2, 0xffff),
		asm.RSh.Imm32(asm.R3, 16),
		asm.LoadMem(asm.R4, asm.R1, 4, asm.Word),
		asm.LoadMem(asm.R5, asm.R1, 8, asm.Word),
	}
	// A label goes on the first instruction after the block it ends.
	label := ""
	emit := func(ins ...asm.Instruction) {
		if label != "" {
			ins[0] = ins[0].WithSymbol(label)
			label = ""
		}
		p = append(p, ins...)
	}
	for i := len(rules) - 1; i >= 0; i-- {
		r := rules[i]
		next := fmt.Sprintf("next-%d", i)
		if r.kind != 'a' {
			// BPF_DEVCG_DEV_BLOCK is 1, _CHAR is 2.
			emit(asm.JNE.Imm32(asm.R2, map[byte]int32{'b': 1, 'c': 2}[r.kind], next))
		}
		if r.major >= 0 {
			emit(asm.JNE.Imm32(asm.R4, int32(uint32(r.major)), next))
		}
		if r.minor >= 0 {
			emit(asm.JNE.Imm32(asm.R5, int32(uint32(r.minor)), next))
		}
		if r.allow {
			emit(asm.And.Imm32(asm.R3, int32(accessAll&^r.access)),
				asm.JNE.Imm32(asm.R3, 0, next), asm.Mov.Imm32(asm.R0, 1), asm.Return())
		} else {
			emit(asm.Mov.Reg32(asm.R0, asm.R3), asm.And.Imm32(asm.R0, int32(r.access)),
				asm.JEq.Imm32(asm.R0, 0, next), asm.Mov.Imm32(asm.R0, 0), asm.Return())
		}
		label = next
		if r.kind == 'a' && r.major < 0 && r.minor < 0 && r.access == accessAll {
			break // nothing before matters
		}
	}
	emit(asm.Mov.Imm32(asm.R0, 0), asm.Return())
	return p
}
