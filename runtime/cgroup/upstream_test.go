package cgroup

import (
	"cmp"
	"path"
	"slices"
	"testing"
	"time"

	"github.com/containerd/cgroups/v3/cgroup1"
	v1 "github.com/containerd/cgroups/v3/cgroup1/stats"
	"github.com/containerd/cgroups/v3/cgroup2"
	v2 "github.com/containerd/cgroups/v3/cgroup2/stats"
	"google.golang.org/protobuf/proto"
)

// TestStatsAsUpstream: what Stats reads is what containerd/cgroups, whose types it
// fills, reads of the same cgroup.
func TestStatsAsUpstream(t *testing.T) {
	for name, l := range hosts(t) {
		t.Run(name, func(t *testing.T) {
			c := create(t, Config{Layout: l})
			start(t, inside(t, c, "head -c 3m /dev/zero | tail | wc -c; sleep 60"))
			eventually(t, "the process joins", func() bool { p, _ := c.Pids(); return len(p) > 0 })
			var ours, theirs proto.Message
			differ := func() bool {
				o, err := c.Stats()
				if err != nil {
					t.Fatal(err)
				}
				ours = o.(proto.Message)
				switch m := ours.(type) {
				case *v1.Metrics:
					slices.SortFunc(m.Hugetlb, func(a, b *v1.HugetlbStat) int { return cmp.Compare(a.Pagesize, b.Pagesize) })
					theirs = upstream1(t, c)
				case *v2.Metrics:
					theirs = upstream2(t, c)
				}
				return !proto.Equal(ours, theirs)
			}
			// The numbers move while they are read, until the process sleeps.
			for deadline := time.Now().Add(20 * time.Second); time.Now().Before(deadline); time.Sleep(5 * time.Millisecond) {
				if !differ() {
					return
				}
			}
			t.Errorf("statistics differ:\nours   %v\ntheirs %v", ours, theirs)
		})
	}
}

func upstream1(t *testing.T, c *Cgroup) *v1.Metrics {
	t.Helper()
	m := &v1.Metrics{CPU: &v1.CPUStat{Throttling: &v1.Throttle{}, Usage: &v1.CPUUsage{}}}
	read := func(controller string, s interface {
		Stat(string, *v1.Metrics) error
	},
	) {
		if c.layout.v1(controller) == "" {
			return
		}
		if err := s.Stat(c.path, m); err != nil {
			t.Fatal(err)
		}
	}
	root := path.Dir(c.layout.v1("cpu"))
	// Without the groups of files that the kernel has not.
	var without []string
	for _, g := range []string{"memsw", "kmem", "kmem.tcp"} {
		if !exists(c.layout.v1("memory") + "/memory." + g + ".usage_in_bytes") {
			without = append(without, g)
		}
	}
	read("cpu", cgroup1.NewCpu(root))
	read("cpuacct", cgroup1.NewCpuacct(root))
	read("memory", cgroup1.NewMemory(root, cgroup1.IgnoreModules(without...)))
	read("blkio", cgroup1.NewBlkio(root))
	read("pids", cgroup1.NewPids(root))
	if h, err := cgroup1.NewHugetlb(root); err == nil {
		read("hugetlb", h)
	}
	slices.SortFunc(m.Hugetlb, func(a, b *v1.HugetlbStat) int { return cmp.Compare(a.Pagesize, b.Pagesize) })
	read("rdma", cgroup1.NewRdma(root))
	return m
}

func upstream2(t *testing.T, c *Cgroup) *v2.Metrics {
	t.Helper()
	u, err := cgroup2.Load(c.path, cgroup2.WithMountpoint(c.layout.Unified))
	if err != nil {
		t.Fatal(err)
	}
	m, err := u.Stat()
	if err != nil {
		t.Fatal(err)
	}
	slices.SortFunc(m.Hugetlb, func(a, b *v2.HugeTlbStat) int { return cmp.Compare(a.Pagesize, b.Pagesize) })
	return m
}

// TestWeightAsUpstream: shares become the weight that others make of them.
func TestWeightAsUpstream(t *testing.T) {
	for shares := uint64(1); shares <= 1<<19; shares += 1 + shares/97 {
		if got, want := cpuWeight(shares), cgroup2.ConvertCPUSharesToCgroupV2Value(shares); got != want {
			t.Errorf("weight of %d shares is %d, want %d", shares, got, want)
		}
	}
}
