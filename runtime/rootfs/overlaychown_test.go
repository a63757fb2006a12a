// SPDX-License-Identifier: Apache-2.0

package rootfs_test

import (
	"os"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"sysbox/runtime/plan"
	"sysbox/runtime/rootfs"
	"sysbox/uidmap"
)

// TestChownedOverlay: where no layer can be shifted, the whole tree goes to the
// upper layer, the image's files stay as they are, and Revert finds the rest.
func TestChownedOverlay(t *testing.T) {
	t.Parallel()
	for _, attached := range []bool{false, true} {
		dir, options := layered(t, 3)
		lower := dir + "/lower:0"
		su := lower + "/su"
		if err := os.WriteFile(su, []byte("x"), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := unix.Chmod(su, 0o4755); err != nil {
			t.Fatal(err)
		}
		journal, told, upper := t.TempDir()+"/chown", "", dir+"/snap/fs"
		r := rootfs.Config{
			Dir: dir + "/root", Shift: true, ForceChown: true, ForceAttached: attached, Journal: journal,
			BeforeChown: func(root string) error { told = root; return nil },
			Mounts:      []plan.RootfsMount{{Type: "overlay", Options: options}},
		}
		err := mounted(t, r, func(root string) {
			for _, name := range []string{"", "f0", "f1", "f2", "su"} {
				owned(t, root+name, ids[0].HostID)
			}
			if st, err := os.Stat(root + "su"); err != nil || st.Mode()&os.ModeSetuid == 0 {
				t.Errorf("su: %v, %v", st.Mode(), err)
			}
			if err := os.Remove(root + "f1"); err != nil {
				t.Error(err)
			}
		})
		if err != nil {
			t.Fatal(err)
		}
		if told != upper {
			t.Errorf("told of %q before the first chown, want %q", told, upper)
		}
		owned(t, journal, 0) // although the thread had the container's fsuid
		owned(t, su, 0)
		owned(t, upper+"/su", ids[0].HostID)
		if err := uidmap.Revert(journal, upper); err != nil {
			t.Fatal(err)
		}
		for _, name := range []string{"", "/f0", "/f1", "/su"} { // f1 is a whiteout now
			owned(t, upper+name, 0)
		}
		if st, err := os.Stat(upper + "/su"); err != nil || st.Mode()&os.ModeSetuid == 0 {
			t.Errorf("after Revert su: %v, %v", st.Mode(), err)
		}
		if _, err := uidmap.FinishReverts(journal); err != nil {
			t.Fatal(err)
		}
		if left, err := os.ReadDir(journal); err != nil || len(left) > 0 {
			t.Errorf("journals left: %v, %v", left, err)
		}
	}
}

// TestImagesAreNotChowned: what is given read-only may be shared.
func TestImagesAreNotChowned(t *testing.T) {
	t.Parallel()
	dir, _ := layered(t, 2)
	one, two := dir+`/lower\:0`, dir+`/lower\:1`
	for _, m := range []plan.RootfsMount{
		{Type: "overlay", Options: []string{"lowerdir=" + one + ":" + two}},
		{Type: "overlay", Options: []string{"lowerdir=" + one}},
		{Type: "bind", Source: dir + "/lower:0", Options: []string{"rbind", "ro"}},
	} {
		r := rootfs.Config{Dir: dir + "/root", Shift: true, ForceChown: true, Journal: t.TempDir(), Mounts: []plan.RootfsMount{m}}
		if err := mounted(t, r, func(string) {}); err == nil || !strings.Contains(err.Error(), "writable") {
			t.Errorf("%s %v: %v", m.Type, m.Options, err)
		}
	}
	owned(t, dir+"/lower:0", 0)
	owned(t, dir+"/lower:1/f1", 0)
}
