// SPDX-License-Identifier: Apache-2.0

package cgroup

import (
	"fmt"
	"strings"
	"testing"

	"github.com/opencontainers/runtime-spec/specs-go"
)

var (
	all1 = &Layout{V1: []Hierarchy{{Mount: "/v1", Controllers: v1Controllers}}}
	all2 = &Layout{Unified: "/v2", V2Controllers: []string{"cpuset", "cpu", "io", "memory", "hugetlb", "pids", "rdma", "misc"}}
	few  = &Layout{V1: []Hierarchy{{Mount: "/v1", Controllers: []string{"cpu"}}}, Unified: "/v2", V2Controllers: []string{"hugetlb"}}
)

func TestPlan(t *testing.T) {
	dev := specs.LinuxBlockIODevice{Major: 8, Minor: 16}
	throttle := []specs.LinuxThrottleDevice{{LinuxBlockIODevice: dev, Rate: 1000}}
	for _, c := range []struct {
		name   string
		r      specs.LinuxResources
		v1, v2 string // writes, or "!" and a part of the error
	}{
		{
			"cpu",
			specs.LinuxResources{CPU: &specs.LinuxCPU{
				Shares: ptr(uint64(1024)), Quota: ptr(int64(50000)), Period: ptr(uint64(200000)), Burst: ptr(uint64(7)), Idle: ptr(int64(1)), Cpus: "0-1", Mems: "0",
			}},
			"cpu.shares=1024 cpu.idle=1 cpu.cfs_period_us=200000 cpu.cfs_quota_us=50000 cpu.cfs_burst_us=7 cpuset.cpus=0-1 cpuset.mems=0",
			"cpu.weight=100 cpu.idle=1 cpu.max=50000 200000 cpu.max.burst=7 cpuset.cpus=0-1 cpuset.mems=0",
		},
		{"cpu zeros mean unset", specs.LinuxResources{CPU: &specs.LinuxCPU{Shares: ptr(uint64(0)), Quota: ptr(int64(0)), Period: ptr(uint64(0)), RealtimeRuntime: ptr(int64(0))}}, "", ""},
		{"cpu no quota", specs.LinuxResources{CPU: &specs.LinuxCPU{Quota: ptr(int64(-1))}}, "cpu.cfs_quota_us=-1", "cpu.max=max"},
		{"cpu period alone", specs.LinuxResources{CPU: &specs.LinuxCPU{Period: ptr(uint64(5000))}}, "cpu.cfs_period_us=5000", "cpu.max=\x00 5000"},
		{
			"cpu realtime",
			specs.LinuxResources{CPU: &specs.LinuxCPU{RealtimeRuntime: ptr(int64(5)), RealtimePeriod: ptr(uint64(9))}},
			"cpu.rt_period_us=9 cpu.rt_runtime_us=5", "!linux.resources.cpu.realtimePeriod 9: cgroup v2 has no such control",
		},
		{
			"memory",
			specs.LinuxResources{Memory: &specs.LinuxMemory{Limit: ptr(int64(100)), Swap: ptr(int64(150)), Reservation: ptr(int64(50)), DisableOOMKiller: ptr(false), UseHierarchy: ptr(true)}},
			"memory.limit_in_bytes=100 memory.soft_limit_in_bytes=50 memory.memsw.limit_in_bytes=150 memory.oom_control=0 memory.use_hierarchy=1",
			"memory.max=100 memory.low=50 memory.swap.max=50",
		},
		{
			"memory unlimited",
			specs.LinuxResources{Memory: &specs.LinuxMemory{Limit: ptr(int64(-1))}},
			"memory.limit_in_bytes=-1 memory.memsw.limit_in_bytes=-1", "memory.max=max memory.swap.max=max",
		},
		{"memory no swap", specs.LinuxResources{Memory: &specs.LinuxMemory{Limit: ptr(int64(9)), Swap: ptr(int64(9))}}, "memory.limit_in_bytes=9 memory.memsw.limit_in_bytes=9", "memory.max=9 memory.swap.max=0"},
		{"swap below limit", specs.LinuxResources{Memory: &specs.LinuxMemory{Limit: ptr(int64(9)), Swap: ptr(int64(8))}}, "memory.limit_in_bytes=9 memory.memsw.limit_in_bytes=8", "!linux.resources.memory.swap 8: it is the sum"},
		{"swap alone", specs.LinuxResources{Memory: &specs.LinuxMemory{Swap: ptr(int64(8))}}, "memory.memsw.limit_in_bytes=8", "!set memory.limit"},
		{"swappiness", specs.LinuxResources{Memory: &specs.LinuxMemory{Swappiness: ptr(uint64(0))}}, "memory.swappiness=0", "!linux.resources.memory.swappiness 0"},
		{"no oom killer", specs.LinuxResources{Memory: &specs.LinuxMemory{DisableOOMKiller: ptr(true)}}, "memory.oom_control=1", "!linux.resources.memory.disableOOMKiller true"},
		{"kernel memory", specs.LinuxResources{Memory: &specs.LinuxMemory{Kernel: ptr(int64(1)), KernelTCP: ptr(int64(2))}}, "memory.kmem.tcp.limit_in_bytes=2", "!linux.resources.memory.kernelTCP 2"},
		{"pids", specs.LinuxResources{Pids: &specs.LinuxPids{Limit: ptr(int64(7))}}, "pids.max=7", "pids.max=7"},
		{"pids unlimited", specs.LinuxResources{Pids: &specs.LinuxPids{Limit: ptr(int64(-1))}}, "pids.max=max", "pids.max=max"},
		{"pids zero", specs.LinuxResources{Pids: &specs.LinuxPids{Limit: ptr(int64(0))}}, "pids.max=1", "pids.max=1"},
		{"pids none", specs.LinuxResources{Pids: &specs.LinuxPids{}}, "", ""},
		{
			"block io",
			specs.LinuxResources{BlockIO: &specs.LinuxBlockIO{
				Weight: ptr(uint16(500)), WeightDevice: []specs.LinuxWeightDevice{{LinuxBlockIODevice: dev, Weight: ptr(uint16(1000))}},
				ThrottleReadBpsDevice: throttle, ThrottleWriteBpsDevice: throttle, ThrottleReadIOPSDevice: throttle,
				ThrottleWriteIOPSDevice: []specs.LinuxThrottleDevice{{LinuxBlockIODevice: dev}},
			}},
			"blkio.weight=500 blkio.weight_device=8:16 1000 blkio.throttle.read_bps_device=8:16 1000 blkio.throttle.write_bps_device=8:16 1000 " +
				"blkio.throttle.read_iops_device=8:16 1000 blkio.throttle.write_iops_device=8:16 0",
			"io.weight=default 4950 io.weight=8:16 10000 io.max=8:16 rbps=1000 io.max=8:16 wbps=1000 io.max=8:16 riops=1000 io.max=8:16 wiops=max",
		},
		{
			"leaf weight",
			specs.LinuxResources{BlockIO: &specs.LinuxBlockIO{LeafWeight: ptr(uint16(10))}},
			"blkio.leaf_weight=10", "!linux.resources.blockIO.leafWeight 10",
		},
		{
			"huge pages",
			specs.LinuxResources{HugepageLimits: []specs.LinuxHugepageLimit{{Pagesize: "2MB", Limit: 4}}},
			"hugetlb.2MB.limit_in_bytes=4 hugetlb.2MB.rsvd.limit_in_bytes=4", "hugetlb.2MB.max=4 hugetlb.2MB.rsvd.max=4",
		},
		{"huge pages path", specs.LinuxResources{HugepageLimits: []specs.LinuxHugepageLimit{{Pagesize: "../x"}}}, "!pageSize must look like", "!pageSize must look like"},
		{
			"network",
			specs.LinuxResources{Network: &specs.LinuxNetwork{ClassID: ptr(uint32(3)), Priorities: []specs.LinuxInterfacePriority{{Name: "eth0", Priority: 2}}}},
			"net_cls.classid=3 net_prio.ifpriomap=eth0 2", "!linux.resources.network.classID 3: the cgroup controller \"net_cls\" is not mounted",
		},
		{
			"rdma",
			specs.LinuxResources{Rdma: map[string]specs.LinuxRdma{"mlx5_1": {HcaHandles: ptr(uint32(3)), HcaObjects: ptr(uint32(4))}, "a": {HcaObjects: ptr(uint32(1))}}},
			"rdma.max=a hca_object=1 rdma.max=mlx5_1 hca_handle=3 hca_object=4", "rdma.max=a hca_object=1 rdma.max=mlx5_1 hca_handle=3 hca_object=4",
		},
		{
			"unified",
			specs.LinuxResources{Unified: map[string]string{"memory.high": "5", "io.max": "8:0 rbps=1\n8:16 rbps=2\n", "cgroup.max.depth": "3"}},
			"!this one is v1", "cgroup.max.depth=3 io.max=8:0 rbps=1 io.max=8:16 rbps=2 memory.high=5",
		},
		{"unified procs", specs.LinuxResources{Unified: map[string]string{"cgroup.procs": "1"}}, "!v1", "!moves or stops processes"},
		{"unified path", specs.LinuxResources{Unified: map[string]string{"../memory.max": "1"}}, "!v1", "!must be the name of a cgroup v2 file"},
		{"unified unknown", specs.LinuxResources{Unified: map[string]string{"nope.max": "1"}}, "!v1", `!controller "nope" is not mounted`},
	} {
		for i, l := range []*Layout{all1, all2} {
			want := []string{c.v1, c.v2}[i]
			settings, _, err := plan(&c.r, l)
			var got []string
			for _, s := range settings {
				got = append(got, s.file+"="+s.value)
			}
			if part, bad := strings.CutPrefix(want, "!"); bad {
				if err == nil || !strings.Contains(err.Error(), part) {
					t.Errorf("%s, v%d: error %v, want one with %q", c.name, i+1, err, part)
				}
				continue
			}
			if s := strings.Join(got, " "); err != nil || s != want {
				t.Errorf("%s, v%d: %v\n got %q\nwant %q", c.name, i+1, err, s, want)
			}
		}
	}
}

