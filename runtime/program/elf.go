// SPDX-License-Identifier: Apache-2.0

package program

import (
	"encoding/binary"
	"fmt"

	"golang.org/x/sys/unix"
)

// The image's addresses. Both segments come from one file with two parts: headers and code, then
// steps and data at dataOff. They are 64 KiB apart, for arm64's largest pages.
const (
	codeBase = 0x100000
	dataBase = 0x200000
	dataOff  = 1024
	dataAddr = dataBase + dataOff
	elfSize  = 64
	phSize   = 56
	codeOff  = elfSize + 3*phSize
)

//go:generate go run gen.go

// machine has what an image depends on in an architecture.
type machine struct {
	elf    uint16 // e_machine
	entry  []byte // sets the interpreter's register to dataAddr and falls through
	interp []byte // the machine code of interp_GOARCH.s, see code.go
}

var machines = map[string]machine{
	// mov r12d, dataAddr
	"amd64": {62, []byte{0x41, 0xbc, dataAddr & 0xff, dataAddr >> 8 & 0xff, dataAddr >> 16 & 0xff, 0}, interpAMD64},
	// movz x19, #dataAddr>>16, lsl #16; movk x19, #dataAddr&0xffff
	"arm64": {183, binary.LittleEndian.AppendUint32(
		binary.LittleEndian.AppendUint32(nil, 0xd2a00013|dataAddr>>16<<5), 0xf2800013|dataAddr&0xffff<<5), interpARM64},
}

// hideReport comes before the calls of every program.
var hideReport = Call{
	Name: "close the report pipe on exec", Nr: unix.SYS_FCNTL,
	Args: []Arg{Int(ReportFD), Sym{"F_SETFD", unix.F_SETFD}, Sym{"FD_CLOEXEC", unix.FD_CLOEXEC}},
}

// Compile returns the program as a static ELF executable for arch, "amd64" or "arm64". It depends
// only on its arguments. Errors name the call that cannot be compiled.
func (p Program) Compile(arch string) ([]byte, error) {
	m, ok := machines[arch]
	if !ok {
		return nil, fmt.Errorf("compile a program for %q: only amd64 and arm64 are supported", arch)
	}
	data, err := append(Program{hideReport}, p...).assemble(arch, dataAddr, kindFailure, ReportFD)
	if err != nil {
		return nil, fmt.Errorf("compile a program for %s: %w", arch, err)
	}
	code := append(append([]byte{}, m.entry...), m.interp...)
	if codeOff+len(code) > dataOff {
		return nil, fmt.Errorf("compile a program for %s: the interpreter's %d bytes do not fit", arch, len(code))
	}
	le := binary.LittleEndian
	out := make([]byte, 0, dataOff+len(data))
	out = append(out, 0x7f, 'E', 'L', 'F', 2, 1, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0)
	out = le.AppendUint16(out, 2) // ET_EXEC
	out = le.AppendUint16(out, m.elf)
	out = le.AppendUint32(out, 1)
	out = le.AppendUint64(out, codeBase+codeOff) // e_entry
	out = le.AppendUint64(out, elfSize)          // e_phoff
	out = le.AppendUint64(out, 0)
	out = le.AppendUint32(out, 0)
	for _, v := range []uint16{elfSize, phSize, 3, 0, 0, 0} {
		out = le.AppendUint16(out, v)
	}
	segment := func(kind, flags uint32, off, addr, size, align uint64) {
		out = le.AppendUint32(out, kind)
		out = le.AppendUint32(out, flags)
		for _, v := range []uint64{off, addr, addr, size, size, align} {
			out = le.AppendUint64(out, v)
		}
	}
	const load, stack, x, w, r = 1, 0x6474e551, 1, 2, 4
	segment(load, r|x, 0, codeBase, uint64(codeOff+len(code)), 0x10000)
	segment(load, r|w, dataOff, dataAddr, uint64(len(data)), 0x10000)
	segment(stack, r|w, 0, 0, 0, 16)
	out = append(out, code...)
	out = append(out, make([]byte, dataOff-len(out))...)
	return append(out, data...), nil
}
