// SPDX-License-Identifier: Apache-2.0

package cgroup

import (
	"math"

	"github.com/opencontainers/runtime-spec/specs-go"
)

// The defaults of the kernel (kernel/sched/sched.h, rt.c).
const (
	defaultShares         = 1024
	defaultRealtimePeriod = 1_000_000 // microseconds
)

// cpu plans linux.resources.cpu. Zero means unset for shares, quota and
// period: Docker and kubelet send it for "no limit".
func (p *planner) cpu(c *specs.LinuxCPU) {
	if c.Shares != nil && *c.Shares != 0 {
		p.setOr(*c.Shares == defaultShares, "cpu", "cpu.shares", *c.Shares, "cpu.shares", utoa(*c.Shares),
			"cpu.weight", utoa(cpuWeight(*c.Shares)))
	}
	if c.Idle != nil {
		p.setOr(*c.Idle == 0, "cpu", "cpu.idle", *c.Idle, "cpu.idle", itoa(*c.Idle), "cpu.idle", itoa(*c.Idle)).
			hint = "Linux 5.15 or newer is needed"
	}
	quota := c.Quota != nil && *c.Quota != 0
	period := c.Period != nil && *c.Period != 0
	if quota || period {
		p.bandwidth(c, quota, period)
	}
	if c.Burst != nil {
		p.setOr(*c.Burst == 0, "cpu", "cpu.burst", *c.Burst, "cpu.cfs_burst_us", utoa(*c.Burst), "cpu.max.burst", utoa(*c.Burst)).
			hint = "Linux 5.14 or newer is needed"
	}
	const rt = "the kernel is built without CONFIG_RT_GROUP_SCHED"
	if c.RealtimePeriod != nil && *c.RealtimePeriod != 0 {
		p.setOr(*c.RealtimePeriod == defaultRealtimePeriod, "cpu", "cpu.realtimePeriod", *c.RealtimePeriod, "cpu.rt_period_us", utoa(*c.RealtimePeriod), "", "").hint = rt
	}
	if c.RealtimeRuntime != nil && *c.RealtimeRuntime != 0 {
		p.set("cpu", "cpu.realtimeRuntime", *c.RealtimeRuntime, "cpu.rt_runtime_us", itoa(*c.RealtimeRuntime), "", "").hint = rt
	}
	if c.Cpus != "" {
		p.set("cpuset", "cpu.cpus", c.Cpus, "cpuset.cpus", c.Cpus, "cpuset.cpus", c.Cpus)
	}
	if c.Mems != "" {
		p.set("cpuset", "cpu.mems", c.Mems, "cpuset.mems", c.Mems, "cpuset.mems", c.Mems)
	}
}

// keep in a v2 value stands for the word that is in the file now.
const keep = "\x00"

func (p *planner) bandwidth(c *specs.LinuxCPU, quota, period bool) {
	if p.l.version("cpu") != 2 {
		// A period without a quota does not limit anything.
		limited := quota && *c.Quota > 0
		if period {
			p.setOr(!limited, "cpu", "cpu.period", *c.Period, "cpu.cfs_period_us", utoa(*c.Period), "", "")
		}
		if quota {
			p.setOr(!limited, "cpu", "cpu.quota", *c.Quota, "cpu.cfs_quota_us", itoa(*c.Quota), "", "")
		}
		return
	}
	// cpu.max holds both; if only one word is written the kernel keeps the period.
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

// cpuWeight converts shares of v1 (2 to 262,144, default 1,024) to the weight of cgroup2 (1
// to 10,000, default 100): the logarithms lie on the parabola through those three pairs, as in
// runc 1.3.2, crun 1.23 and newer.
func cpuWeight(shares uint64) uint64 {
	switch {
	case shares <= 2:
		return 1
	case shares >= 262144:
		return 10000
	}
	l := math.Log2(float64(shares))
	return uint64(math.Ceil(math.Pow(10, (l*l+125*l)/612-7.0/34)))
}
