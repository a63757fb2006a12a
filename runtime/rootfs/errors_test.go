// SPDX-License-Identifier: Apache-2.0

package rootfs_test

import (
	"strings"
	"testing"

	"sysbox/runtime/plan"
	"sysbox/runtime/rootfs"
)

// TestErrorTexts: a user reads what the kernel would not take, in the words of the mount that
// the caller gave, and the kernel's own message behind it.
func TestErrorTexts(t *testing.T) {
	t.Parallel()
	dir, overlay := layered(t, 2)
	for name, c := range map[string]struct {
		mount plan.RootfsMount
		want  string
	}{
		"an option": {
			plan.RootfsMount{Type: "overlay", Options: append([]string{"wibble=1"}, overlay...)},
			"overlay: wibble=1: invalid argument",
		},
		"a flag of another type": {
			plan.RootfsMount{Type: "tmpfs", Source: "tmpfs", Options: []string{"wibble"}},
			"tmpfs: wibble: invalid argument: tmpfs: Unknown parameter 'wibble'",
		},
		"a layer that is missing": {
			plan.RootfsMount{Type: "overlay", Options: []string{"lowerdir=/missing:/tmp"}},
			"a layer of the root file system: open_tree /missing: no such file or directory",
		},
		"a type": {
			plan.RootfsMount{Type: "wibblefs", Source: "/x"},
			`the root file system of type "wibblefs": fsopen wibblefs: no such device`,
		},
		"a file system without shifts": {
			plan.RootfsMount{Type: "proc", Source: "proc"},
			`the root file system of type "proc": the file system or the kernel cannot shift ids (idmapped mount): mount_setattr on a kernel file system: invalid argument; use a snapshotter that mounts overlays`,
		},
	} {
		err := mounted(t, rootfs.Config{Dir: dir + "/root", Shift: true, Mounts: []plan.RootfsMount{c.mount}}, func(string) {})
		if err == nil || !strings.HasPrefix(err.Error(), c.want) {
			t.Errorf("%s: %v\nwant %s, and no more than the kernel's message behind it", name, err, c.want)
		}
	}
}
