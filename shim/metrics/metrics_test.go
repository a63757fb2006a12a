// SPDX-License-Identifier: Apache-2.0

package metrics

import (
	"cmp"
	"context"
	"fmt"
	"os"
	"os/exec"
	"path"
	"slices"
	"strconv"
	"testing"
	"time"

	"github.com/containerd/cgroups/v3/cgroup1"
	v1 "github.com/containerd/cgroups/v3/cgroup1/stats"
	"github.com/containerd/cgroups/v3/cgroup2"
	v2 "github.com/containerd/cgroups/v3/cgroup2/stats"
	"google.golang.org/protobuf/proto"

	"sysbox/runtime/cgroup"
	"sysbox/tests/leak"
	"sysbox/tests/pace"
	"sysbox/tests/testhost"
)

func TestMain(m *testing.M) { os.Exit(leak.Main(m, "")) }

// layouts are those that the hierarchies of the host allow to test: what it has and, on a
// hybrid host, cgroup2 alone.
func layouts(t *testing.T) map[string]*cgroup.Layout {
	t.Helper()
	if os.Getuid() != 0 {
		t.Skip("cgroups can only be made as root")
	}
	l, err := cgroup.Host()
	if err != nil {
		t.Fatal(err)
	}
	out := map[string]*cgroup.Layout{l.Mode(): l}
	if l.Mode() == "hybrid" {
		out["v2 only"] = &cgroup.Layout{Unified: l.Unified, V2Controllers: l.V2Controllers}
	}
	return out
}

// busy is a cgroup with a shell in it that runs a script.
func busy(t *testing.T, l *cgroup.Layout, script string) *cgroup.Cgroup {
	t.Helper()
	c, err := cgroup.Create(cgroup.Config{Layout: l, Path: fmt.Sprintf("/sysbox-metrics-%d", os.Getpid())})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { testhost.RemoveCgroup(t, c) })
	cmd := exec.Command("sh", "-c", "read go; "+script)
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { cmd.Process.Kill(); cmd.Wait() })
	d := c.Directories()
	dirs := []string{}
	if d.Unified != "" {
		dirs = append(dirs, d.Unified)
	}
	for _, dir := range d.V1 {
		dirs = append(dirs, dir)
	}
	for _, dir := range dirs {
		if err := os.WriteFile(dir+"/cgroup.procs", []byte(strconv.Itoa(cmd.Process.Pid)), 0); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := in.Write([]byte("\n")); err != nil {
		t.Fatal(err)
	}
	return c
}

func TestRead(t *testing.T) {
	for name, l := range layouts(t) {
		t.Run(name, func(t *testing.T) {
			c := busy(t, l, "x=$(head -c 1m /dev/zero | tr '\\0' x); while :; do :; done")
			r := NewReader(c)
			shown := func() bool {
				s, err := r.Read()
				if err != nil {
					t.Fatal(err)
				}
				switch m := s.(type) {
				case *v1.Metrics:
					return m.Pids.Current > 0 && m.Memory.Usage.Usage > 0 && m.CPU.Usage.Total > 0
				case *v2.Metrics:
					return m.CPU.UsageUsec > 0
				}
				return false
			}
			for deadline := time.Now().Add(20 * time.Second * pace.Patience()); !shown(); time.Sleep(5 * time.Millisecond) {
				if time.Now().After(deadline) {
					t.Fatal("the metrics do not show the process")
				}
			}
			last, err := r.Read()
			if err != nil {
				t.Fatal(err)
			}
			ctx := context.Background()
			if err := c.KillAll(ctx); err != nil {
				t.Fatal(err)
			}
			if err := c.Delete(ctx); err != nil {
				t.Fatal(err)
			}
			if m, err := r.Read(); err != nil || !proto.Equal(m, last) {
				t.Errorf("once the cgroup is gone: %v, %v; want what was read last", m, err)
			}
			if m, err := NewReader(c).Read(); err == nil {
				t.Errorf("of a cgroup that is gone and was never read: %v", m)
			}
		})
	}
}

// TestAsUpstream: what Read returns is what containerd/cgroups, whose types it
// fills, reads of the same cgroup.
func TestAsUpstream(t *testing.T) {
	for name, l := range layouts(t) {
		t.Run(name, func(t *testing.T) {
			c := busy(t, l, "head -c 3m /dev/zero | tail | wc -c; sleep 60")
			r := NewReader(c)
			var ours, theirs proto.Message
			differ := func() bool {
				o, err := r.Read()
				if err != nil {
					t.Fatal(err)
				}
				ours = o
				switch m := ours.(type) {
				case *v1.Metrics:
					slices.SortFunc(m.Hugetlb, func(a, b *v1.HugetlbStat) int { return cmp.Compare(a.Pagesize, b.Pagesize) })
					theirs = upstream1(t, r)
				case *v2.Metrics:
					theirs = upstream2(t, l, c)
				}
				return !proto.Equal(ours, theirs)
			}
			// The numbers move while they are read, until the process sleeps.
			for deadline := time.Now().Add(20 * time.Second * pace.Patience()); time.Now().Before(deadline); time.Sleep(5 * time.Millisecond) {
				if !differ() {
					return
				}
			}
			t.Errorf("statistics differ:\nours   %v\ntheirs %v", ours, theirs)
		})
	}
}

func upstream1(t *testing.T, r *Reader) *v1.Metrics {
	t.Helper()
	m := &v1.Metrics{CPU: &v1.CPUStat{Throttling: &v1.Throttle{}, Usage: &v1.CPUUsage{}}}
	read := func(controller string, s interface {
		Stat(string, *v1.Metrics) error
	},
	) {
		if r.dirs.V1[controller] == "" {
			return
		}
		if err := s.Stat(r.path, m); err != nil {
			t.Fatal(err)
		}
	}
	root := path.Dir(path.Dir(r.dirs.V1["cpu"]))
	// Without the groups of files that the kernel has not.
	var without []string
	for _, g := range []string{"memsw", "kmem", "kmem.tcp"} {
		if !exists(r.dirs.V1["memory"] + "/memory." + g + ".usage_in_bytes") {
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

func upstream2(t *testing.T, l *cgroup.Layout, c *cgroup.Cgroup) *v2.Metrics {
	t.Helper()
	u, err := cgroup2.Load(c.Path(), cgroup2.WithMountpoint(l.Unified))
	if err != nil {
		t.Fatal(err)
	}
	m, err := u.Stat()
	if err != nil {
		t.Fatal(err)
	}
	if sizes, err := hugePageSizes(l.Unified + c.Path()); err == nil && len(sizes) == 0 {
		m.Hugetlb = nil // upstream names the sizes that the kernel has, counted or not
	}
	slices.SortFunc(m.Hugetlb, func(a, b *v2.HugeTlbStat) int { return cmp.Compare(a.Pagesize, b.Pagesize) })
	return m
}
