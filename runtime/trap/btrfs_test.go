// SPDX-License-Identifier: Apache-2.0

package trap_test

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"sysbox/tests/testcontainer"
)

// TestNodesOnBtrfs: files of a btrfs subvolume have another device number than its file
// system. It is the host's all the same, where a node is one and not a bind.
func TestNodesOnBtrfs(t *testing.T) {
	if os.Getuid() != 0 {
		t.Skip("mounts an image, which takes root")
	}
	filesystems, err := os.ReadFile("/proc/filesystems")
	if err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(string(filesystems), "\tbtrfs\n") {
		t.Skip("this kernel has no btrfs, or has not loaded it")
	}
	dir := t.TempDir()
	image, at := filepath.Join(dir, "image"), filepath.Join(dir, "a b") // mountinfo writes the space otherwise
	for _, args := range [][]string{
		{"truncate", "-s", "128M", image},
		{"mkfs.btrfs", "-q", image},
		{"mkdir", at},
		{"mount", "-o", "loop", image, at},
	} {
		if out, err := exec.Command(args[0], args[1:]...).CombinedOutput(); err != nil {
			t.Fatalf("%q: %v: %s", args, err, out)
		}
		if args[0] == "mount" {
			t.Cleanup(func() {
				if err := unix.Unmount(at, 0); err != nil {
					t.Error(err)
				}
			})
		}
	}
	top, err := os.Open(at)
	if err != nil {
		t.Fatal(err)
	}
	var args [4096]byte // struct btrfs_ioctl_vol_args: 8 bytes, then the name
	copy(args[8:], "sub")
	_, _, e := unix.Syscall(unix.SYS_IOCTL, top.Fd(), 0x5000940e, address(args[:])) // BTRFS_IOC_SUBVOL_CREATE
	top.Close()
	if e != 0 {
		t.Fatal("create a subvolume: ", e)
	}
	out, status := testcontainer.Run(t, func(s *specs.Spec) {
		s.Mounts = append(s.Mounts, specs.Mount{Destination: "/sub volume", Type: "bind", Source: at + "/sub", Options: []string{"rbind", "rw"}})
	}, "sh", "-c", "mknod '/sub volume/n' c 1 3 && echo x >'/sub volume/n' && busybox rm '/sub volume/n' && echo removed")
	if out != "removed\n" || status != 0 {
		t.Errorf("exit status %d, output %q", status, out)
	}
}