func TestPlanOnHybrid(t *testing.T) {
	_, _, err := plan(&specs.LinuxResources{Memory: &specs.LinuxMemory{Limit: ptr(int64(1024))}}, few)
	want := `linux.resources.memory.limit 1024: the cgroup controller "memory" is not mounted on this host (hybrid); remove the field or enable the controller`
	if err == nil || err.Error() != want {
		t.Errorf("got  %v\nwant %s", err, want)
	}
	s, _, err := plan(&specs.LinuxResources{HugepageLimits: []specs.LinuxHugepageLimit{{Pagesize: "2MB", Limit: 4}}}, few)
	if err != nil || s[0].file != "hugetlb.2MB.max" {
		t.Errorf("hugetlb is in v2 here: %v, %v", s, err)
	}
	if _, _, err := plan(&specs.LinuxResources{Unified: map[string]string{"hugetlb.2MB.max": "1"}}, few); err == nil {
		t.Error("the unified map is honoured on a hybrid host")
	}
}

// TestDefaultsWithoutController: what the kernel does anyway is not refused for want of a
// control; what it does not do is.
func TestDefaultsWithoutController(t *testing.T) {
	dev := specs.LinuxBlockIODevice{Major: 8, Minor: 16}
	bare := map[string]*Layout{
		"v1": {V1: []Hierarchy{{Mount: "/v1", Controllers: []string{"freezer"}}}},
		"v2": {Unified: "/v2"},
	}
	cpu := func(c specs.LinuxCPU) specs.LinuxResources { return specs.LinuxResources{CPU: &c} }
	memory := func(m specs.LinuxMemory) specs.LinuxResources { return specs.LinuxResources{Memory: &m} }
	blockIO := func(b specs.LinuxBlockIO) specs.LinuxResources { return specs.LinuxResources{BlockIO: &b} }
	rate := func(n uint64) []specs.LinuxThrottleDevice {
		return []specs.LinuxThrottleDevice{{LinuxBlockIODevice: dev, Rate: n}}
	}
	for name, c := range map[string]struct{ same, other specs.LinuxResources }{
		"ctr's shares":            {cpu(specs.LinuxCPU{Shares: ptr(uint64(1024))}), cpu(specs.LinuxCPU{Shares: ptr(uint64(2))})},
		"no idle group":           {cpu(specs.LinuxCPU{Idle: ptr(int64(0))}), cpu(specs.LinuxCPU{Idle: ptr(int64(1))})},
		"no burst":                {cpu(specs.LinuxCPU{Burst: ptr(uint64(0))}), cpu(specs.LinuxCPU{Burst: ptr(uint64(1))})},
		"no quota":                {cpu(specs.LinuxCPU{Quota: ptr(int64(-1))}), cpu(specs.LinuxCPU{Quota: ptr(int64(5000))})},
		"kubelet's period":        {cpu(specs.LinuxCPU{Period: ptr(uint64(100_000)), Quota: ptr(int64(0))}), cpu(specs.LinuxCPU{Period: ptr(uint64(100_000)), Quota: ptr(int64(5000))})},
		"realtime period":         {cpu(specs.LinuxCPU{RealtimePeriod: ptr(uint64(1_000_000))}), cpu(specs.LinuxCPU{RealtimePeriod: ptr(uint64(2_000_000))})},
		"memory":                  {memory(specs.LinuxMemory{Limit: ptr(int64(-1))}), memory(specs.LinuxMemory{Limit: ptr(int64(1 << 20))})},
		"swap":                    {memory(specs.LinuxMemory{Swap: ptr(int64(-1))}), memory(specs.LinuxMemory{Limit: ptr(int64(5)), Swap: ptr(int64(5))})},
		"reservation":             {memory(specs.LinuxMemory{Reservation: ptr(int64(-1))}), memory(specs.LinuxMemory{Reservation: ptr(int64(1))})},
		"TCP":                     {memory(specs.LinuxMemory{KernelTCP: ptr(int64(-1))}), memory(specs.LinuxMemory{KernelTCP: ptr(int64(1))})},
		"the host's swappiness":   {memory(specs.LinuxMemory{Swappiness: ptr(hostSwappiness())}), memory(specs.LinuxMemory{Swappiness: ptr(hostSwappiness() + 1)})},
		"Docker's OOM killer":     {memory(specs.LinuxMemory{DisableOOMKiller: ptr(false)}), memory(specs.LinuxMemory{DisableOOMKiller: ptr(true)})},
		"the hierarchy":           {memory(specs.LinuxMemory{UseHierarchy: ptr(true)}), memory(specs.LinuxMemory{UseHierarchy: ptr(false)})},
		"Docker's limit of pids":  {specs.LinuxResources{Pids: &specs.LinuxPids{Limit: ptr(int64(-1))}}, specs.LinuxResources{Pids: &specs.LinuxPids{Limit: ptr(int64(100))}}},
		"weight of block devices": {blockIO(specs.LinuxBlockIO{Weight: ptr(uint16(100))}), blockIO(specs.LinuxBlockIO{Weight: ptr(uint16(500))})},
		"rate of reads":           {blockIO(specs.LinuxBlockIO{ThrottleReadBpsDevice: rate(0)}), blockIO(specs.LinuxBlockIO{ThrottleReadBpsDevice: rate(1)})},
		"class of packets":        {specs.LinuxResources{Network: &specs.LinuxNetwork{ClassID: ptr(uint32(0))}}, specs.LinuxResources{Network: &specs.LinuxNetwork{ClassID: ptr(uint32(1))}}},
	} {
		for version, l := range bare {
			if settings, _, err := plan(&c.same, l); err != nil || len(settings) > 0 {
				t.Errorf("%s, %s: %v, %v; want neither an error nor anything to be written", name, version, settings, err)
			}
			if _, _, err := plan(&c.other, l); err == nil {
				t.Errorf("%s, %s: another value is taken", name, version)
			}
		}
	}
	for file, value := range unifiedDefaults {
		if settings, _, err := plan(&specs.LinuxResources{Unified: map[string]string{file: value}}, bare["v2"]); err != nil || len(settings) > 0 {
			t.Errorf("unified %s %q: %v, %v", file, value, settings, err)
		}
		if _, _, err := plan(&specs.LinuxResources{Unified: map[string]string{file: "7"}}, bare["v2"]); err == nil {
			t.Errorf("unified %s 7 is taken", file)
		}
	}
	// What lies there is written as before.
	if settings, _, err := plan(ptr(cpu(specs.LinuxCPU{Shares: ptr(uint64(1024))})), all2); err != nil || len(settings) != 1 {
		t.Errorf("shares where there is the controller: %v, %v", settings, err)
	}
}

