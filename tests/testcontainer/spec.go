// SPDX-License-Identifier: Apache-2.0

package testcontainer

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"
)

// Ordinary makes a container one that is no system container.
func Ordinary(s *specs.Spec) { s.Process.Env = append(s.Process.Env, "SYSBOX_SYSCONT_MODE=FALSE") }

// LoopDevice makes a block device of this many bytes, and tells its number.
func LoopDevice(t testing.TB, size int64) (path string, rdev uint64) {
	t.Helper()
	if _, err := os.Stat("/dev/loop-control"); err != nil || os.Getuid() != 0 {
		t.Skip("makes a loop device, which takes root and a kernel that has them")
	}
	image := filepath.Join(t.TempDir(), "image")
	if err := os.WriteFile(image, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Truncate(image, size); err != nil {
		t.Fatal(err)
	}
	out, err := exec.Command("losetup", "--find", "--show", image).CombinedOutput()
	if err != nil {
		t.Fatalf("losetup: %v: %s", err, out)
	}
	path = strings.TrimSpace(string(out))
	t.Cleanup(func() {
		if out, err := exec.Command("losetup", "--detach", path).CombinedOutput(); err != nil {
			t.Errorf("losetup --detach: %v: %s", err, out)
		}
	})
	var st unix.Stat_t
	if err := unix.Stat(path, &st); err != nil {
		t.Fatal(err)
	}
	return path, st.Rdev
}

// WithBlock gives a block device to a container, as /dev/disk.
func WithBlock(rdev uint64) func(*specs.Spec) {
	return func(s *specs.Spec) {
		major, minor := int64(unix.Major(rdev)), int64(unix.Minor(rdev))
		mode := os.FileMode(0o660)
		s.Linux.Devices = append(s.Linux.Devices, specs.LinuxDevice{Path: "/dev/disk", Type: "b", Major: major, Minor: minor, FileMode: &mode})
		s.Linux.Resources = &specs.LinuxResources{Devices: []specs.LinuxDeviceCgroup{{Allow: true, Type: "b", Major: &major, Minor: &minor, Access: "rwm"}}}
	}
}
