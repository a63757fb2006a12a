// SPDX-License-Identifier: Apache-2.0

package metrics

import (
	"bufio"
	"errors"
	"fmt"
	"math"
	"os"
	"strconv"
	"strings"
	"time"

	v1 "github.com/containerd/cgroups/v3/cgroup1/stats"
)

// read1 reads what the v1 controllers count (Documentation/admin-guide/cgroup-v1).
func (r *Reader) read1() (*v1.Metrics, error) {
	m := &v1.Metrics{CPU: &v1.CPUStat{Throttling: &v1.Throttle{}, Usage: &v1.CPUUsage{}}}
	found := false
	for _, c := range []struct {
		controller string
		read       func(*statDir, *v1.Metrics)
	}{
		{"cpu", cpu1},
		{"cpuacct", cpuacct1},
		{"memory", memory1},
		{"blkio", blkio1},
		{"pids", pids1},
		{"hugetlb", hugetlb1},
		{"rdma", rdma1},
	} {
		dir, mounted := r.dirs.V1[c.controller]
		if !mounted {
			continue
		}
		found = true
		d := &statDir{path: dir}
		c.read(d, m)
		// Checked last: a cgroup removed meanwhile has no numbers; zeros would be wrong.
		if !exists(d.path) {
			return nil, missing(d.path)
		}
		if d.err != nil {
			return nil, d.err
		}
	}
	if !found {
		return nil, errors.New("no v1 controller with statistics is mounted")
	}
	return m, nil
}

func cpu1(d *statDir, m *v1.Metrics) {
	d.fill("cpu.stat", m.CPU.Throttling, map[string]string{"nr_periods": "periods", "nr_throttled": "throttled_periods"})
}

// userHZ is the unit of cpuacct.stat, the same on all architectures that Go runs on
// (times(2), sysconf(_SC_CLK_TCK)).
const userHZ = 100

func cpuacct1(d *statDir, m *v1.Metrics) {
	u := m.CPU.Usage
	d.fill("cpuacct.stat", u, map[string]string{"system": "kernel"})
	const tick = uint64(time.Second / userHZ)
	u.User, u.Kernel = u.User*tick, u.Kernel*tick
	u.Total = d.number("cpuacct.usage", 0)
	s, _ := d.read("cpuacct.usage_percpu")
	for v := range strings.FieldsSeq(s) {
		n, err := parseStat(v, 0)
		if err != nil {
			d.fail(fmt.Errorf("%s/cpuacct.usage_percpu: %w", d.path, err))
		}
		u.PerCPU = append(u.PerCPU, n)
	}
}

func memory1(d *statDir, m *v1.Metrics) {
	m.Memory = &v1.MemoryStat{Usage: &v1.MemoryEntry{}, Swap: &v1.MemoryEntry{}, Kernel: &v1.MemoryEntry{}, KernelTCP: &v1.MemoryEntry{}}
	d.fill("memory.stat", m.Memory, map[string]string{"hierarchical_memsw_limit": "hierarchical_swap_limit"})
	m.MemoryOomControl = &v1.MemoryOomControl{}
	d.fill("memory.oom_control", m.MemoryOomControl, nil)
	// Swap is not always counted, and newer kernels drop kmem.
	for prefix, e := range map[string]*v1.MemoryEntry{
		"memory": m.Memory.Usage, "memory.memsw": m.Memory.Swap, "memory.kmem": m.Memory.Kernel, "memory.kmem.tcp": m.Memory.KernelTCP,
	} {
		e.Usage = d.number(prefix+".usage_in_bytes", 0)
		e.Max = d.number(prefix+".max_usage_in_bytes", 0)
		e.Failcnt = d.number(prefix+".failcnt", 0)
		e.Limit = d.number(prefix+".limit_in_bytes", 0)
	}
}

func pids1(d *statDir, m *v1.Metrics) {
	m.Pids = &v1.PidsStat{Current: d.number("pids.current", 0), Limit: d.number("pids.max", 0)}
}

