package cgroup

import (
	"github.com/containerd/cgroups/v3/cgroup2"
	"github.com/opencontainers/runtime-spec/specs-go"
)

// cpu plans linux.resources.cpu. Zero means unset for shares, quota and
// period: that's what Docker and kubelet send for "no limit".
func (p *planner) cpu(c *specs.LinuxCPU) {
	if c.Shares != nil && *c.Shares != 0 {
		p.set("cpu", "cpu.shares", *c.Shares, "cpu.shares", utoa(*c.Shares),
			"cpu.weight", utoa(cgroup2.ConvertCPUSharesToCgroupV2Value(*c.Shares)))
	}
	if c.Idle != nil {
		p.set("cpu", "cpu.idle", *c.Idle, "cpu.idle", itoa(*c.Idle), "cpu.idle", itoa(*c.Idle)).
			way = "Linux 5.15 or newer is needed"
	}
	quota := c.Quota != nil && *c.Quota != 0
	period := c.Period != nil && *c.Period != 0
	if quota || period {
		p.bandwidth(c, quota, period)
	}
	if c.Burst != nil {
		p.set("cpu", "cpu.burst", *c.Burst, "cpu.cfs_burst_us", utoa(*c.Burst), "cpu.max.burst", utoa(*c.Burst)).
			way = "Linux 5.14 or newer is needed"
	}
	const rt = "the kernel is built without CONFIG_RT_GROUP_SCHED"
	if c.RealtimePeriod != nil && *c.RealtimePeriod != 0 {
		p.set("cpu", "cpu.realtimePeriod", *c.RealtimePeriod, "cpu.rt_period_us", utoa(*c.RealtimePeriod), "", "").way = rt
	}
	if c.RealtimeRuntime != nil && *c.RealtimeRuntime != 0 {
		p.set("cpu", "cpu.realtimeRuntime", *c.RealtimeRuntime, "cpu.rt_runtime_us", itoa(*c.RealtimeRuntime), "", "").way = rt
	}
	if c.Cpus != "" {
		p.set("cpuset", "cpu.cpus", c.Cpus, "cpuset.cpus", c.Cpus, "cpuset.cpus", c.Cpus)
	}
	if c.Mems != "" {
		p.set("cpuset", "cpu.mems", c.Mems, "cpuset.mems", c.Mems, "cpuset.mems", c.Mems)
	}
}

// keep in a v2 value stands for the word that's in the file now.
const keep = "\x00"

func (p *planner) bandwidth(c *specs.LinuxCPU, quota, period bool) {
	if p.l.version("cpu") != 2 {
		if period {
			p.set("cpu", "cpu.period", *c.Period, "cpu.cfs_period_us", utoa(*c.Period), "", "")
		}
		if quota {
			p.set("cpu", "cpu.quota", *c.Quota, "cpu.cfs_quota_us", itoa(*c.Quota), "", "")
		}
		return
	}
	// cpu.max holds both; with one word alone the kernel keeps the period.
	max, field, value := keep, "cpu.period", any(nil)
	if period {
		value = *c.Period
	}
	if quota {
		max, field, value = itoa(*c.Quota), "cpu.quota", *c.Quota
		if *c.Quota < 0 {
			max = "max"
		}
	}
	if period {
		max += " " + utoa(*c.Period)
	}
	p.set("cpu", field, value, "", "", "cpu.max", max)
}
