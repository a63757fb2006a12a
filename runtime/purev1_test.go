// SPDX-License-Identifier: Apache-2.0

package runtime_test

import (
	"bytes"
	"fmt"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"sysbox/runtime"
	"sysbox/runtime/config"
	"sysbox/runtime/host"
	"sysbox/runtime/sys"
	"sysbox/tests/testcontainer"
)

// TestCgroup2NotMounted: on a host that has mounted version 1 controllers alone, a
// container still has a cgroup2 tree of its own; the delete command, another process,
// finds it again after the shim's death.
func TestCgroup2NotMounted(t *testing.T) {
	const stageEnv = "TEST_CGROUP2_NOT_MOUNTED"
	switch stage, dir, _ := strings.Cut(os.Getenv(stageEnv), " "); stage {
	case "live":
		hideCgroup2(t)
		liveWithoutCgroup2(t, dir)
		return
	case "delete":
		hideCgroup2(t)
		if _, err := runtime.Cleanup(t.Context(), slog.Default(), versionOneConfig(dir).Dirs(), "test", "c1"); err != nil {
			t.Error(err)
		}
		return
	}
	if os.Getuid() != 0 {
		t.Skip("makes containers, which takes root")
	}
	if host.Facts().Cgroup1 == false {
		t.Skip("this host has no version 1 controllers")
	}
	dir := t.TempDir()
	for _, stage := range []string{"live", "delete"} {
		cmd := exec.CommandContext(t.Context(), "/proc/self/exe", "-test.run=^TestCgroup2NotMounted$")
		cmd.Env = append(os.Environ(), stageEnv+"="+stage+" "+dir)
		cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: unix.CLONE_NEWNS}
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Errorf("%s: %v\n%s", stage, err, out)
		}
	}
	path, err := os.ReadFile(filepath.Join(dir, "path"))
	if err != nil {
		t.Fatal(err)
	}
	for _, root := range []string{"/sys/fs/cgroup/unified", "/sys/fs/cgroup/pids"} {
		if _, err := os.Stat(root + string(path)); !os.IsNotExist(err) {
			t.Errorf("%s%s is left (%v)", root, path, err)
		}
	}
	if left, _ := filepath.Glob(dir + "/state/containers/test/*"); len(left) > 0 {
		t.Errorf("left: %v", left)
	}
}

// hideCgroup2 unmounts cgroup2 in this process's mount namespace.
func hideCgroup2(t *testing.T) {
	t.Helper()
	if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""); err != nil {
		t.Fatal(err)
	}
	for {
		at := ""
		for m, err := range sys.MountsOf("/proc/self/mountinfo") {
			if err != nil {
				t.Fatal(err)
			}
			if m.Type == "cgroup2" {
				at = m.Point
			}
		}
		if at == "" {
			return
		}
		if err := unix.Unmount(at, unix.MNT_DETACH); err != nil {
			t.Fatal(err)
		}
	}
}

func versionOneConfig(dir string) *config.Config {
	return &config.Config{
		StateDir: filepath.Join(dir, "state"), DataDir: filepath.Join(dir, "data"),
		// A pool of its own: Cleanup looks whether others still use a range.
		IDs: config.IDs{User: "sysbox", Size: 1 << 18, PoolStart: 0x70000000, PoolSize: 1 << 19}, Unshifted: "warn",
	}
}

// liveWithoutCgroup2 leaves a container as a killed shim does.
func liveWithoutCgroup2(t *testing.T, dir string) {
	// Its folder has to outlive this process.
	bundle := filepath.Join(dir, "bundle")
	if err := os.Rename(testcontainer.Busybox(t, nil, "sleep", "1000"), bundle); err != nil {
		t.Fatal(err)
	}
	c, err := runtime.NewPod(versionOneConfig(dir), slog.Default(), "test", "pod").Create(t.Context(), runtime.CreateRequest{ID: "c1", Bundle: bundle})
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "path"), []byte(c.Cgroup().Path()), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := c.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	w, text := testcontainer.Pipe(t)
	p, err := c.Exec(t.Context(), runtime.ExecRequest{
		ID: "e", Stdio: runtime.Stdio{Stdout: w, Stderr: w},
		Process: &specs.Process{Cwd: "/", Args: []string{"sh", "-c", "grep ^0: /proc/self/cgroup; mkdir /sys/fs/cgroup/sub && echo 0 >/sys/fs/cgroup/sub/cgroup.procs && grep ^0: /proc/self/cgroup"}, Env: []string{"PATH=/bin"}},
	})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := p.Wait(t.Context()); err != nil {
		t.Fatal(err)
	}
	if got, want := text(), "0::/\n0::/sub\n"; got != want {
		t.Errorf("in its cgroup2 tree a container sees\n%s, want\n%s", got, want)
	}
	if err := c.Pause(t.Context()); err != nil {
		t.Error(err)
	}
	if err := c.Resume(t.Context()); err != nil {
		t.Error(err)
	}
	procs, err := os.ReadFile(fmt.Sprintf("/proc/%d/cgroup", c.Init().Pid()))
	if err != nil || !bytes.Contains(procs, []byte("0::"+c.Cgroup().Path())) {
		t.Errorf("init's cgroups are %s, %v", procs, err)
	}
}
