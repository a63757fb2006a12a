// SPDX-License-Identifier: Apache-2.0

package trap_test

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"sysbox/runtime"
	"sysbox/tests/pace"
	"sysbox/tests/testcontainer"
)

// TestTrapUnkillable: a file system of the container's takes requests and never answers, by
// which whoever asks becomes one that no signal ends. A process that asks for a caller is
// one of the container's cgroups, so that it counts there, and ends with the container.
func TestTrapUnkillable(t *testing.T) {
	const callers = 10
	bundle := trapSwallowInside.Bundle(t, nil)
	c := testcontainer.Create(t, testcontainer.NewPod(t), runtime.CreateRequest{ID: "c1", Bundle: bundle})
	if err := c.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	// One that is being made may not be there yet; one that asks from elsewhere stays.
	var inside, outside []string
	for deadline := time.Now().Add(20 * time.Second * pace.Patience()); (len(inside) < callers || len(outside) > 0) && time.Now().Before(deadline); time.Sleep(50 * time.Millisecond) {
		inside, outside = nil, nil
		for _, pid := range setUpProcesses(t) {
			cgroups, err := os.ReadFile("/proc/" + pid + "/cgroup")
			switch {
			case err != nil:
			case strings.Count(string(cgroups), "\n") == strings.Count(string(cgroups), c.Cgroup().Path()+"\n"):
				inside = append(inside, pid)
			default:
				outside = append(outside, pid)
			}
		}
	}
	if len(inside) != callers || len(outside) > 0 {
		t.Errorf("in the container's cgroups are %v, and elsewhere %v", inside, outside)
	}
	if err := c.Delete(t.Context()); err != nil {
		t.Error(err)
	}
	if left := setUpProcesses(t); len(left) > 0 {
		t.Errorf("processes are left: %v", left)
	}
}

// setUpProcesses are the children of this process that execute a program of system calls.
func setUpProcesses(t *testing.T) (pids []string) {
	t.Helper()
	all, err := filepath.Glob("/proc/[0-9]*")
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range all {
		stat, err := os.ReadFile(p + "/stat")
		if f := strings.Fields(string(stat)); err == nil && len(f) > 3 && f[1] == "(sysbox-init)" && f[3] == fmt.Sprint(os.Getpid()) {
			pids = append(pids, filepath.Base(p))
		}
	}
	return pids
}

var trapSwallowInside = testcontainer.Inside("trap swallow", func() error {
	serve, err := testcontainer.Swallow("/root/f")
	if err != nil {
		return err
	}
	os.Mkdir("/root/m", 0o755)
	for i := range 10 {
		go func() {
			_ = unix.Mount("overlay", "/root/m", "overlay", 0, fmt.Sprintf("lowerdir=/root/f/%d:/root", i))
		}()
	}
	return serve(func() {})
})
