package cgroup

import (
	"errors"
	"fmt"
	"os"
	"path"

	"github.com/containerd/cgroups/v3/cgroup1"
	v1 "github.com/containerd/cgroups/v3/cgroup1/stats"
	"github.com/containerd/cgroups/v3/cgroup2"
	v2 "github.com/containerd/cgroups/v3/cgroup2/stats"
	"golang.org/x/sys/unix"
)

// Stats reads the statistics in upstream's types, which CRI and ctr decode:
// *stats.Metrics of containerd/cgroups/v3/cgroup1 on v1 and hybrid hosts, of
// cgroup2 on v2. When the cgroup is gone, as systemd's can be with the last
// process, it's the last that was read, with the highest count of OOM kills
// seen.
func (c *Cgroup) Stats() (any, error) {
	var m any
	var err error
	if c.layout.Mode() == "v2" {
		m, err = c.stats2()
	} else {
		m, err = c.stats1()
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if err != nil {
		if gone(err) && c.last != nil {
			return c.last, nil
		}
		return nil, fmt.Errorf("statistics of cgroup %s: %w", c.path, err)
	}
	switch m := m.(type) {
	case *v1.Metrics:
		if o := m.MemoryOomControl; o != nil {
			o.OomKill = max(o.OomKill, c.oomKills)
			c.oomKills = o.OomKill
		}
	case *v2.Metrics:
		if e := m.MemoryEvents; e != nil {
			e.OomKill = max(e.OomKill, c.oomKills)
			c.oomKills = e.OomKill
		}
	}
	c.last = m
	return m, nil
}

// stater is a controller of upstream's cgroup1 package.
type stater interface {
	Stat(path string, stats *v1.Metrics) error
}

func (c *Cgroup) stats1() (*v1.Metrics, error) {
	m := &v1.Metrics{CPU: &v1.CPUStat{Throttling: &v1.Throttle{}, Usage: &v1.CPUUsage{}}}
	found := false
	for _, ctrl := range []string{"cpu", "cpuacct", "memory", "blkio", "pids", "hugetlb", "rdma"} {
		mount := c.layout.v1(ctrl)
		if mount == "" {
			continue
		}
		if !exists(mount + c.path) {
			return nil, missing(mount + c.path)
		}
		found = true
		s, err := newStater(ctrl, mount)
		if err != nil {
			return nil, err
		}
		if err := s.Stat(c.path, m); err != nil {
			return nil, err
		}
	}
	if !found {
		return nil, errors.New("none of the v1 controllers with statistics is mounted")
	}
	return m, nil
}

// newStater gives upstream's reader of a controller. Upstream joins a root,
// the controller's name and the path; hosts that mount "cpu,cpuacct" have
// symbolic links of the single names beside it.
func newStater(ctrl, mount string) (stater, error) {
	root := path.Dir(mount)
	if !exists(root + "/" + ctrl) {
		return nil, fmt.Errorf("the v1 controller %s is mounted on %s, and %s/%s doesn't exist: add a symbolic link", ctrl, mount, root, ctrl)
	}
	switch ctrl {
	case "cpu":
		return cgroup1.NewCpu(root), nil
	case "cpuacct":
		return cgroup1.NewCpuacct(root), nil
	case "memory":
		return cgroup1.NewMemory(root, cgroup1.IgnoreModules(missingMemory(mount)...)), nil
	case "blkio":
		return cgroup1.NewBlkio(root), nil
	case "pids":
		return cgroup1.NewPids(root), nil
	case "hugetlb":
		return cgroup1.NewHugetlb(root)
	}
	return cgroup1.NewRdma(root), nil
}

// missingMemory lists the groups of v1 memory files that the kernel has not:
// swap isn't always counted, and kmem is on its way out.
func missingMemory(mount string) []string {
	var out []string
	for _, m := range []string{"memsw", "kmem", "kmem.tcp"} {
		if !exists(mount + "/memory." + m + ".usage_in_bytes") {
			out = append(out, m)
		}
	}
	return out
}

func (c *Cgroup) stats2() (*v2.Metrics, error) {
	// Upstream takes files that aren't there for zeros.
	if dir := c.layout.Unified + c.path; !exists(dir) {
		return nil, missing(dir)
	}
	m, err := cgroup2.Load(c.path, cgroup2.WithMountpoint(c.layout.Unified))
	if err != nil {
		return nil, err
	}
	return m.Stat()
}

func missing(dir string) error {
	return &os.PathError{Op: "stat", Path: dir, Err: unix.ENOENT}
}
