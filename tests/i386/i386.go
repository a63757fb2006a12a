// SPDX-License-Identifier: Apache-2.0

// Package i386 makes 32-bit programs for tests of calls by the entry of the i386.
//
// What does not belong here: the programs' code, which the tests have.
package i386

import (
	"encoding/binary"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"syscall"
)

// Code is the address at which an executable's code begins.
const Code = base + headers

const (
	base    = 0x10000 // the lowest that vm.mmap_min_addr allows
	headers = 52 + 32
)

// Executable is a program of this code for the i386, which may write to what follows it
// in code, elf(5): Elf32_Ehdr, Elf32_Phdr.
func Executable(code []byte) []byte {
	le := binary.LittleEndian
	out := append([]byte("\x7fELF\x01\x01\x01"), make([]byte, 9)...)
	for _, v := range []uint16{2, 3} { // ET_EXEC, EM_386
		out = le.AppendUint16(out, v)
	}
	for _, v := range []uint32{1, Code, 52, 0, 0} { // version, entry, program headers, sections, flags
		out = le.AppendUint32(out, v)
	}
	for _, v := range []uint16{52, 32, 1, 0, 0, 0} {
		out = le.AppendUint16(out, v)
	}
	total := uint32(headers + len(code))
	for _, v := range []uint32{1, 0, base, base, total, total, 7, 4096} { // one segment
		out = le.AppendUint32(out, v)
	}
	return append(out, code...)
}

// Runs tells whether the kernel runs such programs: it may be built without, have it
// switched off, or run on a hypervisor that has 64-bit processes only. One is run.
func Runs() (runs bool, err error) {
	if runtime.GOARCH != "amd64" {
		return false, nil
	}
	dir, err := os.MkdirTemp("", "i386-*")
	if err != nil {
		return false, err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	name := filepath.Join(dir, "exit")
	// mov $1,%eax (exit); xor %ebx,%ebx; int $0x80
	code := []byte{0xb8, 1, 0, 0, 0, 0x31, 0xdb, 0xcd, 0x80}
	if err := os.WriteFile(name, Executable(code), 0o700); err != nil {
		return false, err
	}
	if err = exec.Command(name).Run(); errors.Is(err, syscall.ENOEXEC) {
		return false, nil
	}
	return err == nil, err
}
