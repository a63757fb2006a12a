// SPDX-License-Identifier: Apache-2.0

package e2e

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"github.com/containerd/containerd/v2/core/containers"
	"github.com/containerd/containerd/v2/pkg/cio"
	"github.com/containerd/containerd/v2/pkg/oci"
	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"sysbox/tests/images"
	"sysbox/tests/peers"
	"sysbox/tests/testcontainer"
)

// diskRows are what people do with a disk, each with what it must print at its end. The
// file system is mounted by a server of the container's own, fuse2fs.
var diskRows = []struct{ name, script, want string }{
	{"mount, of a type", file("disk-mount.sh"), "/dev/disk fuse.ext4"},
	{"what was written is there again, at once", file("disk-again.sh"), "15"},
	{"mount, of a type that is found out", `mount /dev/disk /mnt && head -n 1 /mnt/file && umount /mnt`, "kept"},
	{"read-only", file("disk-read-only.sh"), "Read-only file system"},
	{"from fstab", file("disk-fstab.sh"), "kept\ngone"},
	{"owners and modes, also for other users", file("disk-owners.sh"), "Permission denied\nd/of-group 7:2000\nd/own 1000:1000"},
	{"further groups, where the server leaves rights to the kernel", file("disk-groups.sh"), "Permission denied\n7:7"},
	{"programs, with their set-user-id", file("disk-set-user-id.sh"), "0\n7"},
	{"links, files with holes, long names", file("disk-links.sh"), "kept"},
	{"a unit of systemd's", file("disk-unit.sh"), "kept\nstopped"},
	{"a mount unit of systemd's, of a node that is not in /dev", file("disk-mount-unit.sh"), "kept\nstopped"},
	{"no server outlives its mount", file("disk-no-server.sh"), "none"},
	{"what is no ext4", `mount -t ext4 /dev/empty /mnt`, "missing codepage or helper program, or other error."},
	{"a type without a server", `mount -t xfs /dev/disk /mnt`, "permission denied."},
	{"the same disk twice", `mount -t ext4 /dev/disk /mnt && mount -t ext4 /dev/disk /srv; umount /mnt`, "/dev/disk already mounted on /mnt."},
	{"it is whole after all", `e2fsck -fn /dev/disk >/dev/null 2>&1; echo $?`, "0"},
}

// diskSuites are Debian 12, whose mount(8) knows mount(2) only, and 13, whose has the
// newer calls.
var diskSuites = []string{"bookworm", "trixie"}

// TestDisks: a block device that a container was given is mounted from inside by
// mount(8), through FUSE.
func TestDisks(t *testing.T) {
	for _, suite := range diskSuites {
		t.Run(suite, func(t *testing.T) {
			h := on(t, peers.Newest)
			disk, _ := testcontainer.LoopDevice(t, 64<<20)
			empty, _ := testcontainer.LoopDevice(t, 64<<20)
			h.configure(t, fmt.Sprintf("block_devices = [%q, %q]\nfuse_mounts = {ext4 = \"fuse2fs\", ext3 = \"fuse2fs -o fakeroot\"}\n", disk, empty))
			archive, err := images.Disks(suite)
			if err != nil {
				t.Fatal(err)
			}
			image, err := h.Load(background(t), archive)
			if err != nil {
				t.Fatal(err)
			}
			task, _ := h.task(t, h.container(t, image, oci.WithNewPrivileges, oci.WithDevices(disk, "/dev/disk", "rwm"), oci.WithDevices(empty, "/dev/empty", "rwm"), second(disk, "/disks/one")), cio.NullIO)
			// A module that fuse3 wants loaded is looked for in /lib/modules, which not every host has.
			up := fmt.Sprintf("for i in $(seq %d); do case $(systemctl is-system-running 2>&1) in running|degraded) exit;; esac; sleep 0.2; done; exit 1", int(450*patience()))
			if out, status := h.exec(t, task, privileged, "sh", "-c", up); status != 0 {
				t.Fatalf("systemd is not up: exit status %d, %s", status, out)
			}
			for _, r := range diskRows {
				out, status := h.exec(t, task, privileged, "timeout", "-k", "5", strconv.Itoa(int(170*patience())), "sh", "-c", "exec 2>&1; "+r.script)
				if !strings.Contains(strings.TrimSpace(out), r.want) {
					t.Errorf("%s: exit status %d, output:\n%s\nwant: %s", r.name, status, out, r.want)
				}
				t.Logf("%s:\n%s", r.name, out)
			}
		})
	}
}

// second adds another node of a device.
func second(device, at string) oci.SpecOpts {
	return func(_ context.Context, _ oci.Client, _ *containers.Container, s *oci.Spec) error {
		var st unix.Stat_t
		if err := unix.Stat(device, &st); err != nil {
			return err
		}
		s.Linux.Devices = append(s.Linux.Devices, specs.LinuxDevice{Path: at, Type: "b", Major: int64(unix.Major(st.Rdev)), Minor: int64(unix.Minor(st.Rdev))})
		return nil
	}
}

// configure adds to the configuration of shims until the test's end.
func (h *host) configure(t *testing.T, lines string) {
	t.Helper()
	name := filepath.Join(h.Dir, "sysbox.toml")
	before, err := os.ReadFile(name)
	if err == nil {
		err = os.WriteFile(name, append(before[:len(before):len(before)], lines...), 0o600)
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := os.WriteFile(name, before, 0o600); err != nil {
			t.Error(err)
		}
	})
}
