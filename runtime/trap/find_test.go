// SPDX-License-Identifier: Apache-2.0

package trap

import (
	"runtime"
	"testing"

	"golang.org/x/sys/unix"
)

// TestFind: the same number is another call by each entry of the kernel.
func TestFind(t *testing.T) {
	if runtime.GOARCH != "amd64" {
		t.Skip("the numbers are amd64's")
	}
	const x64, x86, x32 = unix.AUDIT_ARCH_X86_64, unix.AUDIT_ARCH_I386, 0x40000000
	for _, c := range []struct {
		arch uint32
		nr   int32
		want string
	}{
		{x64, 133, "mknod"},
		{x64, 165, "mount"},
		{x64, x32 | 133, "mknod"},
		{x64, x32 | 165, "mount"},
		{x64, x32 | 99, "sysinfo"},
		{x64, x32 | 467, "open_tree_attr"},
		{x86, 14, "mknod"},
		{x86, 21, "mount"},
		{x86, 116, "sysinfo"},
		{x86, 430, "fsopen"},
		{x64, 14, ""},                     // rt_sigprocmask
		{x64, x32 | 14, ""},               // the same
		{x64, x32 | 21, ""},               // access
		{x86, 133, ""},                    // fchdir
		{x86, x32 | 14, ""},               // i386 has no such numbers
		{x64, -1<<31 | 133, ""},           // nor has anybody these
		{x64, -1, ""},                     // nor this
		{unix.AUDIT_ARCH_AARCH64, 33, ""}, // mknodat, of another machine
	} {
		h := find(&notification{arch: c.arch, nr: c.nr})
		name := ""
		if h != nil {
			name = h.name
		}
		if name != c.want {
			t.Errorf("number %#x of %#x is %q, want %q", c.nr, c.arch, name, c.want)
		}
	}
	for _, h := range handlers {
		for arch, bit := range map[string]uint32{"x86_64": 0, "x32": x32} {
			n := 0
			for nr := range int32(1000) {
				if found := find(&notification{arch: x64, nr: int32(bit) | nr}); found != nil && found.name == h.name {
					n++
				}
			}
			if n != 1 {
				t.Errorf("%s has %d numbers by %s", h.name, n, arch)
			}
		}
	}
}
