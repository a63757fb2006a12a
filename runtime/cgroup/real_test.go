package cgroup

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	v1 "github.com/containerd/cgroups/v3/cgroup1/stats"
	v2 "github.com/containerd/cgroups/v3/cgroup2/stats"
	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"
)

// Tests against the host's own hierarchies. Everything is below one top
// directory of this process, which must be gone afterwards.

var top = fmt.Sprintf("/sysbox-test-%d", os.Getpid())

func TestMain(m *testing.M) {
	code := m.Run()
	if l, err := Host(); err == nil {
		for _, mount := range l.mounts() {
			if exists(mount + top) {
				fmt.Fprintf(os.Stderr, "left behind: %s\n", mount+top)
				code = 1
				_ = removeTree(mount + top)
			}
		}
	}
	os.Exit(code)
}

var serial atomic.Int32

// hosts are the layouts that the host's hierarchies allow to test: what it
// has, and without v2, so that the v1 ways of freezing and killing run too.
func hosts(t *testing.T) map[string]*Layout {
	t.Helper()
	if os.Getuid() != 0 {
		t.Skip("cgroups can only be made as root")
	}
	l, err := Host()
	if err != nil {
		t.Fatal(err)
	}
	out := map[string]*Layout{l.Mode(): l}
	if l.Mode() == "hybrid" {
		out["v1 only"] = &Layout{V1: l.V1}
		out["v2 only"] = &Layout{Unified: l.Unified, V2Controllers: l.V2Controllers}
	}
	return out
}

func host(t *testing.T, controllers ...string) *Layout {
	t.Helper()
	hosts(t)
	l, _ := Host()
	for _, c := range controllers {
		if l.version(c) == 0 {
			t.Skipf("this host (%s) has no %s controller", l.Mode(), c)
		}
	}
	return l
}

func create(t *testing.T, cfg Config) *Cgroup {
	t.Helper()
	if cfg.Path == "" {
		cfg.Path = fmt.Sprintf("%s/%d", top, serial.Add(1))
	}
	c, err := Create(cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
		defer cancel()
		if err := c.KillAll(ctx); err != nil {
			t.Error(err)
		}
		if err := c.Delete(ctx); err != nil {
			t.Error(err)
		}
	})
	return c
}

// inside prepares a shell command that joins c the way a container does.
func inside(t *testing.T, c *Cgroup, script string) *exec.Cmd {
	t.Helper()
	files, err := c.JoinFiles()
	if err != nil {
		t.Fatal(err)
	}
	var join strings.Builder
	for i := range files {
		fmt.Fprintf(&join, "echo 0 >&%d && ", i+3)
	}
	fmt.Fprintf(&join, "exec sh -c '%s'", script)
	cmd := exec.Command("/bin/bash", "-c", join.String())
	cmd.ExtraFiles = files
	dir, err := c.UnifiedFD()
	if err != nil {
		t.Fatal(err)
	}
	if dir != nil {
		cmd.SysProcAttr = &syscall.SysProcAttr{UseCgroupFD: true, CgroupFD: int(dir.Fd())}
		t.Cleanup(func() { dir.Close() })
	}
	t.Cleanup(func() {
		for _, f := range files {
			f.Close()
		}
	})
	return cmd
}

func start(t *testing.T, cmd *exec.Cmd) {
	t.Helper()
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
	})
}

// eventually waits for a condition that the kernel brings about by itself.
func eventually(t *testing.T, what string, ok func() bool) {
	t.Helper()
	for end := time.Now().Add(20 * time.Second); time.Now().Before(end); time.Sleep(2 * time.Millisecond) {
		if ok() {
			return
		}
	}
	t.Fatalf("never happened: %s", what)
}

func ptr[T any](v T) *T { return &v }

func TestCreateJoinDelete(t *testing.T) {
	for name, l := range hosts(t) {
		t.Run(name, func(t *testing.T) {
			p := fmt.Sprintf("%s/a-%d/b/c", top, serial.Add(1))
			c := create(t, Config{Path: p, Layout: l})
			cmd := inside(t, c, "sleep 60")
			start(t, cmd)
			for _, m := range l.mounts() {
				eventually(t, "process in "+m, func() bool {
					pids, err := pidsBelow(m + p)
					return err == nil && slices.Contains(pids, cmd.Process.Pid)
				})
			}
			again, err := Load(c.State())
			if err != nil {
				t.Fatal(err)
			}
			if _, err := Create(Config{Path: p, Layout: l}); err == nil || !strings.Contains(err.Error(), "in use") {
				t.Errorf("second Create of a cgroup in use: %v", err)
			}
			ctx, cancel := context.WithTimeout(context.Background(), 50*time.Millisecond)
			defer cancel()
			if err := again.Delete(ctx); !errors.Is(err, unix.EBUSY) {
				t.Errorf("Delete with a process inside: %v, want EBUSY", err)
			}
			if err := again.KillAll(context.Background()); err != nil {
				t.Fatal(err)
			}
			if err := cmd.Wait(); err == nil {
				t.Error("the process wasn't killed")
			}
			for range 2 {
				if err := again.Delete(context.Background()); err != nil {
					t.Fatal(err)
				}
			}
			for _, m := range l.mounts() {
				if exists(m + top) {
					t.Errorf("%s is still there", m+top)
				}
			}
		})
	}
}

