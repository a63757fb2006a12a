// SPDX-License-Identifier: Apache-2.0

package cgroup

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"slices"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"sysbox/tests/leak"
	"sysbox/tests/pace"
)

// Tests against the host's own hierarchies. Everything is below one top
// directory of this process, which must be gone afterwards.

var top = fmt.Sprintf("/sysbox-test-%d", os.Getpid())

func TestMain(m *testing.M) {
	os.Exit(leak.Main(m, top))
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
		ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second*pace.Patience())
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

// commandIn prepares a shell command that joins c the way a container does.
func commandIn(t *testing.T, c *Cgroup, script string) *exec.Cmd {
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
	for end := time.Now().Add(20 * time.Second * pace.Patience()); time.Now().Before(end); time.Sleep(2 * time.Millisecond) {
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
			cmd := commandIn(t, c, "sleep 60")
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
	if l.version("cpuset") != 0 {
		cpus, err2 := os.ReadFile("/sys/devices/system/cpu/online")
		_, err := Create(Config{Path: p, Resources: &specs.LinuxResources{CPU: &specs.LinuxCPU{Cpus: "8191"}}})
		if want := "of the parent cgroup (" + strings.TrimSpace(string(cpus)) + ")"; err2 != nil || err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("CPUs that there are not: %v %v; want %s", err2, err, want)
		}
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
			c := create(t, Config{Layout: l, System: true})
			if _, err := c.Delegate(Owner{UID: 100000, GID: 100000}, 0); err != nil {
				t.Fatal(err)
			}
			for _, h := range l.V1 {
				for _, f := range []string{"", "/cgroup.procs", "/tasks", "/notify_on_release"} {
					st, err := os.Stat(h.Mount + c.Path() + f)
					if err != nil || st.Sys().(*syscall.Stat_t).Uid != 0 {
						t.Errorf("%s%s%s must stay the host's: %v", h.Mount, c.Path(), f, err)
					}
				}
			}
			if l.Unified == "" {
				return // nothing is delegated
			}
			m := l.Unified
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
			cmd := commandIn(t, c, "while :; do sleep 0.01; done")
			start(t, cmd)
			eventually(t, "the process joins", func() bool { p, _ := c.Pids(); return len(p) > 0 })
			ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second*pace.Patience())
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
			cmd := commandIn(t, c, "for i in 1 2 3 4; do (while :; do sleep 0.005; done) & done; wait")
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

// A container whose root has controllers enabled for sub-cgroups takes no
// process any more; exec goes where init is.
func TestExecFD(t *testing.T) {
	l := host(t)
	if len(l.V2Controllers) == 0 {
		t.Skip("no controller of this host is in cgroup v2")
	}
	ctrl := l.V2Controllers[len(l.V2Controllers)-1]
	r := &specs.LinuxResources{}
	if l.Mode() == "hybrid" { // where controllers are enabled on demand
		if ctrl != "hugetlb" {
			t.Skip("no setting for " + ctrl)
		}
		r.HugepageLimits = []specs.LinuxHugepageLimit{{Pagesize: "2MB", Limit: 2 << 20}}
	}
	c := create(t, Config{Resources: r, System: true})
	root := l.Unified + c.Path()
	if err := os.Mkdir(root+"/init.scope", 0o755); err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command("sleep", "60")
	start(t, cmd)
	if err := c.Add(cmd.Process.Pid); err != nil {
		t.Fatal(err)
	}
	name := func() string {
		f, err := c.ExecFD(cmd.Process.Pid)
		if err != nil {
			t.Fatal(err)
		}
		defer f.Close()
		return f.Name()
	}
	if got := name(); got != root {
		t.Errorf("ExecFD is %s, want %s", got, root)
	}
	if err := writeFile(root+"/init.scope/cgroup.procs", fmt.Sprint(cmd.Process.Pid)); err != nil {
		t.Fatal(err)
	}
	if err := writeFile(root+"/cgroup.subtree_control", "+"+ctrl); err != nil {
		t.Fatal(err)
	}
	if got := name(); got != root+"/init.scope" {
		t.Errorf("ExecFD is %s, want init.scope below %s", got, root)
	}
}
