// SPDX-License-Identifier: Apache-2.0

package runtime_test

import (
	"errors"
	"fmt"
	"os"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"sysbox/runtime"
	"sysbox/tests/testcontainer"
)

// TestDeepCgroups: a container makes cgroups below its own whose path is longer than any
// that the kernel opens. They are listed and removed like others.
func TestDeepCgroups(t *testing.T) {
	t.Parallel()
	w, text := testcontainer.Pipe(t)
	c := testcontainer.Create(t, testcontainer.NewPod(t), runtime.CreateRequest{ID: "c1", Bundle: deepCgroupsInside.Bundle(t, nil), Stdio: runtime.Stdio{Stdout: w, Stderr: w}})
	if err := c.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	if exit := testcontainer.Wait(t, c.Init()); exit.Status != 0 {
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
	w, text := testcontainer.Pipe(t)
	c := testcontainer.Create(t, testcontainer.NewPod(t), runtime.CreateRequest{ID: "c1", Bundle: manyCgroupsInside.Bundle(t, nil), Stdio: runtime.Stdio{Stdout: w, Stderr: w}})
	if err := c.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	if exit := testcontainer.Wait(t, c.Init()); exit.Status != 0 {
		t.Error(text())
	}
	if err := c.Delete(t.Context()); err != nil {
		t.Error(err)
	}
}

var deepCgroupsInside = testcontainer.Inside("deep cgroups", func() error {
	return testcontainer.Deep("/sys/fs/cgroup", strings.Repeat("x", 250), 40)
})

var manyCgroupsInside = testcontainer.Inside("many cgroups", func() error {
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
})
