// SPDX-License-Identifier: Apache-2.0

package feature

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// onOverlay: an overlay can neither be idmapped nor be an overlay's upper layer.
func onOverlay(t *testing.T) bool {
	for dir := snapshots; ; dir = filepath.Dir(dir) {
		var st unix.Statfs_t
		err := unix.Statfs(dir, &st)
		if err == nil {
			return st.Type == unix.OVERLAYFS_SUPER_MAGIC
		}
		if err != unix.ENOENT || dir == "/" {
			t.Fatal(err)
		}
	}
}

// TestAll: a kernel has all that its version should have.
func TestAll(t *testing.T) {
	if os.Getuid() != 0 {
		t.Skip("probes mount, which takes root")
	}
	running, err := Kernel()
	if err != nil {
		t.Fatal(err)
	}
	needsDisk := map[string]bool{
		"idmapped mounts where containerd keeps images": true,
		"overlay over idmapped layers":                  true,
	}
	last := Version{}
	for _, f := range All {
		if !f.MinKernel.AtLeast(last) {
			t.Errorf("%s (%v) stands behind %v; the oldest comes first", f.Name, f.MinKernel, last)
		}
		last = f.MinKernel
		t.Run(f.Name, func(t *testing.T) {
			if needsDisk[f.Name] && onOverlay(t) {
				t.Skip(snapshots + " lies on an overlay, which no kernel can idmap")
			}
			err := f.Probe()
			switch {
			case running.AtLeast(f.MinKernel) && err != nil:
				t.Errorf("Linux %v should have it since %v: %v", running, f.MinKernel, err)
			case !running.AtLeast(f.MinKernel) && err == nil:
				t.Logf("Linux %v has it, although it came with %v", running, f.MinKernel)
			}
			if f.Hint == "" {
				t.Error("no way out")
			}
		})
	}
}

// Probes leave nothing: no file, no descriptor, no process.
func TestNothingIsLeft(t *testing.T) {
	if os.Getuid() != 0 {
		t.Skip("probes mount, which takes root")
	}
	dir := t.TempDir()
	if onOverlay(t) {
		t.Skip("lies on an overlay")
	}
	probe := func() {
		for _, f := range All {
			_ = f.Probe()
		}
		_ = IDMappedMounts(filepath.Join(dir, "not", "there"))
		_ = OverlayOfIDMapped(dir)
		_ = OverlayOfFiles(dir)
	}
	open := func() int {
		fds, err := os.ReadDir("/proc/self/fd")
		if err != nil {
			t.Fatal(err)
		}
		return len(fds)
	}
	mounts := func() string {
		b, err := os.ReadFile("/proc/self/mountinfo")
		if err != nil {
			t.Fatal(err)
		}
		return string(b)
	}
	probe() // the runtime's own descriptors
	fds, table := open(), mounts()
	probe()
	if n := open(); n != fds {
		t.Errorf("%d descriptors before, %d after", fds, n)
	}
	if mounts() != table {
		t.Error("the mount table has changed")
	}
	if left, err := os.ReadDir(dir); err != nil || len(left) > 0 {
		t.Errorf("left: %v, %v", left, err)
	}
	var info unix.Siginfo
	if err := unix.Waitid(unix.P_ALL, 0, &info, unix.WEXITED|unix.WNOHANG|unix.WNOWAIT, nil); err != unix.ECHILD {
		t.Errorf("children are left: %v", err)
	}
}

// A probe that cannot fail would be worth nothing.
func TestProbesFail(t *testing.T) {
	if os.Getuid() != 0 {
		t.Skip("probes mount, which takes root")
	}
	if err := IDMappedMounts("/proc"); err == nil {
		t.Error("proc is idmapped")
	}
	if err := OverlayOfFiles("/proc"); err == nil {
		t.Error("layers lie in proc")
	}
	if err := seccompFlags(1 << 30); err == nil {
		t.Error("seccomp knows the flag 1<<30")
	}
}

func TestParseVersion(t *testing.T) {
	for release, want := range map[string]Version{
		"6.18.44-fc-v669": {6, 18}, "5.15.0-91-generic": {5, 15}, "6.1": {6, 1}, "7.0-rc1": {7, 0}, "6.12+": {6, 12},
	} {
		if got, err := parseVersion(release); err != nil || got != want {
			t.Errorf("%s: %v, %v", release, got, err)
		}
	}
	for _, bad := range []string{"", "six", "6", "6.x", ".1"} {
		if v, err := parseVersion(bad); err == nil {
			t.Errorf("%q is %v", bad, v)
		}
	}
}

// TestStartable: where all is there, nothing is said; what is tried stands for the rest.
func TestStartable(t *testing.T) {
	if os.Getuid() != 0 {
		t.Skip("probes mount, which takes root")
	}
	lacks := false
	for _, f := range All {
		lacks = lacks || f.Needed && f.Probe() != nil
	}
	err := Startable()
	if (err != nil) != lacks {
		t.Errorf("something needed is lacking: %v, and %v", lacks, err)
	}
	if err != nil && !strings.HasSuffix(err.Error(), "use Linux 5.12 or newer") {
		t.Errorf("%v, which does not end with the way out", err)
	}
}
