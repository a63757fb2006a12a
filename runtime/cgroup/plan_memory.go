// SPDX-License-Identifier: Apache-2.0

package cgroup

import (
	"fmt"
	"strconv"
	"sync"

	"github.com/opencontainers/runtime-spec/specs-go"
)

// memory plans linux.resources.memory. Zero means unset for the limits;
// -1 is unlimited.
func (p *planner) memory(m *specs.LinuxMemory) {
	limit, swap := deref(m.Limit), deref(m.Swap)
	if limit == -1 && swap == 0 {
		swap = -1 // no limit on memory, none on its sum with swap
	}
	if limit != 0 {
		check := m.CheckBeforeUpdate != nil && *m.CheckBeforeUpdate
		s := p.setOr(limit < 0, "memory", "memory.limit", limit, "memory.limit_in_bytes", itoa(limit), "memory.max", v2max(limit))
		if check && limit > 0 {
			s.hint = checkUsage
		}
	}
	if r := deref(m.Reservation); r != 0 {
		p.setOr(r < 0, "memory", "memory.reservation", r, "memory.soft_limit_in_bytes", itoa(r), "memory.low", v2max(r))
	}
	if swap != 0 {
		p.swap(limit, swap)
	}
	if m.Kernel != nil && *m.Kernel != 0 {
		p.warnings = append(p.warnings, fmt.Sprintf(
			"linux.resources.memory.kernel %d is ignored, as the runtime spec allows: Linux 5.16 dropped the limit", *m.Kernel))
	}
	if t := deref(m.KernelTCP); t != 0 {
		p.setOr(t < 0, "memory", "memory.kernelTCP", t, "memory.kmem.tcp.limit_in_bytes", itoa(t), "", "")
	}
	if m.Swappiness != nil {
		p.setOr(*m.Swappiness == hostSwappiness(), "memory", "memory.swappiness", *m.Swappiness, "memory.swappiness", utoa(*m.Swappiness), "", "")
	}
	p.oomAndHierarchy(m)
}

func (p *planner) swap(limit, swap int64) {
	const field = "memory.swap"
	if p.l.version("memory") != 2 {
		s := p.setOr(swap < 0, "memory", field, swap, "memory.memsw.limit_in_bytes", itoa(swap), "", "")
		s.hint, s.optional = "the kernel does not count swap; boot with swapaccount=1 or remove the field", swap < 0
		return
	}
	v := int64(-1)
	switch {
	case swap < 0:
	case limit < 0:
		p.refuse(field, swap, "memory.limit is unlimited, so cgroup v2 cannot limit the sum of memory and swap; set memory.limit")
		return
	case limit == 0:
		p.refuse(field, swap, "cgroup v2 limits swap alone, so the share of swap in the sum depends on memory.limit; set memory.limit")
		return
	case swap < limit:
		p.refuse(field, swap, "it is the sum of memory and swap, so it cannot be less than memory.limit %d", limit)
		return
	default:
		v = swap - limit
	}
	s := p.set("memory", field, swap, "", "", "memory.swap.max", v2max(v))
	// A kernel without the file has no swap or does not count it.
	s.hint, s.optional = "the kernel does not count swap; boot with swapaccount=1 or remove the field", v < 0
}

func (p *planner) oomAndHierarchy(m *specs.LinuxMemory) {
	if m.DisableOOMKiller != nil {
		v := "0"
		if *m.DisableOOMKiller {
			v = "1"
		}
		p.setOr(!*m.DisableOOMKiller, "memory", "memory.disableOOMKiller", *m.DisableOOMKiller, "memory.oom_control", v, "", "")
	}
	// Linux 5.11 made the hierarchy mandatory, as v2 always had it.
	if m.UseHierarchy != nil {
		v := "0"
		if *m.UseHierarchy {
			v = "1"
		}
		p.setOr(*m.UseHierarchy, "memory", "memory.useHierarchy", *m.UseHierarchy, "memory.use_hierarchy", v, "", "")
	}
}

// hostSwappiness is vm.swappiness, the value of cgroups without their own.
var hostSwappiness = sync.OnceValue(func() uint64 {
	s, err := readFile("/proc/sys/vm/swappiness")
	if err != nil {
		return 60 // the default of the kernel
	}
	n, _ := strconv.ParseUint(s, 10, 64)
	return n
})

// checkUsage in setting.hint asks for a comparison of the limit with the usage first.
const checkUsage = "check usage"

func v2max(v int64) string {
	if v < 0 {
		return "max"
	}
	return itoa(v)
}

func deref[T any](p *T) (v T) {
	if p != nil {
		v = *p
	}
	return v
}
