// SPDX-License-Identifier: Apache-2.0

package mount_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/opencontainers/runtime-spec/specs-go"

	"sysbox/tests/pace"
	"sysbox/tests/testcontainer"
)

// filling is the pid of the process that fills folders of a container of this process's; 0
// while there is none.
func filling(t *testing.T) int {
	t.Helper()
	names, err := filepath.Glob("/proc/[0-9]*/cmdline")
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range names {
		b, _ := os.ReadFile(name)
		if arg, ok := strings.CutPrefix(string(b), "sysbox-fill\x00"); ok && strings.Contains(arg, fmt.Sprintf(`"Shim":%d,`, os.Getpid())) {
			var pid int
			fmt.Sscanf(name, "/proc/%d/", &pid)
			return pid
		}
	}
	return 0
}

// TestCopyGivenUp: the copy of what the image has is made by a process of the container's
// cgroups, with the CPU time that the container has. When the caller gives the Create up,
// it ends, and nothing is left.
func TestCopyGivenUp(t *testing.T) {
	s := testcontainer.NewSnapshot(t)
	if err := os.MkdirAll(s.Lower+testcontainer.Docker, 0o755); err != nil {
		t.Fatal(err)
	}
	for i := range 20000 {
		if err := os.WriteFile(fmt.Sprintf("%s%s/%d", s.Lower, testcontainer.Docker, i), nil, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	quota, period := int64(1000), uint64(100000)
	r := s.Task(t, func(s *specs.Spec) {
		s.Linux.CgroupsPath = fmt.Sprintf("/sysbox-fill-%d", os.Getpid())
		s.Linux.Resources = &specs.LinuxResources{CPU: &specs.LinuxCPU{Quota: &quota, Period: &period}}
	}, "true")
	ctx, giveUp := context.WithCancelCause(t.Context())
	errGivenUp := errors.New("given up")
	defer giveUp(errGivenUp)
	failed := make(chan error, 1)
	go func() {
		c, err := testcontainer.NewPod(t).Create(ctx, r)
		if err == nil {
			err = c.Delete(t.Context())
		}
		failed <- err
	}()
	pid := 0
	for deadline := time.Now().Add(time.Minute * pace.Patience()); pid == 0; pid = filling(t) {
		if time.Now().After(deadline) {
			t.Fatal("no process copies")
		}
		time.Sleep(time.Millisecond)
	}
	if b, err := os.ReadFile(fmt.Sprintf("/proc/%d/cgroup", pid)); err != nil || strings.Count(string(b), fmt.Sprintf("/sysbox-fill-%d\n", os.Getpid())) < 1 || strings.Contains(string(b), ":/\n") {
		t.Errorf("its cgroups are %v\n%s", err, b)
	}
	giveUp(errGivenUp)
	if err := <-failed; !errors.Is(err, errGivenUp) {
		t.Errorf("the Create that was given up: %v", err)
	}
	if pid := filling(t); pid != 0 {
		t.Errorf("the process %d copies still", pid)
	}
	if left, _ := os.ReadDir(s.Work); len(left) > 1 { // the overlay's own
		t.Errorf("left in the work folder: %v", left)
	}
	if left, _ := os.ReadDir(s.Upper + testcontainer.Docker); len(left) > 0 {
		t.Errorf("left in the layer: %d files", len(left))
	}
}
