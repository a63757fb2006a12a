// SPDX-License-Identifier: Apache-2.0

package cgroup

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/opencontainers/runtime-spec/specs-go"
)

// defaultWeight is the default of bfq (block/bfq-cgroup.h); without a scheduler that uses weights, all are equal.
const defaultWeight = 100

// blockIO plans linux.resources.blockIO. The controller is blkio in v1 and io in v2.
func (p *planner) blockIO(b *specs.LinuxBlockIO) {
	name := "io"
	if p.l.v1("blkio") != "" {
		name = "blkio"
	}
	const noCFQ = "no I/O scheduler with this control is loaded; load bfq or remove the field"
	if w := deref(b.Weight); w != 0 {
		s := p.setOr(w == defaultWeight, name, "blockIO.weight", w, "blkio.weight", utoa(uint64(w)), "io.weight", "default "+utoa(ioWeight(w)))
		s.hint = noCFQ
		// bfq counts from 1 to 1000 on both versions.
		s.prefer, s.preferValue = map[string]string{"blkio": "blkio.bfq.weight", "io": "io.bfq.weight"}[name], utoa(uint64(w))
	}
	if w := deref(b.LeafWeight); w != 0 {
		p.set(name, "blockIO.leafWeight", w, "blkio.leaf_weight", utoa(uint64(w)), "", "").
			hint = "Linux 5.0 dropped it with the CFQ scheduler; remove the field"
	}
	for _, d := range b.WeightDevice {
		dev := fmt.Sprintf("%d:%d ", d.Major, d.Minor)
		if w := deref(d.Weight); w != 0 {
			s := p.set(name, "blockIO.weightDevice.weight", dev+utoa(uint64(w)),
				"blkio.weight_device", dev+utoa(uint64(w)), "io.weight", dev+utoa(ioWeight(w)))
			s.hint = noCFQ
			s.prefer = map[string]string{"blkio": "blkio.bfq.weight_device", "io": "io.bfq.weight"}[name]
			s.preferValue = dev + utoa(uint64(w))
		}
		if w := deref(d.LeafWeight); w != 0 {
			p.set(name, "blockIO.weightDevice.leafWeight", dev+utoa(uint64(w)), "blkio.leaf_weight_device", dev+utoa(uint64(w)), "", "").
				hint = "Linux 5.0 dropped it with the CFQ scheduler; remove the field"
		}
	}
	for _, t := range []struct {
		field, v1, v2 string
		devices       []specs.LinuxThrottleDevice
	}{
		{"blockIO.throttleReadBpsDevice", "blkio.throttle.read_bps_device", "rbps", b.ThrottleReadBpsDevice},
		{"blockIO.throttleWriteBpsDevice", "blkio.throttle.write_bps_device", "wbps", b.ThrottleWriteBpsDevice},
		{"blockIO.throttleReadIOPSDevice", "blkio.throttle.read_iops_device", "riops", b.ThrottleReadIOPSDevice},
		{"blockIO.throttleWriteIOPSDevice", "blkio.throttle.write_iops_device", "wiops", b.ThrottleWriteIOPSDevice},
	} {
		for _, d := range t.devices {
			dev, rate := fmt.Sprintf("%d:%d ", d.Major, d.Minor), utoa(d.Rate)
			v2rate := rate
			if d.Rate == 0 {
				v2rate = "max" // 0 lifts the limit on v1
			}
			p.setOr(d.Rate == 0, name, t.field, dev+rate, t.v1, dev+rate, "io.max", dev+t.v2+"="+v2rate)
		}
	}
}

// ioWeight maps the 10…1000 of v1 linearly to the 1…10000 of v2.
func ioWeight(w uint16) uint64 {
	return 1 + (uint64(max(w, 10))-10)*9999/990
}

func (p *planner) hugepages(limits []specs.LinuxHugepageLimit) {
	for _, h := range limits {
		value := fmt.Sprintf("%s=%d", h.Pagesize, h.Limit)
		if h.Pagesize == "" || strings.ContainsAny(h.Pagesize, "/.\n") {
			p.refuse("hugepageLimits", value, "pageSize must look like 2MB or 1GB")
			return
		}
		f, n := "hugetlb."+h.Pagesize, utoa(h.Limit)
		p.set("hugetlb", "hugepageLimits", value, f+".limit_in_bytes", n, f+".max", n).
			hint = "the host has no huge pages of this size; see /sys/kernel/mm/hugepages"
		// Limits on reservations (Linux 5.7) stop an application at mmap instead of by
		// SIGBUS at first use.
		p.set("hugetlb", "hugepageLimits", value, f+".rsvd.limit_in_bytes", n, f+".rsvd.max", n).optional = true
	}
}

func (p *planner) rdma(devices map[string]specs.LinuxRdma) {
	for _, dev := range slices.Sorted(maps.Keys(devices)) {
		v := dev
		if h := devices[dev].HcaHandles; h != nil {
			v += fmt.Sprintf(" hca_handle=%d", *h)
		}
		if o := devices[dev].HcaObjects; o != nil {
			v += fmt.Sprintf(" hca_object=%d", *o)
		}
		if v != dev {
			p.set("rdma", "rdma", v, "rdma.max", v, "rdma.max", v)
		}
	}
}

// unifiedDefaults are the defaults of cgroup v2 files (admin-guide/cgroup-v2.rst): they apply
// where the controller is missing.
var unifiedDefaults = map[string]string{
	"cpu.weight": "100", "cpu.weight.nice": "0", "cpu.idle": "0", "cpu.max": "max", "cpu.max.burst": "0",
	"memory.min": "0", "memory.low": "0", "memory.high": "max", "memory.max": "max", "memory.swap.max": "max",
	"memory.oom.group": "0", "memory.swap.high": "max", "memory.zswap.max": "max", "pids.max": "max", "io.weight": "default 100",
}

// unified plans linux.resources.unified: file names of cgroup v2 with values.
func (p *planner) unified(files map[string]string) {
	for _, f := range slices.Sorted(maps.Keys(files)) {
		field := "unified." + f
		controller, _, ok := strings.Cut(f, ".")
		switch {
		case p.l.Mode() != "v2":
			p.refuse(field, files[f], "the field only works on hosts with pure cgroup v2, and this one is %s; use the fields memory, cpu, pids… instead", p.l.Mode())
		case !ok || strings.ContainsAny(f, "/\x00"):
			p.refuse(field, files[f], "the key must be the name of a cgroup v2 file, such as memory.high")
		case controller == "cgroup" && !slices.Contains([]string{"cgroup.max.depth", "cgroup.max.descendants", "cgroup.pressure"}, f):
			p.refuse(field, files[f], "this file moves or stops processes, which only the runtime may do; remove it")
		case unifiedDefaults[f] == files[f] && files[f] != "" && p.l.version(controller) == 0:
		case controller == "cgroup":
			p.settings = append(p.settings, setting{file: f, value: files[f], field: "linux.resources." + field + " " + files[f]})
		default:
			// A file may take several lines, with one write each.
			for line := range strings.SplitSeq(strings.TrimSuffix(files[f], "\n"), "\n") {
				p.set(controller, field, line, "", "", f, line)
			}
		}
	}
}
