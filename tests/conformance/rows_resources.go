// SPDX-License-Identifier: Apache-2.0

package conformance

import (
	"fmt"
	"strings"

	"github.com/opencontainers/runtime-spec/specs-go"
)

// testCgroup is where the containers' cgroups are, below each hierarchy.
const testCgroup = "/sysbox-conformance"

// resources changes linux.resources.
func resources(f func(*specs.LinuxResources)) func(*specs.Spec) {
	return func(s *specs.Spec) {
		if s.Linux.Resources == nil {
			s.Linux.Resources = &specs.LinuxResources{}
		}
		f(s.Linux.Resources)
	}
}

func memory(f func(*specs.LinuxMemory)) func(*specs.Spec) {
	return resources(func(r *specs.LinuxResources) {
		if r.Memory == nil {
			r.Memory = &specs.LinuxMemory{}
		}
		f(r.Memory)
	})
}

func cpu(f func(*specs.LinuxCPU)) func(*specs.Spec) {
	return resources(func(r *specs.LinuxResources) {
		if r.CPU == nil {
			r.CPU = &specs.LinuxCPU{}
		}
		f(r.CPU)
	})
}

// madeCgroup begins the refusals of limits, which are found out when the cgroup is made.
const madeCgroup = "make the cgroup: "

const (
	mib     = int64(1) << 20
	noV2    = "cgroup v2 has no such control; remove the field"
	unified = "the field only works on hosts with pure cgroup v2, and this one is hybrid; use the fields memory, cpu, pids… instead"
)