func TestWarnsOfKernelMemory(t *testing.T) {
	_, w, err := plan(&specs.LinuxResources{Memory: &specs.LinuxMemory{Kernel: ptr(int64(77))}}, all2)
	if err != nil || len(w) != 1 || !strings.Contains(w[0], "linux.resources.memory.kernel 77") {
		t.Errorf("warnings %q, %v", w, err)
	}
}

func TestIOWeightEnds(t *testing.T) {
	for w, want := range map[uint16]uint64{0: 1, 10: 1, 1000: 10000, 100: 910} {
		if got := ioWeight(w); got != want {
			t.Errorf("ioWeight(%d) = %d, want %d", w, got, want)
		}
	}
}

func TestSystemdProperties(t *testing.T) {
	loc, err := locate("a-b.slice:p:n", Auto, "", "")
	if err != nil {
		t.Fatal(err)
	}
	r := &specs.LinuxResources{
		Memory: &specs.LinuxMemory{Limit: ptr(int64(100)), Swap: ptr(int64(150)), Reservation: ptr(int64(50))},
		CPU:    &specs.LinuxCPU{Shares: ptr(uint64(1024)), Quota: ptr(int64(33333)), Period: ptr(uint64(20000))},
		Pids:   &specs.LinuxPids{Limit: ptr(int64(-1))},
	}
	rules, err := deviceRules([]specs.LinuxDeviceCgroup{{Access: "rwm"}}, false)
	if err != nil {
		t.Fatal(err)
	}
	for l, want := range map[*Layout][]string{
		all2: {
			"Slice=\"a-b.slice\"", "PIDs=@au [42]", "Delegate=true", "IOAccounting=true", "MemoryMax=@t 100", "MemoryLow=@t 50", "MemorySwapMax=@t 50",
			"CPUWeight=@t 100", "CPUQuotaPerSecUSec=@t 1670000", "CPUQuotaPeriodUSec=@t 20000", "TasksMax=@t 18446744073709551615",
			"DevicePolicy=\"strict\"", `("char-*", "m",)`, `("/dev/char/1:3", "rwm",)`,
		},
		all1: {"BlockIOAccounting=true", "MemoryLimit=@t 100", "CPUShares=@t 1024"},
	} {
		var all strings.Builder
		for _, p := range scopeProperties(loc, l, r, rules, 42) {
			fmt.Fprintf(&all, "%s=%s\n", p.Name, p.Value)
		}
		for _, w := range want {
			if !strings.Contains(all.String(), w) {
				t.Errorf("%s: no %s in\n%s", l.Mode(), w, all.String())
			}
		}
	}
	if err := startScope(loc, all2, r, rules, 0); err == nil {
		t.Error("a scope without a process")
	}
}
