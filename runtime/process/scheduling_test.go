// SPDX-License-Identifier: Apache-2.0

package process_test

import (
	"fmt"
	"os"
	"strings"
	"testing"

	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"sysbox/runtime"
	"sysbox/tests/testcontainer"
)

var schedulingInside = testcontainer.Inside("scheduling", func() error {
	pid := os.Getpid() // its first thread; those that it has made since may have another policy
	a, err := unix.SchedGetAttr(pid, 0)
	if err != nil {
		return err
	}
	io, _, e := unix.Syscall(unix.SYS_IOPRIO_GET, 1, uintptr(pid), 0)
	if e != 0 {
		return e
	}
	fmt.Printf("policy %d priority %d nice %d runtime %d io %d/%d\n", a.Policy, a.Priority, a.Nice, a.Runtime, io>>13, io&7)
	return nil
})

// TestScheduling: what a user namespace may not raise is the host's to give, to init
// and to an exec, and each has it.
func TestScheduling(t *testing.T) {
	realtime := int64(10000)
	for _, c := range []struct {
		name string
		s    *specs.Scheduler
		io   *specs.LinuxIOPriority
		want string
	}{
		{"real time", &specs.Scheduler{Policy: specs.SchedFIFO, Priority: 5}, nil, "policy 1 priority 5 "},
		{"round robin, not for children", &specs.Scheduler{Policy: specs.SchedRR, Priority: 7, Flags: []specs.LinuxSchedulerFlag{specs.SchedFlagResetOnFork}}, nil, "policy 2 priority 7 "},
		{"deadline", &specs.Scheduler{Policy: specs.SchedDeadline, Runtime: 4e7, Deadline: 5e7, Period: 1e8, Flags: []specs.LinuxSchedulerFlag{specs.SchedFlagResetOnFork}}, nil, "policy 6 priority 0 nice 0 runtime 40000000 "},
		{"above others", &specs.Scheduler{Policy: specs.SchedOther, Nice: -7}, nil, "policy 0 priority 0 nice -7 "},
		{"io before all others", nil, &specs.LinuxIOPriority{Class: specs.IOPRIO_CLASS_RT, Priority: 3}, "io 1/3\n"},
	} {
		t.Run(c.name, func(t *testing.T) {
			change := func(s *specs.Spec) {
				s.Process.Scheduler, s.Process.IOPriority = c.s, c.io
				// At the top, since with version 1 each parent must have real time to give.
				s.Linux.CgroupsPath = fmt.Sprintf("/sysbox-test-%d-scheduling", os.Getpid())
				s.Linux.Resources = &specs.LinuxResources{CPU: &specs.LinuxCPU{RealtimeRuntime: &realtime}}
			}
			if _, err := os.Stat("/sys/fs/cgroup/cpu/cpu.rt_runtime_us"); err != nil {
				realtime = 0
			}
			if out, status := schedulingInside.Run(t, change); status != 0 || !strings.Contains(out, c.want) {
				t.Errorf("init: %q, want %q", out, c.want)
			}
			ctr := testcontainer.Create(t, testcontainer.NewPod(t), runtime.CreateRequest{ID: "c1", Bundle: schedulingInside.Bundle(t, func(s *specs.Spec) {
				change(s)
				s.Process.Args, s.Process.Scheduler, s.Process.IOPriority = []string{"/bin/sleep", "1000"}, nil, nil
			})})
			if err := ctr.Start(t.Context()); err != nil {
				t.Fatal(err)
			}
			p := asUser(schedulingInside, 1000)
			p.Scheduler, p.IOPriority = c.s, c.io
			proc, text := ctr.Executed(t, p)
			testcontainer.Wait(t, proc)
			if out := text(); !strings.Contains(out, c.want) {
				t.Errorf("exec: %q, want %q", out, c.want)
			}
		})
	}
}

// TestSchedulingRefused: what the host's kernel refuses is told at Create and at Exec,
// with the field's name.
func TestSchedulingRefused(t *testing.T) {
	// A longer period than the kernel allows (sched_deadline_period_max_us).
	greedy := &specs.Scheduler{Policy: specs.SchedDeadline, Runtime: 1e6, Deadline: 1e10, Period: 1e10}
	bundle := testcontainer.Busybox(t, func(s *specs.Spec) { s.Process.Scheduler = greedy }, "true")
	_, err := testcontainer.NewPod(t).Create(t.Context(), runtime.CreateRequest{ID: "c1", Bundle: bundle})
	if err == nil || !strings.HasPrefix(err.Error(), "process.scheduler: ") {
		t.Errorf("create: %v", err)
	}
	_, err = testcontainer.Started(t, nil).Exec(t.Context(), runtime.ExecRequest{Process: &specs.Process{Args: []string{"/bin/true"}, Cwd: "/", Scheduler: greedy}})
	if err == nil || !strings.HasPrefix(err.Error(), "process.scheduler: ") {
		t.Errorf("exec: %v", err)
	}
}

// TestMemoryPolicy: init and execs have the policy, and what the kernel refuses is told.
func TestMemoryPolicy(t *testing.T) {
	policy := func(nodes string) func(*specs.Spec) {
		return func(s *specs.Spec) {
			s.Linux.MemoryPolicy = &specs.LinuxMemoryPolicy{Mode: specs.MpolBind, Nodes: nodes, Flags: []specs.MemoryPolicyFlagType{specs.MpolFStaticNodes}}
		}
	}
	if _, err := os.Stat("/proc/self/numa_maps"); err != nil {
		t.Skip("this kernel is built without NUMA")
	}
	c := testcontainer.Started(t, policy("0"))
	const script = "head -1 /proc/self/numa_maps; head -1 /proc/1/numa_maps"
	out := c.Script(t, script)
	for line := range strings.Lines(out) {
		if f := strings.Fields(line); len(f) < 2 || f[1] != "bind=static:0" {
			t.Errorf("of an exec and of init: %s", out)
		}
	}
	if strings.Count(out, "\n") != 2 {
		t.Errorf("of an exec and of init: %s", out)
	}
	_, err := testcontainer.NewPod(t).Create(t.Context(), runtime.CreateRequest{ID: "c1", Bundle: testcontainer.Busybox(t, policy("1023"), "true")})
	if err == nil || !strings.HasPrefix(err.Error(), "linux.memoryPolicy: ") {
		t.Errorf("a node that is not there: %v", err)
	}
}
