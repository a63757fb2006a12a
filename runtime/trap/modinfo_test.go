// SPDX-License-Identifier: Apache-2.0

package trap

import (
	"bytes"
	"debug/elf"
	"encoding/binary"
	"io"
	"runtime"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// moduleImage is an image as a compiler makes it: sections of these names, the second of
// which has the content.
func moduleImage(names []string, content string) []byte {
	var table bytes.Buffer
	offsets := make([]uint32, len(names))
	for i, n := range names {
		offsets[i] = uint32(table.Len())
		table.WriteString(n + "\x00")
	}
	return rawImage(offsets, table.Bytes(), content)
}

func rawImage(offsets []uint32, table []byte, content string) []byte {
	const header, entry = 64, 64
	h := elf.Header64{Type: uint16(elf.ET_REL), Machine: uint16(elf.EM_X86_64), Version: 1, Ehsize: header, Shentsize: entry, Shnum: uint16(len(offsets)), Shstrndx: uint16(len(offsets) - 1)}
	copy(h.Ident[:], elf.ELFMAG)
	h.Ident[elf.EI_CLASS], h.Ident[elf.EI_DATA], h.Ident[elf.EI_VERSION] = byte(elf.ELFCLASS64), byte(elf.ELFDATA2LSB), 1
	h.Shoff = header + uint64(len(table)+len(content))
	var b []byte
	b, _ = binary.Append(b, binary.LittleEndian, &h)
	b = append(append(b, table...), content...)
	for i, o := range offsets {
		s := elf.Section64{Name: o, Type: uint32(elf.SHT_PROGBITS), Off: header}
		switch i {
		case 0:
			s.Type = uint32(elf.SHT_NULL)
		case 1:
			s.Off, s.Size = header+uint64(len(table)), uint64(len(content))
		case len(offsets) - 1:
			s.Type, s.Size = uint32(elf.SHT_STRTAB), uint64(len(table))
		}
		b, _ = binary.Append(b, binary.LittleEndian, &s)
	}
	return b
}

const someInfo = "license=GPL\x00name=dummy\x00vermagic=6.18\x00"

// hugeNames is an image whose sections all have one name of a megabyte.
func hugeNames(sections int) []byte {
	return rawImage(make([]uint32, sections), append(bytes.Repeat([]byte("x"), 1<<20-2), 0), someInfo)
}

// measuredName is imageName, and an error if it costs more memory than it may.
func measuredName(t *testing.T, r io.ReaderAt) (string, error) {
	t.Helper()
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	name, err := imageName(r)
	runtime.ReadMemStats(&after)
	if cost := after.TotalAlloc - before.TotalAlloc; cost > 8<<20 {
		t.Errorf("the image cost %d bytes of memory", cost)
	}
	return name, err
}

// TestImageName: the name of a module is found, and images that are made to be costly
// cost nothing.
func TestImageName(t *testing.T) {
	many := make([]string, 700)
	for i := range many {
		many[i] = strings.Repeat("s", i%9)
	}
	late := append(many, ".modinfo", ".shstrtab")
	for _, c := range []struct {
		what  string
		image []byte
		name  string
	}{
		{"a module", moduleImage([]string{"", ".modinfo", ".shstrtab"}, someInfo), "dummy"},
		{"no name", moduleImage([]string{"", ".modinfo", ".shstrtab"}, "license=GPL\x00rename=x\x00"), ""},
		{"no information", moduleImage([]string{"", ".modinfo2", ".shstrtab"}, someInfo), ""},
		{"empty information after many sections", moduleImage(late, ""), ""},
		{"names of a gigabyte together", hugeNames(1000), ""},
		{"nothing", nil, ""},
	} {
		name, err := measuredName(t, bytes.NewReader(c.image))
		if name != c.name || (err == nil) != (c.name != "") || err != nil && err != unix.ENOEXEC {
			t.Errorf("%s: %q, %v", c.what, name, err)
		}
	}
}

// FuzzImageName: an image of a container's costs little, never panics, and gives the name
// that another reader of ELF finds.
func FuzzImageName(f *testing.F) {
	whole := moduleImage([]string{"", ".modinfo", ".text", ".shstrtab"}, someInfo)
	f.Add(whole)
	f.Add(whole[:100])
	f.Add(moduleImage([]string{"", ".modinfo", ".modinfo", ".shstrtab"}, "name=\x00"))
	f.Fuzz(func(t *testing.T, b []byte) {
		name, err := measuredName(t, bytes.NewReader(b))
		if err != nil && (err != unix.ENOEXEC || name != "") {
			t.Fatalf("%q, %v", name, err)
		}
		if err == nil && !bytes.Contains(b, []byte("name="+name)) {
			t.Errorf("the name %q is not in the image", name)
		}
		if n := moduleName(name); strings.Trim(n, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_") != "" {
			t.Errorf("%q became %q, which modprobe would be called with", name, n)
		}
		if len(b) > 1<<12 {
			return // the other reader may take long
		}
		e, elfErr := elf.NewFile(bytes.NewReader(b))
		if elfErr != nil || e.Class != elf.ELFCLASS64 || e.Data != elf.ELFDATA2LSB {
			return
		}
		s := e.Section(".modinfo")
		if s == nil || s.Flags&elf.SHF_COMPRESSED != 0 {
			return
		}
		content, elfErr := s.Data()
		if elfErr != nil {
			return
		}
		want := ""
		for entry := range bytes.SplitSeq(content, []byte{0}) {
			if n, ok := bytes.CutPrefix(entry, []byte("name=")); ok {
				want = string(n)
				break
			}
		}
		if err == nil && name != want {
			t.Errorf("the name is %q, debug/elf finds %q", name, want)
		}
	})
}