// resourceRows are linux.resources but for devices and block devices.
func resourceRows() []Row {
	const f = "linux.resources."
	var rows []Row
	// in has a row for each version, with what is in the file of each.
	in := func(field, controller string, set func(*specs.Spec), file1, want1, file2, want2 string) {
		if file1 != "" {
			rows = append(rows, Row{Field: f + field, Set: set, Box: "system:limits", Look: "cgroup " + controller + " " + file1, Want: want1, When: v1(controller)})
		}
		if file2 != "" {
			rows = append(rows, Row{Field: f + field, Set: set, Box: "system:limits", Look: "cgroup " + controller + " " + file2, Want: want2, When: v2(controller)})
		}
	}
	// onlyV1 is refused where the controller is of version 2.
	onlyV1 := func(field, controller string, value any, set func(*specs.Spec), file, want string) {
		in(field, controller, set, file, want, "", "")
		rows = append(rows, Row{Field: f + field, Set: set, Refused: madeCgroup + fmt.Sprintf("%s%s %v: %s", f, field, value, noV2), When: v2(controller)})
	}
	limit := func(m *specs.LinuxMemory) { m.Limit = ptr(512 * mib) }
	in("memory.limit", "memory", memory(limit), "memory.limit_in_bytes", "536870912", "memory.max", "536870912")
	in("memory.reservation", "memory", memory(func(m *specs.LinuxMemory) { m.Reservation = ptr(256 * mib) }), "memory.soft_limit_in_bytes", "268435456", "memory.low", "268435456")
	swap := memory(func(m *specs.LinuxMemory) { limit(m); m.Swap = ptr(768 * mib) })
	in("memory.swap", "memory", swap, "memory.memsw.limit_in_bytes", "805306368", "memory.swap.max", "268435456")
	rows = append(rows,
		Row{Field: f + "memory.swap", Case: "without limit", Set: memory(func(m *specs.LinuxMemory) { m.Swap = ptr(mib) }), When: v2("memory"), Refused: madeCgroup + "linux.resources.memory.swap 1048576: cgroup v2 limits swap alone, so the share of swap in the sum depends on memory.limit; set memory.limit"},
		Row{Field: f + "memory.kernel", Set: memory(func(m *specs.LinuxMemory) { m.Kernel = ptr(mib) }), Box: "system:kernel-memory", Look: "notes memory.kernel", Want: "linux.resources.memory.kernel 1048576 is ignored, as the runtime spec allows: Linux 5.16 dropped the limit", Note: "ignored, as the specification allows; logged"},
	)
	onlyV1("memory.kernelTCP", "memory", 512*mib, memory(func(m *specs.LinuxMemory) { m.KernelTCP = ptr(512 * mib) }), "memory.kmem.tcp.limit_in_bytes", "536870912")
	onlyV1("memory.swappiness", "memory", 33, memory(func(m *specs.LinuxMemory) { m.Swappiness = ptr(uint64(33)) }), "memory.swappiness", "33")
	onlyV1("memory.disableOOMKiller", "memory", true, memory(func(m *specs.LinuxMemory) { m.DisableOOMKiller = ptr(true) }), "memory.oom_control", "oom_kill_disable 1")
	in("memory.useHierarchy", "memory", memory(func(m *specs.LinuxMemory) { m.UseHierarchy = ptr(true) }), "memory.use_hierarchy", "1", "memory.max", "536870912")
	rows = append(rows, Row{Field: f + "memory.checkBeforeUpdate", Look: "update below usage", Box: "system:check", Want: "refused", Set: memory(func(m *specs.LinuxMemory) { m.CheckBeforeUpdate = ptr(true) })})

	in("cpu.shares", "cpu", cpu(func(c *specs.LinuxCPU) { c.Shares = ptr(uint64(512)) }), "cpu.shares", "512", "cpu.weight", "59")
	quota := cpu(func(c *specs.LinuxCPU) {
		c.Quota, c.Period, c.Burst = ptr(int64(50000)), ptr(uint64(200000)), ptr(uint64(7000))
	})
	in("cpu.quota", "cpu", quota, "cpu.cfs_quota_us", "50000", "cpu.max", "50000 200000")
	in("cpu.period", "cpu", quota, "cpu.cfs_period_us", "200000", "cpu.max", "50000 200000")
	in("cpu.burst", "cpu", quota, "cpu.cfs_burst_us", "7000", "cpu.max.burst", "7000")
	in("cpu.cpus", "cpuset", cpu(func(c *specs.LinuxCPU) { c.Cpus = "1" }), "cpuset.cpus", "1", "cpuset.cpus", "1")
	in("cpu.mems", "cpuset", cpu(func(c *specs.LinuxCPU) { c.Mems = "0" }), "cpuset.mems", "0", "cpuset.mems", "0")
	idle := cpu(func(c *specs.LinuxCPU) { c.Idle = ptr(int64(1)) })
	for _, when := range []*Condition{v1("cpu"), v2("cpu")} {
		rows = append(rows, Row{Field: f + "cpu.idle", Set: idle, Box: "system:idle", Look: "cgroup cpu cpu.idle", Want: "1", When: when})
	}
	rows = append(rows, Row{Field: f + "cpu.cpus", Case: "as the process sees it", Set: cpu(func(c *specs.LinuxCPU) { c.Cpus = "1" }), Box: "system:limits", Ask: "cpus", Want: "1"})
	real := func(field string, value any, set func(*specs.LinuxCPU), file, want string) {
		rows = append(rows,
			Row{Field: f + field, Set: cpu(set), Box: "system:" + field, Look: "cgroup cpu " + file, Want: want, When: v1("cpu"), Refused: noRealtime(f+field, value, file)},
			Row{Field: f + field, Set: cpu(set), Refused: madeCgroup + fmt.Sprintf("%s%s %v: %s", f, field, value, noV2), When: v2("cpu")})
	}
	real("cpu.realtimePeriod", 900000, func(c *specs.LinuxCPU) { c.RealtimePeriod = ptr(uint64(900000)) }, "cpu.rt_period_us", "900000")
	real("cpu.realtimeRuntime", 1000, func(c *specs.LinuxCPU) { c.RealtimeRuntime = ptr(int64(1000)) }, "cpu.rt_runtime_us", "1000")

	pids := func(n int64) func(*specs.Spec) {
		return resources(func(r *specs.LinuxResources) { r.Pids = &specs.LinuxPids{Limit: &n} })
	}
	in("pids.limit", "pids", pids(100), "pids.max", "100", "pids.max", "100")
	for _, when := range []*Condition{v1("pids"), v2("pids")} {
		rows = append(rows, Row{Field: f + "pids.limit", Case: "-1", Set: pids(-1), Box: "system:pids", Look: "cgroup pids pids.max", Want: "max", When: when})
	}

	huge := resources(func(r *specs.LinuxResources) {
		r.HugepageLimits = []specs.LinuxHugepageLimit{{Pagesize: "2MB", Limit: 4 << 20}}
	})
	for _, field := range []string{"pageSize", "limit"} {
		in("hugepageLimits[]."+field, "hugetlb", huge, "hugetlb.2MB.limit_in_bytes", "4194304", "hugetlb.2MB.max", "4194304")
		in("hugepageLimits[]."+field, "hugetlb", huge, "hugetlb.2MB.rsvd.limit_in_bytes", "4194304", "hugetlb.2MB.rsvd.max", "4194304")
	}
	rows = append(rows,
		Row{Field: f + "hugepageLimits[].pageSize", Case: "not the host's", Set: resources(func(r *specs.LinuxResources) {
			r.HugepageLimits = []specs.LinuxHugepageLimit{{Pagesize: "3MB", Limit: 1}}
		}), When: v2("hugetlb"), Refused: madeCgroup + "linux.resources.hugepageLimits 3MB=1: the kernel has no file hugetlb.3MB.max: the host has no huge pages of this size; see /sys/kernel/mm/hugepages"})

	class := resources(func(r *specs.LinuxResources) { r.Network = &specs.LinuxNetwork{ClassID: ptr(uint32(0x100001))} })
	rows = append(rows,
		Row{Field: f + "network.classID", Set: class, Box: "system:class", Look: "cgroup net_cls net_cls.classid", Want: "1048577", When: v1("net_cls")},
		Row{Field: f + "network.classID", Set: class, When: without("net_cls"), Refused: absent("network.classID", "1048577", "net_cls")})
	for _, field := range []string{"name", "priority"} {
		set := resources(func(r *specs.LinuxResources) {
			r.Network = &specs.LinuxNetwork{Priorities: []specs.LinuxInterfacePriority{{Name: "lo", Priority: 3}}}
		})
		rows = append(rows,
			Row{Field: f + "network.priorities[]." + field, Set: set, Box: "system:prio", Look: "cgroup net_prio net_prio.ifpriomap", Want: "lo 3", When: v1("net_prio")},
			Row{Field: f + "network.priorities[]." + field, Set: set, When: without("net_prio"), Refused: absent("network.priorities", "lo", "net_prio")})
	}
	for _, field := range []string{"hcaHandles", "hcaObjects"} {
		set := resources(func(r *specs.LinuxResources) {
			r.Rdma = map[string]specs.LinuxRdma{"mlx5_1": {HcaHandles: ptr(uint32(3)), HcaObjects: ptr(uint32(4))}}
		})
		rows = append(rows,
			Row{Field: f + "rdma{}." + field, Set: set, When: without("rdma"), Refused: absent("rdma", "mlx5_1 hca_handle=3 hca_object=4", "rdma")},
			Row{Field: f + "rdma{}." + field, Set: set, When: v2("rdma"), Refused: madeCgroup + "linux.resources.rdma mlx5_1 hca_handle=3 hca_object=4: write \"mlx5_1 hca_handle=3 hca_object=4\" to CGROUP/rdma.max: no such device", Note: "honoured where the host has the device"})
	}
	set := func(file, value string) func(*specs.Spec) {
		return resources(func(r *specs.LinuxResources) { r.Unified = map[string]string{file: value} })
	}
	return append(rows,
		Row{Field: f + "unified", Set: set("memory.high", "536870912"), When: onlyV2, Box: "system:unified", Look: "cgroup memory memory.high", Want: "536870912"},
		Row{Field: f + "unified", Set: set("memory.high", "536870912"), When: notOnlyV2, Refused: madeCgroup + f + "unified.memory.high 536870912: " + unified},
		Row{Field: f + "unified", Case: "what moves processes", Set: set("cgroup.procs", "1"), When: onlyV2, Refused: madeCgroup + f + "unified.cgroup.procs 1: this file moves or stops processes, which only the runtime may do; remove it"},
	)
}

