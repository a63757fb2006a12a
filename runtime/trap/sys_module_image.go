// SPDX-License-Identifier: Apache-2.0

package trap

import (
	"bufio"
	"bytes"
	"encoding/binary"
	"io"

	"golang.org/x/sys/unix"
)

// maxImage bounds how much of a module's image is read.
const maxImage = 64 << 20

// image is a range of a caller's memory.
type image struct {
	c    *caller
	addr uint64
	size uint64
}

// ReadAt implements io.ReaderAt.
func (m *image) ReadAt(b []byte, off int64) (int, error) {
	if off < 0 || uint64(off) >= m.size {
		return 0, io.EOF
	}
	n := min(uint64(len(b)), m.size-uint64(off))
	if err := m.c.read(m.addr+uint64(off), b[:n]); err != nil {
		return 0, err
	}
	if n < uint64(len(b)) {
		return int(n), io.EOF
	}
	return int(n), nil
}

// The parts of ELF files that are read, elf(5). Modules of all kernels that the shim supports are
// 64-bit and little-endian.
const (
	ehdrSize = 64
	shdrSize = 64
	progbits = 1 // SHT_PROGBITS
	// maxInfo bounds the size of .modinfo. Those of the kernel's own modules have some kilobytes.
	maxInfo = 64 << 10
)

// imageName returns the name in a module's .modinfo.
//
// The image comes from the container, so it must not be given to a library that reads all tables
// into memory and decompresses sections. debug/elf turns an image of one megabyte into gigabytes,
// in the shim, where no limit of the container applies. This function uses some kilobytes,
// whatever the image contains.
func imageName(r io.ReaderAt) (string, error) {
	var e [ehdrSize]byte
	if !readFull(r, e[:], 0) || string(e[:6]) != "\x7fELF\x02\x01" {
		return "", unix.ENOEXEC
	}
	le := binary.LittleEndian
	table, size, n, names := le.Uint64(e[40:]), le.Uint16(e[58:]), le.Uint16(e[60:]), le.Uint16(e[62:])
	if table > maxImage || size != shdrSize || names >= n {
		return "", unix.ENOEXEC
	}
	var h [shdrSize]byte
	if !readFull(r, h[:], int64(table)+int64(names)*shdrSize) {
		return "", unix.ENOEXEC
	}
	strings := le.Uint64(h[24:])
	if strings > maxImage {
		return "", unix.ENOEXEC
	}
	headers := bufio.NewReader(io.NewSectionReader(r, int64(table), int64(n)*shdrSize))
	for range n {
		if _, err := io.ReadFull(headers, h[:]); err != nil {
			return "", unix.ENOEXEC
		}
		const section = ".modinfo\x00"
		var name [len(section)]byte
		if le.Uint32(h[4:]) != progbits || !readFull(r, name[:], int64(strings)+int64(le.Uint32(h[0:]))) || string(name[:]) != section {
			continue
		}
		at, size := le.Uint64(h[24:]), le.Uint64(h[32:])
		if at > maxImage || size > maxInfo {
			return "", unix.ENOEXEC
		}
		info := make([]byte, size)
		if !readFull(r, info, int64(at)) {
			return "", unix.ENOEXEC
		}
		for entry := range bytes.SplitSeq(info, []byte{0}) {
			if name, ok := bytes.CutPrefix(entry, []byte("name=")); ok {
				return string(name), nil
			}
		}
		return "", unix.ENOEXEC
	}
	return "", unix.ENOEXEC
}

// readFull reads all of b at an offset.
func readFull(r io.ReaderAt, b []byte, off int64) bool {
	n, _ := r.ReadAt(b, off)
	return n == len(b)
}