func TestParentsOfOthersStay(t *testing.T) {
	l := host(t)
	m := l.mounts()[0]
	if err := os.MkdirAll(m+top+"/others", 0o755); err != nil {
		t.Fatal(err)
	}
	defer func() { _ = removeTree(m + top) }()
	a := create(t, Config{Path: top + "/others/ours/a"})
	b := create(t, Config{Path: top + "/others/ours/b"})
	ctx := context.Background()
	if err := a.Delete(ctx); err != nil {
		t.Fatal(err)
	}
	if !exists(m + top + "/others/ours/b") {
		t.Error("the sibling is gone")
	}
	if err := b.Delete(ctx); err != nil {
		t.Fatal(err)
	}
	if exists(m + top + "/others/ours") {
		t.Error("the parent that was made for the two is still there")
	}
	if !exists(m + top + "/others") {
		t.Error("a parent that others made is gone")
	}
}

func TestStaleCgroupIsMadeAnew(t *testing.T) {
	l := host(t, "pids")
	p := top + "/stale"
	old := create(t, Config{Path: p, Resources: &specs.LinuxResources{Pids: &specs.LinuxPids{Limit: ptr(int64(7))}}})
	if err := os.Mkdir(l.mounts()[0]+p+"/sub", 0o755); err != nil {
		t.Fatal(err)
	}
	create(t, Config{Path: p})
	if got, _ := readFile(old.dir("pids") + "/pids.max"); got != "max" {
		t.Errorf("pids.max is %q: the limit of the dead container stayed", got)
	}
}

func TestFailedCreateLeavesNothing(t *testing.T) {
	l := host(t, "cpu")
	p := top + "/fails"
	_, err := Create(Config{Path: p, Resources: &specs.LinuxResources{CPU: &specs.LinuxCPU{Quota: ptr(int64(3))}}})
	if err == nil || !strings.Contains(err.Error(), "linux.resources.cpu.quota 3") {
		t.Errorf("quota below the kernel's least: %v", err)
	}
	for _, m := range l.mounts() {
		if exists(m + top) {
			t.Errorf("%s is still there", m+top)
		}
	}
}

func TestSubCgroupsAreRemoved(t *testing.T) {
	for name, l := range hosts(t) {
		t.Run(name, func(t *testing.T) {
			c := create(t, Config{Layout: l, Delegate: &Owner{UID: 100000, GID: 100000}})
			m := l.Unified
			if m == "" {
				m = l.v1("name=systemd")
			}
			if m == "" {
				t.Skip("no hierarchy here can be delegated")
			}
			for _, d := range []string{"", "/cgroup.procs"} {
				st, err := os.Stat(m + c.Path() + d)
				if err != nil || st.Sys().(*syscall.Stat_t).Uid != 100000 {
					t.Errorf("%s%s isn't the container's: %v", c.Path(), d, err)
				}
			}
			if l.Unified != "" {
				st, err := os.Stat(m + c.Path() + "/cgroup.freeze")
				if err != nil || st.Sys().(*syscall.Stat_t).Uid != 0 {
					t.Errorf("cgroup.freeze must stay the host's: %v", err)
				}
			}
			if err := os.MkdirAll(m+c.Path()+"/system.slice/docker.service", 0o755); err != nil {
				t.Fatal(err)
			}
			cmd := exec.Command("sleep", "60")
			start(t, cmd)
			if err := c.Add(cmd.Process.Pid); err != nil {
				t.Fatal(err)
			}
			if err := writeFile(m+c.Path()+"/system.slice/docker.service/cgroup.procs", fmt.Sprint(cmd.Process.Pid)); err != nil {
				t.Fatal(err)
			}
			pids, err := c.Pids()
			if err != nil || !slices.Contains(pids, cmd.Process.Pid) {
				t.Errorf("Pids %v, %v: want %d of a sub-cgroup", pids, err, cmd.Process.Pid)
			}
			if err := c.KillAll(context.Background()); err != nil {
				t.Fatal(err)
			}
			if err := c.Delete(context.Background()); err != nil {
				t.Fatal(err)
			}
		})
	}
}

