// SPDX-License-Identifier: Apache-2.0

package mount_test

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"sysbox/runtime/host"
	"sysbox/tests/testcontainer"
)

// TestKernelFiles: the host's modules and headers are there to be read by everybody's rights
// alone; root can unmount them and remove the directory, and writes nothing.
func TestKernelFiles(t *testing.T) {
	if os.Getuid() != 0 {
		t.Skip("makes containers, which takes root")
	}
	dir := fmt.Sprintf("/usr/src/sysbox-test-%d", os.Getpid())
	if err := os.MkdirAll(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	for name, mode := range map[string]os.FileMode{"open": 0o644, "closed": 0o600, "setuid": 0o4755} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(name+"\n"), 0o600); err != nil {
			t.Fatal(err)
		}
		if err := unix.Chmod(filepath.Join(dir, name), uint32(mode)); err != nil {
			t.Fatal(err)
		}
	}
	dirs := host.Facts().HostDirs
	dirs[dir] = true
	defer delete(dirs, dir)
	out, status := testcontainer.Run(t, nil, "sh", "-c", strings.ReplaceAll(`cat D/open; cat D/closed 2>/dev/null || echo closed; touch D/x 2>/dev/null || echo read-only
		mount -o remount,bind,rw D; (echo y >D/open) 2>/dev/null || echo no right
		umount D && busybox rmdir D && echo removed`, "D", dir))
	if want := "open\nclosed\nread-only\nno right\nremoved\n"; out != want || status != 0 {
		t.Errorf("exit status %d, %q, want %q", status, out, want)
	}
}
