package runtime

import (
	"fmt"
	"os"
	"runtime"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// TestDeepCgroups: a container makes cgroups below its own whose path is longer than any
// that the kernel opens. They are listed and removed like others.
func TestDeepCgroups(t *testing.T) {
	w, text := pipe(t)
	c := create(t, testPod(t, "pod"), CreateRequest{ID: "c1", Bundle: insideBundle(t, "deep cgroups", nil), Stdio: Stdio{Stdout: w, Stderr: w}})
	if err := c.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	if exit := wait(t, c.Init()); exit.Status != 0 {
		t.Error(text())
	}
	if _, err := c.Pids(t.Context()); err != nil {
		t.Error(err)
	}
	if err := c.Delete(t.Context()); err != nil {
		t.Error(err)
	}
}

func init() {
	routines["deep cgroups"] = func() error {
		return deepFolders("/sys/fs/cgroup", strings.Repeat("x", 250), 40)
	}
	routines["deep folders"] = func() error {
		if err := os.Mkdir("/var/lib/docker/side", 0o700); err != nil {
			return err
		}
		if err := os.WriteFile("/var/lib/docker/side/file", nil, 0o600); err != nil {
			return err
		}
		return deepFolders("/var/lib/docker", "d", deep)
	}
}

// deep is a depth for which nobody has open files enough in these tests.
const deep = 3000

func deepFolders(at, name string, depth int) error {
	runtime.LockOSThread()
	if err := unix.Chdir(at); err != nil {
		return err
	}
	for i := range depth {
		if err := unix.Mkdir(name, 0o755); err != nil {
			return fmt.Errorf("folder %d: %w", i, err)
		}
		if err := unix.Chdir(name); err != nil {
			return err
		}
	}
	return nil
}
