package runtime

import (
	"errors"
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

// TestManyCgroups: the kernel has 65,535 memory cgroups for a host. A container gets a part of
// them, and cannot take more.
func TestManyCgroups(t *testing.T) {
	w, text := pipe(t)
	c := create(t, testPod(t, "pod"), CreateRequest{ID: "c1", Bundle: insideBundle(t, "many cgroups", nil), Stdio: Stdio{Stdout: w, Stderr: w}})
	if err := c.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	if exit := wait(t, c.Init()); exit.Status != 0 {
		t.Error(text())
	}
	if err := c.Delete(t.Context()); err != nil {
		t.Error(err)
	}
}

// TestDeepFolders: folders in a container's storage that are nested deeper than the
// shim can have files open are removed with the rest.
func TestDeepFolders(t *testing.T) {
	w, text := pipe(t)
	bundle := insideBundle(t, "deep folders", nil)
	for _, d := range []string{docker, "/run"} {
		if err := os.MkdirAll(bundle+"/rootfs"+d, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	r := CreateRequest{ID: "c1", Bundle: bundle, Stdio: Stdio{Stdout: w, Stderr: w}, Rootfs: []RootfsMount{{
		Type: "overlay", Source: "overlay", Options: []string{"index=off", "lowerdir=" + bundle + "/rootfs:" + t.TempDir()},
	}}}
	c := create(t, testPod(t, "pod"), r)
	if err := c.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	if exit := wait(t, c.Init()); exit.Status != 0 {
		t.Error(text())
	}
	var old unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &old); err != nil {
		t.Fatal(err)
	}
	if err := unix.Setrlimit(unix.RLIMIT_NOFILE, &unix.Rlimit{Cur: deep / 2, Max: old.Max}); err != nil {
		t.Fatal(err)
	}
	err := c.Delete(t.Context())
	if e := unix.Setrlimit(unix.RLIMIT_NOFILE, &old); e != nil {
		t.Error(e)
	}
	if err != nil {
		t.Error(err)
	}
	if _, err := os.Stat(c.rec.Storage); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("the storage is there still: %v", err)
	}
}

func init() {
	routines["deep cgroups"] = func() error {
		return deepFolders("/sys/fs/cgroup", strings.Repeat("x", 250), 40)
	}
	routines["many cgroups"] = func() error {
		if err := os.WriteFile("/sys/fs/cgroup/cgroup.max.descendants", []byte("max"), 0); err == nil {
			return errors.New("the limit was raised from inside")
		}
		const more = 9000
		for i := range more {
			switch err := unix.Mkdir(fmt.Sprintf("/sys/fs/cgroup/%d", i), 0o755); {
			case err == unix.EAGAIN && i > 1000:
				return nil
			case err != nil:
				return fmt.Errorf("cgroup %d: %w", i, err)
			}
		}
		return fmt.Errorf("%d cgroups were made", more)
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

// deep is how many folders are nested: more than TestDeepFolders lets be open.
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