func TestFreeze(t *testing.T) {
	for name, l := range hosts(t) {
		t.Run(name, func(t *testing.T) {
			c := create(t, Config{Layout: l})
			cmd := inside(t, c, "while :; do sleep 0.01; done")
			start(t, cmd)
			eventually(t, "the process joins", func() bool { p, _ := c.Pids(); return len(p) > 0 })
			ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
			defer cancel()
			if err := c.Freeze(ctx); err != nil {
				t.Fatal(err)
			}
			if is, err := c.Frozen(); !is || err != nil {
				t.Errorf("Frozen: %v, %v", is, err)
			}
			if err := c.Thaw(ctx); err != nil {
				t.Fatal(err)
			}
			if is, err := c.Frozen(); is || err != nil {
				t.Errorf("Frozen after Thaw: %v, %v", is, err)
			}
			if err := c.Freeze(ctx); err != nil {
				t.Fatal(err)
			}
			if err := c.KillAll(ctx); err != nil {
				t.Errorf("KillAll of a frozen cgroup: %v", err)
			}
		})
	}
}

func TestKillAllOfForkers(t *testing.T) {
	for name, l := range hosts(t) {
		t.Run(name, func(t *testing.T) {
			c := create(t, Config{Layout: l})
			cmd := inside(t, c, "for i in 1 2 3 4; do (while :; do sleep 0.005; done) & done; wait")
			start(t, cmd)
			eventually(t, "all run", func() bool { p, _ := c.Pids(); return len(p) > 4 })
			if err := c.KillAll(context.Background()); err != nil {
				t.Fatal(err)
			}
			if p, err := c.Pids(); len(p) > 0 || err != nil {
				t.Errorf("left: %v, %v", p, err)
			}
		})
	}
}

func TestPidsLimitHolds(t *testing.T) {
	host(t, "pids")
	c := create(t, Config{Resources: &specs.LinuxResources{Pids: &specs.LinuxPids{Limit: ptr(int64(5))}}})
	cmd := inside(t, c, "for i in 1 2 3 4 5 6 7 8; do sleep 0.5 & done")
	out, _ := cmd.CombinedOutput()
	if !strings.Contains(string(out), "ork") { // "Cannot fork", "fork: retry: Resource temporarily unavailable"
		t.Errorf("nine processes with pids.limit 5 and no failed fork: %q", out)
	}
}

func TestDevicesHold(t *testing.T) {
	for name, l := range hosts(t) {
		t.Run(name, func(t *testing.T) {
			c := create(t, Config{Layout: l, Resources: &specs.LinuxResources{Devices: []specs.LinuxDeviceCgroup{
				{Allow: false, Access: "rwm"},
				{Allow: true, Type: "c", Major: ptr(int64(1)), Minor: ptr(int64(11)), Access: "r"}, // kmsg, for reading
			}}})
			try := func(script string, ok bool) {
				t.Helper()
				out, err := inside(t, c, script).CombinedOutput()
				if (err == nil) != ok {
					t.Errorf("%s: %v (%s), want success %v", script, err, out, ok)
				}
			}
			node := filepath.Join(t.TempDir(), "mem")
			try("true </dev/null && true >/dev/null && head -c1 /dev/urandom", true)
			try("true </dev/kmsg", true)
			try("true >/dev/kmsg", false)
			try("true <>/dev/kmsg", false)
			try("mknod "+node+" c 1 1", true)
			try("true <"+node, false)
			if err := c.Update(&specs.LinuxResources{Devices: []specs.LinuxDeviceCgroup{{Allow: true, Access: "rwm"}}}); err != nil {
				t.Fatal(err)
			}
			try("true >/dev/kmsg", true)
			if err := c.Update(&specs.LinuxResources{Devices: []specs.LinuxDeviceCgroup{{Allow: false, Access: "rwm"}}}); err != nil {
				t.Fatal(err)
			}
			try("true </dev/kmsg", false)
		})
	}
}

func TestOOM(t *testing.T) {
	host(t, "memory")
	c := create(t, Config{Resources: &specs.LinuxResources{Memory: &specs.LinuxMemory{Limit: ptr(int64(20 << 20)), Swap: ptr(int64(20 << 20))}}})
	told := make(chan uint64, 100)
	stop, err := c.WatchOOM(func(n uint64) { told <- n })
	if err != nil {
		t.Fatal(err)
	}
	err = inside(t, c, "head -c 100m /dev/zero | tail").Run()
	if err == nil {
		t.Error("a process with 100 MiB lives with a limit of 20")
	}
	select {
	case n := <-told:
		if n == 0 {
			t.Error("told of no kill")
		}
	case <-time.After(20 * time.Second):
		t.Error("not told of the kill")
	}
	stop()
	if c.OOMKills() == 0 {
		t.Error("OOMKills is 0")
	}
	oomKills := func() uint64 {
		s, err := c.Stats()
		if err != nil {
			t.Fatal(err)
		}
		switch m := s.(type) {
		case *v1.Metrics:
			return m.MemoryOomControl.OomKill
		case *v2.Metrics:
			return m.MemoryEvents.OomKill
		}
		return 0
	}
	if oomKills() == 0 {
		t.Error("Stats has no kill")
	}
	if err := c.Delete(context.Background()); err != nil {
		t.Fatal(err)
	}
	if oomKills() == 0 {
		t.Error("Stats after the end has no kill")
	}
}