// noRealtime is what the kernel refuses where the cgroups above have no share of real time,
// or the file is not there.
func noRealtime(field string, value any, file string) string {
	if exists("/sys/fs/cgroup/cpu/" + file) {
		return fmt.Sprintf(`%s%s %v: write "%v" to CGROUP/%s: invalid argument`, madeCgroup, field, value, value, file)
	}
	return fmt.Sprintf("%s%s %v: the kernel has no file %s: the kernel is built without CONFIG_RT_GROUP_SCHED", madeCgroup, field, value, file)
}

// absent is the refusal where a controller is in no hierarchy.
func absent(field, value, controller string) string {
	mode := "hybrid"
	if onlyV2.Met() {
		mode = "v2"
	}
	return madeCgroup + fmt.Sprintf("linux.resources.%s %s: the cgroup controller %q is not mounted on this host (%s); remove the field or enable the controller", field, value, controller, mode)
}

// blockRows are linux.resources.blockIO, with the disk of the host.
func blockRows() []Row {
	const f = "linux.resources.blockIO."
	var rows []Row
	block := func(set func(*specs.LinuxBlockIO)) func(*specs.Spec) {
		return resources(func(r *specs.LinuxResources) {
			if r.BlockIO == nil {
				r.BlockIO = &specs.LinuxBlockIO{}
			}
			set(r.BlockIO)
		})
	}
	dev, name := disk()
	throttle := func(rate uint64) []specs.LinuxThrottleDevice {
		return []specs.LinuxThrottleDevice{{LinuxBlockIODevice: dev, Rate: rate}}
	}
	for _, x := range []struct {
		field, v1file, v2word string
		rate                  uint64
		set                   func(*specs.LinuxBlockIO, []specs.LinuxThrottleDevice)
	}{
		{"throttleReadBpsDevice", "read_bps", "rbps", 100001, func(b *specs.LinuxBlockIO, t []specs.LinuxThrottleDevice) { b.ThrottleReadBpsDevice = t }},
		{"throttleWriteBpsDevice", "write_bps", "wbps", 100002, func(b *specs.LinuxBlockIO, t []specs.LinuxThrottleDevice) { b.ThrottleWriteBpsDevice = t }},
		{"throttleReadIOPSDevice", "read_iops", "riops", 1003, func(b *specs.LinuxBlockIO, t []specs.LinuxThrottleDevice) { b.ThrottleReadIOPSDevice = t }},
		{"throttleWriteIOPSDevice", "write_iops", "wiops", 1004, func(b *specs.LinuxBlockIO, t []specs.LinuxThrottleDevice) { b.ThrottleWriteIOPSDevice = t }},
	} {
		set := block(func(b *specs.LinuxBlockIO) { x.set(b, throttle(x.rate)) })
		for _, sub := range []string{"major", "minor", "rate"} {
			rows = append(rows,
				Row{Field: f + x.field + "[]." + sub, Set: set, Box: "system:block", Look: "cgroup blkio blkio.throttle." + x.v1file + "_device", Want: fmt.Sprint(name, " ", x.rate), When: v1("blkio")},
				Row{Field: f + x.field + "[]." + sub, Set: set, Box: "system:block", Look: "cgroup-word io io.max " + x.v2word, Want: fmt.Sprint(x.v2word, "=", x.rate), When: v2("io")})
		}
	}
	// The controls of weight come and go with the I/O scheduler.
	const bfq = "no I/O scheduler with this control is loaded; load bfq or remove the field"
	const cfq = "Linux 5.0 dropped it with the CFQ scheduler; remove the field"
	missing := func(field, value, file, why string) string {
		return madeCgroup + fmt.Sprintf("%s%s %s: the kernel has no file %s: %s", f, field, value, file, why)
	}
	weight := block(func(b *specs.LinuxBlockIO) { b.Weight = ptr(uint16(300)) })
	rows = append(rows,
		Row{Field: f + "weight", Set: weight, Box: "system:weight", Look: "weight blkio blkio.weight blkio.bfq.weight", Want: "300", Refused: missing("weight", "300", "blkio.weight", bfq), When: v1("blkio")},
		Row{Field: f + "weight", Set: weight, Box: "system:weight", Look: "weight io io.weight io.bfq.weight", Want: "default 2930 or 300", Refused: missing("weight", "300", "io.weight", bfq), When: v2("io")})
	leaf := block(func(b *specs.LinuxBlockIO) { b.LeafWeight = ptr(uint16(300)) })
	rows = append(rows,
		Row{Field: f + "leafWeight", Set: leaf, Refused: missing("leafWeight", "300", "blkio.leaf_weight", cfq), When: v1("blkio")},
		Row{Field: f + "leafWeight", Set: leaf, Refused: madeCgroup + f + "leafWeight 300: " + noV2, When: v2("io")})
	for _, sub := range []string{"major", "minor", "weight"} {
		set := block(func(b *specs.LinuxBlockIO) {
			b.WeightDevice = []specs.LinuxWeightDevice{{LinuxBlockIODevice: dev, Weight: ptr(uint16(300))}}
		})
		rows = append(rows,
			Row{Field: f + "weightDevice[]." + sub, Set: set, Box: "system:weights", Look: "weight blkio blkio.weight_device blkio.bfq.weight_device", Want: name + " 300", Refused: noWeight(f, name, "300", "blkio.weight_device", "blkio.bfq.weight_device", bfq), When: v1("blkio")},
			Row{Field: f + "weightDevice[]." + sub, Set: set, Box: "system:weights", Look: "weight io io.weight io.bfq.weight", Want: name + " 2930 or " + name + " 300", Refused: noWeight(f, name, "2930", "io.weight", "io.bfq.weight", bfq), When: v2("io")})
	}
	leafDevice := block(func(b *specs.LinuxBlockIO) {
		b.WeightDevice = []specs.LinuxWeightDevice{{LinuxBlockIODevice: dev, LeafWeight: ptr(uint16(300))}}
	})
	return append(rows,
		Row{Field: f + "weightDevice[].leafWeight", Set: leafDevice, Refused: missing("weightDevice.leafWeight", name+" 300", "blkio.leaf_weight_device", cfq), When: v1("blkio")},
		Row{Field: f + "weightDevice[].leafWeight", Set: leafDevice, Refused: madeCgroup + f + "weightDevice.leafWeight " + name + " 300: " + noV2, When: v2("io")})
}

// noWeight are the refusals of a device's weight: its I/O scheduler has none, or no
// device's has.
func noWeight(f, name, value, file, bfqFile, why string) string {
	field := madeCgroup + f + "weightDevice.weight " + name + " 300: "
	var all []string
	for file, value := range map[string]string{file: value, bfqFile: "300"} {
		all = append(all, fmt.Sprintf("%swrite \"%s %s\" to CGROUP/%s: operation not supported: %s", field, name, value, file, why))
	}
	return strings.Join(append(all, field+"the kernel has no file "+file+": "+why), "\n")
}
