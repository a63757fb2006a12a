// SPDX-License-Identifier: Apache-2.0

package syscalls

import (
	"maps"
	"regexp"
	"runtime"
	"testing"

	"golang.org/x/sys/unix"
)

var arches = []Arch{AMD64, I386, X32, ARM64, ARM}

// TestTables: the generated text has the form that the look-ups need, and each look-up finds
// what the table has.
func TestTables(t *testing.T) {
	form := regexp.MustCompile(`^([a-z_][a-z0-9_]* [0-9]{1,5} )+$`)
	for _, a := range arches {
		texts, bit := tables(a)
		for _, text := range texts {
			if text != "" && !form.MatchString(text) {
				t.Errorf("the table of %s is not a list of names and numbers: %.80q", a, text)
			}
		}
		names := map[uint32]string{}
		for name, n := range All(a) {
			if names[n] != "" {
				t.Errorf("%s: %s and %s both have the number %d", a, names[n], name, n)
			}
			names[n] = name
			if got, ok := Number(a, name); !ok || got != n || n&bit != bit {
				t.Errorf("Number(%s, %s) = %d, %v; the table has %d", a, name, got, ok, n)
			}
		}
		if len(names) < 300 {
			t.Errorf("%s has %d system calls", a, len(names))
		}
		for n, name := range names {
			if got, ok := Name(a, n); !ok || got != name {
				t.Fatalf("Name(%s, %d) = %q, %v; the table has %s", a, n, got, ok, name)
			}
		}
	}
}

// TestKnown: numbers that the kernel's headers have.
func TestKnown(t *testing.T) {
	for _, c := range []struct {
		arch Arch
		name string
		want uint32
	}{
		{AMD64, "read", 0},
		{I386, "read", 3},
		{ARM64, "read", 63},
		{ARM, "read", 3},
		{X32, "read", 0x40000000},
		{X32, "ioctl", 0x40000000 + 514},
		{AMD64, "ioctl", 16},
		{AMD64, "mount", 165},
		{AMD64, "umount2", 166},
		{ARM64, "mknodat", 33},
	} {
		if got, ok := Number(c.arch, c.name); !ok || got != c.want {
			t.Errorf("Number(%s, %s) = %d, %v, want %d", c.arch, c.name, got, ok, c.want)
		}
	}
	if got, ok := Name(Arch(runtime.GOARCH), unix.SYS_OPEN_TREE); !ok || got != "open_tree" {
		t.Errorf("the native open_tree is named %q, %v", got, ok)
	}
	for _, none := range []string{"", "rea", "ead", "0", "165", "mount 165"} {
		if n, ok := Number(AMD64, none); ok {
			t.Errorf("Number(amd64, %q) = %d", none, n)
		}
	}
	if n, ok := Number("mips", "read"); ok {
		t.Errorf("mips has no table, and read the number %d", n)
	}
	if name, ok := Name(AMD64, 1<<31); ok {
		t.Errorf("1<<31 is named %q", name)
	}
	if got := maps.Collect(All("mips")); len(got) != 0 {
		t.Errorf("mips has %d system calls and no table", len(got))
	}
}

func BenchmarkNumber(b *testing.B) {
	for b.Loop() {
		if _, ok := Number(AMD64, "open_tree"); !ok {
			b.Fatal("open_tree is not there")
		}
	}
}

func BenchmarkName(b *testing.B) {
	for b.Loop() {
		if _, ok := Name(AMD64, 428); !ok {
			b.Fatal("428 is not there")
		}
	}
}
