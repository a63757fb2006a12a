package trap

import (
	"bufio"
	"bytes"
	"encoding/binary"
	"io"

	"golang.org/x/sys/unix"
)

// maxImage is how much of a module's image is looked at.
const maxImage = 64 << 20

// image is a part of a caller's memory.
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

// What is read of ELF files, elf(5): 64-bit and little-endian, as the modules of all
// kernels that this program runs on are.
const (
	ehdrSize = 64
	shdrSize = 64
	progbits = 1 // SHT_PROGBITS
	// maxInfo is how long a .modinfo may be; the kernel's own have some kilobytes.
	maxInfo = 64 << 10
)

// imageName reads the name out of a module's .modinfo.
//
// The image is the container's, so it is not for a library that reads all of a file's
// tables into memory and expands what is compressed in them: debug/elf makes
// gigabytes of an image of one megabyte, in the shim, which no limit of the container's
// holds for. This takes some kilobytes, whatever the image says.
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
