// SPDX-License-Identifier: Apache-2.0

package cgroup

import (
	"golang.org/x/sys/unix"

	"sysbox/runtime/sys"
)

// The registers of the program.
const (
	regAnswer  = 0 // the result: 0 denies
	regContext = 1 // struct bpf_cgroup_dev_ctx { __u32 access_type; __u32 major; __u32 minor; }
	regKind    = 2
	regLeft    = 3 // the requested access that is not decided yet
	regMajor   = 4
	regMinor   = 5
)

// deviceProgram compiles rules for BPF_PROG_TYPE_CGROUP_DEVICE.
//
// The last rule that matches decides, so the program checks them from last to first. An
// allow rule removes its bits from the undecided access; if none are left the program allows.
// A deny rule that matches an undecided bit denies. (The program of containerd/cgroups lets a
// rule for reading allow an open for reading and writing, so it is not used.)
func deviceProgram(rules []rule) []sys.BPFInsn {
	// access_type is (access << 16) | type.
	p := []sys.BPFInsn{
		load(regKind, 0),
		{Code: unix.BPF_ALU | unix.BPF_MOV | unix.BPF_X, Regs: regKind<<4 | regLeft},
		constant(unix.BPF_AND, regKind, 0xffff),
		constant(unix.BPF_RSH, regLeft, 16),
		load(regMajor, 4),
		load(regMinor, 8),
	}
	for i := len(rules) - 1; i >= 0; i-- {
		r := rules[i]
		var block []sys.BPFInsn
		var leaves []int // the jumps to the next rule
		skip := func(op uint8, reg uint8, v int32) {
			leaves = append(leaves, len(block))
			block = append(block, sys.BPFInsn{Code: unix.BPF_JMP32 | op | unix.BPF_K, Regs: reg, Imm: v})
		}
		if r.kind != 'a' {
			// BPF_DEVCG_DEV_BLOCK is 1, _CHAR is 2.
			skip(unix.BPF_JNE, regKind, map[byte]int32{'b': 1, 'c': 2}[r.kind])
		}
		if r.major >= 0 {
			skip(unix.BPF_JNE, regMajor, int32(uint32(r.major)))
		}
		if r.minor >= 0 {
			skip(unix.BPF_JNE, regMinor, int32(uint32(r.minor)))
		}
		if r.allow {
			block = append(block, constant(unix.BPF_AND, regLeft, int32(accessAll&^r.access)))
			skip(unix.BPF_JNE, regLeft, 0)
			block = append(block, answer(1)...)
		} else {
			block = append(block,
				sys.BPFInsn{Code: unix.BPF_ALU | unix.BPF_MOV | unix.BPF_X, Regs: regLeft<<4 | regAnswer},
				constant(unix.BPF_AND, regAnswer, int32(r.access)))
			skip(unix.BPF_JEQ, regAnswer, 0)
			block = append(block, answer(0)...)
		}
		for _, at := range leaves {
			block[at].Off = int16(len(block) - at - 1)
		}
		p = append(p, block...)
		if r.kind == 'a' && r.major < 0 && r.minor < 0 && r.access == accessAll {
			break // earlier rules do not matter
		}
	}
	return append(p, answer(0)...)
}

// load reads a word of the context.
func load(reg uint8, offset int16) sys.BPFInsn {
	return sys.BPFInsn{Code: unix.BPF_LDX | unix.BPF_W | unix.BPF_MEM, Regs: regContext<<4 | reg, Off: offset}
}

// constant is a 32-bit operation with a constant.
func constant(op, reg uint8, v int32) sys.BPFInsn {
	return sys.BPFInsn{Code: unix.BPF_ALU | op | unix.BPF_K, Regs: reg, Imm: v}
}

func answer(v int32) []sys.BPFInsn {
	return []sys.BPFInsn{constant(unix.BPF_MOV, regAnswer, v), {Code: unix.BPF_JMP | unix.BPF_EXIT}}
}
