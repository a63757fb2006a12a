// SPDX-License-Identifier: Apache-2.0

package trap_test

import (
	"fmt"
	"os"
	goruntime "runtime"
	"strings"
	"testing"

	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"sysbox/runtime"
	"sysbox/tests/testcontainer"
)

// TestTrapMemory: mounts are the kernel's memory, which a container's limit is for. Where a
// mount is shared by hundreds of namespaces, one bind makes hundreds.
func TestTrapMemory(t *testing.T) {
	t.Parallel()
	w, text := testcontainer.Pipe(t)
	bundle := trapMemoryInside.Bundle(t, func(s *specs.Spec) {
		limit := int64(48 << 20)
		s.Linux.Resources = &specs.LinuxResources{Memory: &specs.LinuxMemory{Limit: &limit}}
	})
	c := testcontainer.Create(t, testcontainer.NewPod(t), runtime.CreateRequest{ID: "c1", Bundle: bundle, Stdio: runtime.Stdio{Stdout: w, Stderr: w}})
	if limit, _ := c.Cgroup().Memory(); limit != 48<<20 {
		t.Skip("looks at a limit of memory, and this host has no controller for it")
	}
	if err := c.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	exit := testcontainer.Wait(t, c.Init())
	out := text()
	if !strings.HasPrefix(out, "shared\nfirst\n") || strings.Contains(out, "all") {
		t.Errorf("exit status %d, output %q", exit.Status, out)
	}
}

var trapMemoryInside = testcontainer.Inside("trap memory", func() error {
	const namespaces, binds = 200, 1000 // 80 MB
	goruntime.LockOSThread()
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
})
