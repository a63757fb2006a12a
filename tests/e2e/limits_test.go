// SPDX-License-Identifier: Apache-2.0

package e2e

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	containerd "github.com/containerd/containerd/v2/client"
	"github.com/opencontainers/runtime-spec/specs-go"

	"sysbox/tests/peers"
)

// cgroupFile reads a file of a process's cgroup: of the v1 controller, where
// that has the hierarchy, else of v2.
func cgroupFile(t *testing.T, pid uint32, controller, v1, v2 string) string {
	t.Helper()
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/cgroup", pid))
	if err != nil {
		t.Fatal(err)
	}
	name := ""
	for line := range strings.Lines(strings.TrimSpace(string(b))) {
		f := strings.SplitN(strings.TrimSpace(line), ":", 3)
		switch {
		case strings.Contains(","+f[1]+",", ","+controller+","):
			name = filepath.Join("/sys/fs/cgroup", controller, f[2], v1)
		case f[1] == "" && name == "":
			name = filepath.Join("/sys/fs/cgroup", f[2], v2)
		}
	}
	// The limit is the container's, whose cgroup may have one for its init.
	for dir, file := filepath.Split(name); ; dir = filepath.Dir(filepath.Clean(dir)) {
		b, err := os.ReadFile(filepath.Join(dir, file))
		if err != nil {
			return "" // above the hierarchy's root
		}
		if v := strings.TrimSpace(string(b)); v != "max" && v != "-1" && v != "9223372036854771712" {
			return v
		}
	}
}

// TestLimitsTakeEffect: limits of the spec and of an update are in the
// container's cgroup.
func TestLimitsTakeEffect(t *testing.T) {
	both(t, func(t *testing.T, h *host) {
		memory, pids, quota, period := int64(64<<20), int64(50), int64(20000), uint64(100000)
		task, _ := h.sleeper(t, edit(func(s *specs.Spec) {
			s.Linux.Resources.Memory = &specs.LinuxMemory{Limit: &memory}
			s.Linux.Resources.Pids = &specs.LinuxPids{Limit: &pids}
			s.Linux.Resources.CPU = &specs.LinuxCPU{Quota: &quota, Period: &period}
		}))
		check := func(when string, memory, pids, cpu string) {
			t.Helper()
			if got := cgroupFile(t, task.Pid(), "memory", "memory.limit_in_bytes", "memory.max"); got != memory {
				t.Errorf("%s: memory limit %s, want %s", when, got, memory)
			}
			if got := cgroupFile(t, task.Pid(), "pids", "pids.max", "pids.max"); got != pids {
				t.Errorf("%s: limit of processes %s, want %s", when, got, pids)
			}
			if got, _, _ := strings.Cut(cgroupFile(t, task.Pid(), "cpu", "cpu.cfs_quota_us", "cpu.max"), " "); got != cpu {
				t.Errorf("%s: cpu quota %s, want %s", when, got, cpu)
			}
		}
		check("at the start", "67108864", "50", "20000")
		memory, pids, quota = 128<<20, 60, 30000
		if err := task.Update(background(t), containerd.WithResources(&specs.LinuxResources{
			Memory: &specs.LinuxMemory{Limit: &memory}, Pids: &specs.LinuxPids{Limit: &pids}, CPU: &specs.LinuxCPU{Quota: &quota},
		})); err != nil {
			t.Fatal(err)
		}
		check("after the update", "134217728", "60", "30000")
	})
}

// TestLimitsAreKept: a container at its limit of memory is killed, and the host goes on;
// at its limit of processes it makes no more.
func TestLimitsAreKept(t *testing.T) {
	h := on(t, peers.Newest)
	memory, pids := int64(32<<20), int64(20)
	out, status := h.run(t, "tail /dev/zero", edit(func(s *specs.Spec) {
		s.Linux.Resources.Memory = &specs.LinuxMemory{Limit: &memory, Swap: &memory}
	}))
	if status != 137 {
		t.Errorf("a container that takes all memory: exit status %d, output %q, want 137", status, out)
	}
	out, _ = h.run(t, "i=0; while [ $i -lt 40 ]; do i=$((i+1)); sleep 1000 & done", edit(func(s *specs.Spec) {
		s.Linux.Resources.Pids = &specs.LinuxPids{Limit: &pids}
	}))
	if !strings.Contains(out, "can't fork") {
		t.Errorf("a container that makes 40 processes under a limit of 20: %q, want that it cannot fork", out)
	}
}
