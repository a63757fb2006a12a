// SPDX-License-Identifier: Apache-2.0

package rootfs

import (
	"os"
	"slices"
	"testing"

	"golang.org/x/sys/unix"

	"sysbox/runtime/sys"
)

// TestOverlayAtCovered: of two overlays on one folder, the one that a path leads to is meant,
// although mountinfo lists it first: it was made first, and moved there.
func TestOverlayAtCovered(t *testing.T) {
	t.Parallel()
	if os.Getuid() != 0 {
		t.Skip("mounts, which takes root")
	}
	dir := t.TempDir()
	for _, name := range []string{"a", "b", "c", "top", "root"} {
		if err := os.Mkdir(dir+"/"+name, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	over := func(lower, at string) error {
		return sys.Mount("overlay", dir+"/"+at, "overlay", 0, "lowerdir="+dir+"/"+lower+":"+dir+"/c")
	}
	var got []string
	err := sys.Thread(func() (err error) {
		if err := sys.Unshare(unix.CLONE_FS | unix.CLONE_NEWNS); err != nil {
			return err
		}
		if err := sys.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""); err != nil {
			return err
		}
		if err := over("a", "top"); err != nil {
			return err
		}
		if err := over("b", "root"); err != nil {
			return err
		}
		if err := sys.Mount(dir+"/top", dir+"/root", "", unix.MS_MOVE, ""); err != nil {
			return err
		}
		got, err = overlayAt(dir + "/root")
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	if want := "lowerdir=" + dir + "/a:" + dir + "/c"; !slices.Contains(got, want) {
		t.Errorf("options are %q; want those of the overlay on top, %s", got, want)
	}
}
