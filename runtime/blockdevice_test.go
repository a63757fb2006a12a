package runtime

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

// loopDevice is a block device of this many bytes, and its number.
func loopDevice(t testing.TB, size int64) (path string, rdev uint64) {
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

// withBlock gives a block device to a container, as /dev/disk.
func withBlock(rdev uint64) func(*specs.Spec) {
	return func(s *specs.Spec) {
		major, minor := int64(unix.Major(rdev)), int64(unix.Minor(rdev))
		mode := os.FileMode(0o660)
		s.Linux.Devices = append(s.Linux.Devices, specs.LinuxDevice{Path: "/dev/disk", Type: "b", Major: major, Minor: minor, FileMode: &mode})
		s.Linux.Resources = &specs.LinuxResources{Devices: []specs.LinuxDeviceCgroup{{Allow: true, Type: "b", Major: &major, Minor: &minor, Access: "rwm"}}}
	}
}

// TestBlockDevice: a block device that the configuration names is the container's to read
// and write; others are refused.
func TestBlockDevice(t *testing.T) {
	path, rdev := loopDevice(t, 1<<20)
	_, other := loopDevice(t, 1<<20)
	p := testPod(t, "pod")
	p.cfg.BlockDevices = []string{path}
	w, text := pipe(t)
	bundle := testcontainer.Busybox(t, withBlock(rdev), "sh", "-c", "stat -c '%F %a %u:%g' /dev/disk; echo written >/dev/disk; head -c 8 /dev/disk")
	c := create(t, p, CreateRequest{ID: "c1", Bundle: bundle, Stdio: Stdio{Stdout: w, Stderr: w}})
	if err := c.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	wait(t, c.Init())
	if out, want := text(), "block special file 660 0:0\nwritten\n"; out != want {
		t.Errorf("output %q, want %q", out, want)
	}
	if b, err := os.ReadFile(path); err != nil || !strings.HasPrefix(string(b), "written\n") {
		t.Errorf("the host reads %q, %v", b[:min(len(b), 10)], err)
	}
	bundle = testcontainer.Busybox(t, withBlock(other), "true")
	if _, err := p.Create(t.Context(), CreateRequest{ID: "c2", Bundle: bundle}); err == nil || !strings.Contains(err.Error(), "block_devices") {
		t.Errorf("another device: %v", err)
	}
}
