// SPDX-License-Identifier: Apache-2.0

package trap_test

import (
	"bytes"
	"compress/zlib"
	"encoding/binary"
	"errors"
	"fmt"
	"testing"

	"golang.org/x/sys/unix"

	"sysbox/tests/testcontainer"
)

// TestModuleBombs: images that are small for the container and would be huge for who
// reads all that they promise. The shim's memory is not the container's to fill.
func TestModuleBombs(t *testing.T) {
	before := testcontainer.Allocated()
	out, status := moduleBombsInside.Run(t, nil)
	if status != 0 {
		t.Error(out)
	}
	if grown := testcontainer.Allocated() - before; grown > 64<<20 {
		t.Errorf("%d MiB were taken to look at such images", grown>>20)
	}
}

var moduleBombsInside = testcontainer.Inside("module bombs", func() error {
	var errs []error
	for name, image := range map[string][]byte{"compressed names": compressedNames(), "a million sections": manySections()} {
		if err := initModule(image); err != unix.ENOEXEC && err != unix.ENOSYS {
			errs = append(errs, fmt.Errorf("%s: %w, want %w", name, err, unix.ENOEXEC))
		}
	}
	return errors.Join(errs...)
})

// compressedNames is an ELF file whose section names are 256 MiB of zeros, compressed.
func compressedNames() []byte {
	const size = 256 << 20
	var z bytes.Buffer
	_ = binary.Write(&z, binary.LittleEndian, []uint64{1, size, 1}) // struct Elf64_Chdr
	w := zlib.NewWriter(&z)
	for range size >> 20 {
		_, _ = w.Write(make([]byte, 1<<20))
	}
	w.Close()
	image := moduleImage("x")
	names := binary.LittleEndian.Uint64(image[40:]) + 2*64 // the last section's header
	at := uint64(len(image))
	binary.LittleEndian.PutUint64(image[names+8:], 1<<11) // SHF_COMPRESSED
	binary.LittleEndian.PutUint64(image[names+24:], at)
	binary.LittleEndian.PutUint64(image[names+32:], uint64(z.Len()))
	return append(image, z.Bytes()...)
}

// manySections is an ELF file with as many sections as 64 MiB have room for, all empty.
func manySections() []byte {
	const n = 1<<20 - 1
	image := append(moduleImage("x")[:64], make([]byte, n*64)...)
	binary.LittleEndian.PutUint64(image[40:], 64)
	binary.LittleEndian.PutUint16(image[60:], 0)    // e_shnum: see the first section
	binary.LittleEndian.PutUint16(image[62:], 0)    // e_shstrndx
	binary.LittleEndian.PutUint64(image[64+32:], n) // its sh_size
	return image
}
