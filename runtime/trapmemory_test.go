package runtime

import (
	"fmt"
	"os"
	"runtime"
	"strings"
	"testing"

	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"
)

// TestTrapMemory: mounts are the kernel's memory, which a container's limit is for. Where a
// mount is shared by hundreds of namespaces, one bind makes hundreds.
func TestTrapMemory(t *testing.T) {
	w, text := pipe(t)
	bundle := insideBundle(t, "trap memory", func(s *specs.Spec) {
		limit := int64(48 << 20)
		s.Linux.Resources = &specs.LinuxResources{Memory: &specs.LinuxMemory{Limit: &limit}}
	})
	c := create(t, testPod(t, "pod"), CreateRequest{ID: "c1", Bundle: bundle, Stdio: Stdio{Stdout: w, Stderr: w}})
	if limit, _ := c.cgroup.Memory(); limit != 48<<20 {
		t.Skip("looks at a limit of memory, and this host has no controller for it")
	}
	if err := c.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	exit := wait(t, c.Init())
	out := text()
	if !strings.HasPrefix(out, "shared\nfirst\n") || strings.Contains(out, "all") {
		t.Errorf("exit status %d, output %q", exit.Status, out)
	}
}

func init() {
	routines["trap memory"] = func() error {
		const namespaces, binds = 200, 1000 // 80 MB
		runtime.LockOSThread()
		if err := unix.Unshare(unix.CLONE_FS | unix.CLONE_NEWNS); err != nil {
			return err
		}
		for _, step := range []func() error{
			func() error { return os.Mkdir("/m", 0o755) },
			func() error { return unix.Mount("x", "/m", "tmpfs", 0, "") },
			func() error { return os.Mkdir("/m/d", 0o755) },
			func() error { return unix.Mount("", "/m", "", unix.MS_SHARED, "") },
		} {
			if err := step(); err != nil {
				return err
			}
		}
		for range namespaces {
			if err := unix.Unshare(unix.CLONE_NEWNS); err != nil {
				return err
			}
			if _, err := unix.Open("/proc/thread-self/ns/mnt", unix.O_RDONLY, 0); err != nil {
				return err
			}
		}
		fmt.Println("shared")
		for i := range binds {
			if err := unix.Mount("/dev", "/m/d", "", unix.MS_BIND, ""); err != nil {
				return err
			}
			if i == 0 {
				fmt.Println("first")
			}
		}
		fmt.Println("all")
		return nil
	}
}
