// SPDX-License-Identifier: Apache-2.0

package cgroup

import (
	"path/filepath"
	"strings"
	"testing"

	"github.com/opencontainers/runtime-spec/specs-go"
)

func TestPidsLimitHolds(t *testing.T) {
	host(t, "pids")
	c := create(t, Config{Resources: &specs.LinuxResources{Pids: &specs.LinuxPids{Limit: ptr(int64(5))}}})
	cmd := commandIn(t, c, "for i in 1 2 3 4 5 6 7 8; do sleep 0.5 & done")
	out, _ := cmd.CombinedOutput()
	if !strings.Contains(string(out), "ork") { // "Cannot fork", "fork: retry: Resource temporarily unavailable"
		t.Errorf("nine processes with pids.limit 5 and no failed fork: %q", out)
	}
}

func TestDevicesHold(t *testing.T) {
	for name, l := range hosts(t) {
		t.Run(name, func(t *testing.T) {
			c := create(t, Config{Layout: l, Resources: &specs.LinuxResources{Devices: []specs.LinuxDeviceCgroup{
				{Allow: false, Access: "rwm"},
				{Allow: true, Type: "c", Major: ptr(int64(1)), Minor: ptr(int64(11)), Access: "r"}, // kmsg, for reading
			}}})
			try := func(script string, ok bool) {
				t.Helper()
				out, err := commandIn(t, c, script).CombinedOutput()
				if (err == nil) != ok {
					t.Errorf("%s: %v (%s), want success %v", script, err, out, ok)
				}
			}
			node := filepath.Join(t.TempDir(), "mem")
			try("true </dev/null && true >/dev/null && head -c1 /dev/urandom", true)
			try("true </dev/kmsg", true)
			try("true >/dev/kmsg", false)
			try("true <>/dev/kmsg", false)
			try("mknod "+node+" c 1 1", true)
			try("true <"+node, false)
			if _, err := c.Update(&specs.LinuxResources{Devices: []specs.LinuxDeviceCgroup{{Allow: true, Access: "rwm"}}}); err != nil {
				t.Fatal(err)
			}
			try("true >/dev/kmsg", true)
			if _, err := c.Update(&specs.LinuxResources{Devices: []specs.LinuxDeviceCgroup{{Allow: false, Access: "rwm"}}}); err != nil {
				t.Fatal(err)
			}
			try("true </dev/kmsg", false)
		})
	}
}

// limits1 and limits2 are what the files hold after Create and after Update.
var limits1 = []map[string]string{{
	"memory.limit_in_bytes": "67108864", "memory.memsw.limit_in_bytes": "67108864", "memory.soft_limit_in_bytes": "33554432",
	"cpu.shares": "512", "cpu.cfs_quota_us": "50000", "cpu.cfs_period_us": "100000", "cpu.cfs_burst_us": "10000",
	"cpuset.cpus": "0", "cpuset.mems": "0", "pids.max": "100",
}, {
	"memory.limit_in_bytes": "134217728", "memory.memsw.limit_in_bytes": "134217728", "cpu.cfs_quota_us": "5000",
	"cpu.cfs_burst_us": "0", "pids.max": "max", "cpu.shares": "512",
}, {"cpu.cfs_quota_us": "5000", "cpu.cfs_period_us": "20000"}}

var limits2 = []map[string]string{{
	"memory.max": "67108864", "memory.swap.max": "0", "memory.low": "33554432",
	"cpu.weight": "59", "cpu.max": "50000 100000", "cpu.max.burst": "10000",
	"cpuset.cpus": "0", "cpuset.mems": "0", "pids.max": "100",
}, {
	"memory.max": "134217728", "memory.swap.max": "0", "cpu.max": "5000 100000",
	"cpu.max.burst": "0", "pids.max": "max", "cpu.weight": "59",
}, {"cpu.max": "5000 20000"}}

func TestLimitsAndUpdate(t *testing.T) {
	l := host(t, "memory", "cpu", "pids", "cpuset")
	want := limits1
	if l.version("memory") == 2 {
		want = limits2
	}
	c := create(t, Config{Resources: &specs.LinuxResources{
		Memory: &specs.LinuxMemory{Limit: ptr(int64(64 << 20)), Swap: ptr(int64(64 << 20)), Reservation: ptr(int64(32 << 20)), Kernel: ptr(int64(1 << 20))},
		CPU:    &specs.LinuxCPU{Shares: ptr(uint64(512)), Quota: ptr(int64(50000)), Period: ptr(uint64(100000)), Burst: ptr(uint64(10000)), Cpus: "0", Mems: "0"},
		Pids:   &specs.LinuxPids{Limit: ptr(int64(100))},
	}})
	if len(c.Warnings()) != 1 || !strings.Contains(c.Warnings()[0], "memory.kernel") {
		t.Errorf("warnings %q, want one on memory.kernel", c.Warnings())
	}
	check := func(files map[string]string) {
		t.Helper()
		for f, v := range files {
			ctrl, _, _ := strings.Cut(f, ".")
			if got, err := readFile(c.dir(ctrl) + "/" + f); err != nil || got != v {
				t.Errorf("%s is %q, %v; want %q", f, got, err, v)
			}
		}
	}
	check(want[0])
	// Each needs an order of writes that Create doesn't.
	if _, err := c.Update(&specs.LinuxResources{
		Memory: &specs.LinuxMemory{Limit: ptr(int64(128 << 20)), Swap: ptr(int64(128 << 20))},
		CPU:    &specs.LinuxCPU{Quota: ptr(int64(5000)), Burst: ptr(uint64(0))},
		Pids:   &specs.LinuxPids{Limit: ptr(int64(-1))},
	}); err != nil {
		t.Fatal(err)
	}
	check(want[1])
	if _, err := c.Update(&specs.LinuxResources{
		Memory: &specs.LinuxMemory{Limit: ptr(int64(-1))},
		CPU:    &specs.LinuxCPU{Period: ptr(uint64(20000))},
	}); err != nil {
		t.Fatal(err)
	}
	check(want[2])
}

func TestCheckBeforeUpdate(t *testing.T) {
	host(t, "memory")
	c := create(t, Config{})
	start(t, commandIn(t, c, "x=$(head -c 20m /dev/zero | tr \"\\0\" x); echo; sleep 60"))
	eventually(t, "10 MiB in use", func() bool {
		_, used := c.Memory()
		return used > 10<<20
	})
	_, err := c.Update(&specs.LinuxResources{Memory: &specs.LinuxMemory{Limit: ptr(int64(4096)), CheckBeforeUpdate: ptr(true)}})
	if err == nil || !strings.Contains(err.Error(), "linux.resources.memory.limit 4096") {
		t.Errorf("a limit below what's in use: %v", err)
	}
	if c.OOMKills() != 0 {
		t.Error("the update killed")
	}
}
