package cgroup

import (
	"fmt"
	"os"

	v1 "github.com/containerd/cgroups/v3/cgroup1/stats"
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

func missing(dir string) error {
	return &os.PathError{Op: "stat", Path: dir, Err: unix.ENOENT}
}
