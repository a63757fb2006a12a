// SPDX-License-Identifier: Apache-2.0

package seccomp

import (
	"encoding/binary"
	"fmt"

	"golang.org/x/sys/unix"
)

// data is struct seccomp_data.
type data struct {
	nr, arch uint32
	args     [6]uint64
}

// interpret runs a filter as the kernel would.
func interpret(prog []unix.SockFilter, d data) (uint32, error) {
	mem := make([]byte, 64)
	binary.LittleEndian.PutUint32(mem, d.nr)
	binary.LittleEndian.PutUint32(mem[4:], d.arch)
	for i, a := range d.args {
		binary.LittleEndian.PutUint64(mem[16+8*i:], a)
	}
	var acc uint32
	for pc := 0; pc < len(prog); pc++ {
		in := prog[pc]
		hold := false
		switch in.Code {
		case unix.BPF_LD | unix.BPF_W | unix.BPF_ABS:
			acc = binary.LittleEndian.Uint32(mem[in.K:])
			continue
		case unix.BPF_ALU | unix.BPF_AND | unix.BPF_K:
			acc &= in.K
			continue
		case unix.BPF_RET | unix.BPF_K:
			return in.K, nil
		case unix.BPF_JMP | unix.BPF_JA:
			pc += int(in.K)
			continue
		case unix.BPF_JMP | unix.BPF_JEQ | unix.BPF_K:
			hold = acc == in.K
		case unix.BPF_JMP | unix.BPF_JGT | unix.BPF_K:
			hold = acc > in.K
		case unix.BPF_JMP | unix.BPF_JGE | unix.BPF_K:
			hold = acc >= in.K
		case unix.BPF_JMP | unix.BPF_JSET | unix.BPF_K:
			hold = acc&in.K != 0
		default:
			return 0, fmt.Errorf("instruction %d: code %#x", pc, in.Code)
		}
		if hold {
			pc += int(in.Jt)
		} else {
			pc += int(in.Jf)
		}
	}
	return 0, fmt.Errorf("ran off the end")
}
