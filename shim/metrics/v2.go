// SPDX-License-Identifier: Apache-2.0

package metrics

import (
	"fmt"
	"math"
	"strconv"
	"strings"

	v2 "github.com/containerd/cgroups/v3/cgroup2/stats"
)

// read2 reads what cgroup2 counts (Documentation/admin-guide/cgroup-v2.rst). Like
// upstream, it reports zero for controllers that are off.
func (r *Reader) read2() (*v2.Metrics, error) {
	d := &statDir{path: r.dirs.Unified}
	m := &v2.Metrics{
		Pids:   &v2.PidsStat{Current: d.number("pids.current", 0), Limit: d.number("pids.max", math.MaxUint64)},
		CPU:    &v2.CPUStat{},
		Memory: &v2.MemoryStat{},
		Io:     &v2.IOStat{Usage: io2(d), PSI: pressure(d, "io.pressure")},
		Rdma:   &v2.RdmaStat{},
	}
	if d.fill("cpu.stat", m.CPU, nil) {
		m.CPU.PSI = pressure(d, "cpu.pressure")
	}
	if mem := m.Memory; d.fill("memory.stat", mem, nil) {
		mem.Usage = d.number("memory.current", math.MaxUint64)
		mem.UsageLimit = d.number("memory.max", math.MaxUint64)
		mem.MaxUsage = d.number("memory.peak", math.MaxUint64)
		mem.SwapUsage = d.number("memory.swap.current", math.MaxUint64)
		mem.SwapLimit = d.number("memory.swap.max", math.MaxUint64)
		mem.SwapMaxUsage = d.number("memory.swap.peak", math.MaxUint64)
		mem.PSI = pressure(d, "memory.pressure")
	}
	if e := new(v2.MemoryEvents); d.fill("memory.events", e, nil) {
		m.MemoryEvents = e
	}
	for file, list := range map[string]*[]*v2.RdmaEntry{"rdma.current": &m.Rdma.Current, "rdma.max": &m.Rdma.Limit} {
		d.rdma(file, func(device string, handles, objects uint32) {
			*list = append(*list, &v2.RdmaEntry{Device: device, HcaHandles: handles, HcaObjects: objects})
		})
	}
	if sizes, err := hugePageSizes(d.path); err == nil {
		for _, size := range sizes {
			h := &v2.HugeTlbStat{
				Pagesize: size,
				Current:  d.number("hugetlb."+size+".current", math.MaxUint64),
				Max:      d.number("hugetlb."+size+".max", math.MaxUint64),
			}
			failed := &v2.HugeTlbStat{}
			d.fill("hugetlb."+size+".events", failed, map[string]string{"max": "failcnt"})
			h.Failcnt = failed.Failcnt
			m.Hugetlb = append(m.Hugetlb, h)
		}
	}
	// Checked last: a cgroup removed meanwhile has no numbers; zeros would be wrong.
	if !exists(d.path) {
		return nil, missing(d.path)
	}
	return m, d.err
}

// io2 reads lines of "major:minor key=value …".
func io2(d *statDir) []*v2.IOEntry {
	s, _ := d.read("io.stat")
	var out []*v2.IOEntry
	for line := range strings.SplitSeq(s, "\n") {
		f := strings.Fields(line)
		if len(f) < 2 {
			continue
		}
		e := &v2.IOEntry{}
		if _, err := fmt.Sscanf(f[0], "%d:%d", &e.Major, &e.Minor); err != nil {
			continue // a removed device has no number
		}
		for _, kv := range f[1:] {
			k, v, _ := strings.Cut(kv, "=")
			n, err := strconv.ParseUint(v, 10, 64)
			if err != nil {
				continue // other controllers add keys with other kinds of values
			}
			switch k {
			case "rbytes":
				e.Rbytes = n
			case "wbytes":
				e.Wbytes = n
			case "rios":
				e.Rios = n
			case "wios":
				e.Wios = n
			}
		}
		out = append(out, e)
	}
	return out
}

// pressure reads a pressure file (Documentation/accounting/psi.rst); nil if the
// kernel does not keep one.
func pressure(d *statDir, file string) *v2.PSIStats {
	s, ok := d.read(file)
	if !ok {
		return nil
	}
	out := &v2.PSIStats{}
	for line := range strings.SplitSeq(s, "\n") {
		p := &v2.PSIData{}
		var kind string
		if _, err := fmt.Sscanf(line, "%s avg10=%g avg60=%g avg300=%g total=%d", &kind, &p.Avg10, &p.Avg60, &p.Avg300, &p.Total); err != nil {
			d.fail(fmt.Errorf("%s/%s: line %q: %w", d.path, file, line, err))
			return nil
		}
		switch kind {
		case "some":
			out.Some = p
		case "full":
			out.Full = p
		}
	}
	return out
}
