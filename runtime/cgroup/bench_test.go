// SPDX-License-Identifier: Apache-2.0

package cgroup

import (
	"context"
	"os"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/containerd/cgroups/v3/cgroup1"
	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"
)

var benchResources = &specs.LinuxResources{
	Devices: []specs.LinuxDeviceCgroup{{Access: "rwm"}},
	Memory:  &specs.LinuxMemory{Limit: ptr(int64(64 << 20)), Swap: ptr(int64(64 << 20))},
	CPU:     &specs.LinuxCPU{Shares: ptr(uint64(512)), Quota: ptr(int64(50000)), Period: ptr(uint64(100000))},
	Pids:    &specs.LinuxPids{Limit: ptr(int64(100))},
}

func benchHost(b *testing.B) *Layout {
	b.Helper()
	if os.Getuid() != 0 {
		b.Skip("cgroups can only be made as root")
	}
	l, err := Host()
	if err != nil {
		b.Fatal(err)
	}
	return l
}

func BenchmarkCreateDelete(b *testing.B) {
	l := benchHost(b)
	for _, m := range l.mounts() { // as on a host with other containers
		if err := os.Mkdir(m+top, 0o755); err != nil {
			b.Fatal(err)
		}
		defer os.Remove(m + top)
	}
	i := 0
	for b.Loop() {
		i++
		c, err := Create(Config{Path: top + "/" + strconv.Itoa(i), Resources: benchResources})
		if err != nil {
			b.Fatal(err)
		}
		if err := c.Delete(context.Background()); err != nil {
			b.Fatal(err)
		}
	}
}

// What the same costs through containerd/cgroups (v1 alone).
func BenchmarkUpstreamCreateDelete(b *testing.B) {
	l := benchHost(b)
	if l.v1("pids") == "" {
		b.Skip("for v1")
	}
	i := 0
	for b.Loop() {
		i++
		c, err := cgroup1.New(cgroup1.StaticPath(top+"/"+strconv.Itoa(i)), benchResources)
		if err != nil {
			b.Fatal(err)
		}
		if err := c.Delete(); err != nil {
			b.Fatal(err)
		}
	}
	for _, m := range l.mounts() {
		os.Remove(m + top)
	}
}

// The claim that JoinFiles rests on: "0" to tasks by the thread itself against
// all other ways. The kernel makes a second move cheap that comes at once after
// another, so there's a pause before each, as between two containers; the
// figure to read is p50-µs.
func BenchmarkMove(b *testing.B) {
	l := benchHost(b)
	m := l.v1("pids")
	if m == "" {
		b.Skip("for v1")
	}
	self, err := readFile("/proc/self/cgroup")
	if err != nil || !strings.Contains(self, ":pids:/\n") {
		b.Skip("the benchmark moves back to the root, where it isn't now")
	}
	c, err := Create(Config{Path: top + "/move", Layout: &Layout{V1: []Hierarchy{{Mount: m, Controllers: []string{"pids"}}}, Unified: l.Unified}})
	if err != nil {
		b.Fatal(err)
	}
	defer func() { _ = c.Delete(context.Background()) }()
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	for _, way := range []struct{ name, file, who string }{
		{"self", "/tasks", "0"}, {"tid", "/tasks", strconv.Itoa(unix.Gettid())}, {"process", "/cgroup.procs", "0"},
	} {
		b.Run(way.name, func(b *testing.B) {
			var took []time.Duration
			for b.Loop() {
				for _, dir := range []string{m + c.Path(), m} {
					time.Sleep(30 * time.Millisecond)
					begin := time.Now()
					if err := writeFile(dir+way.file, way.who); err != nil {
						b.Fatal(err)
					}
					took = append(took, time.Since(begin))
				}
			}
			slices.Sort(took)
			b.ReportMetric(float64(took[len(took)/2].Microseconds()), "p50-µs")
		})
	}
}