func hugetlb1(d *statDir, m *v1.Metrics) {
	sizes, err := hugePageSizes(d.path)
	if err != nil {
		return // the cgroup is gone; the caller notices
	}
	for _, size := range sizes {
		m.Hugetlb = append(m.Hugetlb, &v1.HugetlbStat{
			Pagesize: size,
			Usage:    d.number("hugetlb."+size+".usage_in_bytes", 0),
			Max:      d.number("hugetlb."+size+".max_usage_in_bytes", 0),
			Failcnt:  d.number("hugetlb."+size+".failcnt", 0),
		})
	}
}

func rdma1(d *statDir, m *v1.Metrics) {
	m.Rdma = &v1.RdmaStat{}
	for file, list := range map[string]*[]*v1.RdmaEntry{"rdma.current": &m.Rdma.Current, "rdma.max": &m.Rdma.Limit} {
		d.rdma(file, func(device string, handles, objects uint32) {
			*list = append(*list, &v1.RdmaEntry{Device: device, HcaHandles: handles, HcaObjects: objects})
		})
	}
}

// blkio1 reads the files of the CFQ scheduler (before Linux 5.0; BFQ uses the names, too)
// and, if those count nothing, the files of throttling.
func blkio1(d *statDir, m *v1.Metrics) {
	b := &v1.BlkIOStat{}
	m.Blkio = b
	devices := blockDevices()
	counted := false
	for file, list := range map[string]*[]*v1.BlkIOEntry{
		"sectors_recursive":          &b.SectorsRecursive,
		"io_service_bytes_recursive": &b.IoServiceBytesRecursive,
		"io_serviced_recursive":      &b.IoServicedRecursive,
		"io_queued_recursive":        &b.IoQueuedRecursive,
		"io_service_time_recursive":  &b.IoServiceTimeRecursive,
		"io_wait_time_recursive":     &b.IoWaitTimeRecursive,
		"io_merged_recursive":        &b.IoMergedRecursive,
		"time_recursive":             &b.IoTimeRecursive,
	} {
		*list = blkioEntries(d, "blkio."+file, devices)
		counted = counted || len(*list) > 0
	}
	if !counted {
		b.IoServicedRecursive = blkioEntries(d, "blkio.throttle.io_serviced", devices)
		b.IoServiceBytesRecursive = blkioEntries(d, "blkio.throttle.io_service_bytes", devices)
	}
}

// blkioEntries reads lines of "major:minor [operation] value"; it skips the sum, "Total".
func blkioEntries(d *statDir, file string, devices map[string]string) []*v1.BlkIOEntry {
	s, _ := d.read(file)
	var out []*v1.BlkIOEntry
	for line := range strings.SplitSeq(s, "\n") {
		f := strings.Fields(line)
		if len(f) < 2 || len(f) > 3 || f[0] == "Total" {
			continue
		}
		e := &v1.BlkIOEntry{Device: devices[f[0]]}
		if len(f) == 3 {
			e.Op = f[1]
		}
		major, minor, _ := strings.Cut(f[0], ":")
		for _, n := range []struct {
			from string
			to   *uint64
		}{{major, &e.Major}, {minor, &e.Minor}, {f[len(f)-1], &e.Value}} {
			v, err := parseStat(n.from, math.MaxUint64)
			if err != nil {
				d.fail(fmt.Errorf("%s/%s: line %q: %w", d.path, file, line, err))
			}
			*n.to = v
		}
		out = append(out, e)
	}
	return out
}

// blockDevices maps "major:minor" to the path of each block device of the host
// (proc_partitions(5)).
func blockDevices() map[string]string {
	f, err := os.Open("/proc/partitions")
	if err != nil {
		return nil
	}
	defer f.Close()
	out := map[string]string{}
	for s := bufio.NewScanner(f); s.Scan(); {
		f := strings.Fields(s.Text())
		if len(f) != 4 {
			continue
		}
		if _, err := strconv.Atoi(f[0]); err == nil {
			out[f[0]+":"+f[1]] = "/dev/" + f[3]
		}
	}
	return out
}