// A kill that no event came for yet is told by stop.
func TestOOMStopLooksALastTime(t *testing.T) {
	host(t, "memory")
	c := create(t, Config{})
	var got uint64
	w := &oomWatch{c: c, f: func(n uint64) { got = n }, done: make(chan struct{})}
	w.events, _ = os.Open(os.DevNull)
	close(w.done)
	c.oomKills = 3
	w.stop()
	if got != 3 {
		t.Errorf("told of %d kills, want 3", got)
	}
}

func TestWatchEndsWithTheCgroup(t *testing.T) {
	host(t, "memory")
	c := create(t, Config{})
	stop, err := c.WatchOOM(func(n uint64) { t.Errorf("told of %d kills, there were none", n) })
	if err != nil {
		t.Fatal(err)
	}
	if err := c.Delete(context.Background()); err != nil {
		t.Fatal(err)
	}
	stop()
	stop()
}

func TestLimitsAndUpdate(t *testing.T) {
	l := host(t, "memory", "cpu", "pids", "cpuset")
	if l.version("memory") != 1 {
		t.Skip("the file names are those of v1")
	}
	r := &specs.LinuxResources{
		Memory: &specs.LinuxMemory{Limit: ptr(int64(64 << 20)), Swap: ptr(int64(64 << 20)), Reservation: ptr(int64(32 << 20)), Swappiness: ptr(uint64(10)), Kernel: ptr(int64(1 << 20))},
		CPU:    &specs.LinuxCPU{Shares: ptr(uint64(512)), Quota: ptr(int64(50000)), Period: ptr(uint64(100000)), Burst: ptr(uint64(10000)), Cpus: "0", Mems: "0"},
		Pids:   &specs.LinuxPids{Limit: ptr(int64(100))},
	}
	c := create(t, Config{Resources: r})
	if len(c.Warnings()) != 1 || !strings.Contains(c.Warnings()[0], "memory.kernel") {
		t.Errorf("warnings %q, want one on memory.kernel", c.Warnings())
	}
	check := func(want map[string]string) {
		t.Helper()
		for f, v := range want {
			ctrl, _, _ := strings.Cut(f, ".")
			if got, err := readFile(c.dir(ctrl) + "/" + f); err != nil || got != v {
				t.Errorf("%s is %q, %v; want %q", f, got, err, v)
			}
		}
	}
	check(map[string]string{
		"memory.limit_in_bytes": "67108864", "memory.memsw.limit_in_bytes": "67108864", "memory.soft_limit_in_bytes": "33554432",
		"memory.swappiness": "10", "cpu.shares": "512", "cpu.cfs_quota_us": "50000", "cpu.cfs_burst_us": "10000",
		"cpuset.cpus": "0", "pids.max": "100",
	})
	// Each needs an order of writes that Create doesn't.
	if err := c.Update(&specs.LinuxResources{
		Memory: &specs.LinuxMemory{Limit: ptr(int64(128 << 20)), Swap: ptr(int64(128 << 20))},
		CPU:    &specs.LinuxCPU{Quota: ptr(int64(5000)), Burst: ptr(uint64(0))},
		Pids:   &specs.LinuxPids{Limit: ptr(int64(-1))},
	}); err != nil {
		t.Fatal(err)
	}
	check(map[string]string{
		"memory.limit_in_bytes": "134217728", "memory.memsw.limit_in_bytes": "134217728", "cpu.cfs_quota_us": "5000",
		"cpu.cfs_burst_us": "0", "pids.max": "max", "cpu.shares": "512",
	})
	if err := c.Update(&specs.LinuxResources{Memory: &specs.LinuxMemory{Limit: ptr(int64(-1))}}); err != nil {
		t.Fatal(err)
	}
}

func TestStats(t *testing.T) {
	for name, l := range hosts(t) {
		t.Run(name, func(t *testing.T) {
			c := create(t, Config{Layout: l})
			start(t, inside(t, c, "sleep 60"))
			eventually(t, "the process joins", func() bool { p, _ := c.Pids(); return len(p) > 0 })
			eventually(t, "the statistics show the process", func() bool {
				s, err := c.Stats()
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
			})
		})
	}
}
