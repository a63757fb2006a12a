// SPDX-License-Identifier: Apache-2.0

package seccomp_test

import (
	"errors"
	"os"
	"path/filepath"
	goruntime "runtime"
	"strings"
	"testing"

	"github.com/opencontainers/runtime-spec/specs-go"

	"sysbox/runtime"
	"sysbox/runtime/syscalls"
	"sysbox/tests/testcontainer"
)

// newAgent starts an agent that refuses mkdir.
func newAgent(t *testing.T) *testcontainer.Agent {
	return testcontainer.NewAgent(t, filepath.Join(t.TempDir(), "agent"), func(nr int) bool {
		name, _ := syscalls.Name(syscalls.Arch(goruntime.GOARCH), uint32(nr))
		return name == "mkdir" || name == "mkdirat"
	})
}

// asks makes a spec that of an ordinary container whose agent is asked for mkdir and
// execve.
func asks(a *testcontainer.Agent, noNewPrivileges bool) func(*specs.Spec) {
	return func(s *specs.Spec) {
		testcontainer.Ordinary(s)
		s.Process.NoNewPrivileges = noNewPrivileges
		s.Annotations = map[string]string{"a": strings.Repeat("long ", 1000)}
		s.Linux.Seccomp = &specs.LinuxSeccomp{
			DefaultAction: specs.ActAllow, ListenerPath: a.Path, ListenerMetadata: "for the agent",
			Syscalls: []specs.LinuxSyscall{{Names: []string{"mkdir", "mkdirat", "execve"}, Action: specs.ActNotify}},
		}
	}
}

// TestSeccompAgent: an agent gets the listeners of init and of execs, with the state that
// the spec wants, and its answers count.
func TestSeccompAgent(t *testing.T) {
	t.Parallel()
	for _, noNewPrivileges := range []bool{true, false} {
		a := newAgent(t)
		w, text := testcontainer.Pipe(t)
		const script = "mkdir /x; /bin/busybox true && echo on"
		const want = "mkdir: can't create directory '/x': Directory not empty\non\n"
		c := testcontainer.Create(t, testcontainer.NewPod(t), runtime.CreateRequest{ID: "c1", Bundle: testcontainer.Busybox(t, asks(a, noNewPrivileges), "sh", "-c", script+"; until [ -e /end ]; do sleep 0.1; done"), Stdio: runtime.Stdio{Stdout: w, Stderr: w}})
		if err := c.Start(t.Context()); err != nil {
			t.Fatal(err)
		}
		check := func(pid int, status specs.ContainerState) {
			t.Helper()
			s := <-a.States
			if s.Pid != pid || s.Version != specs.Version || s.Fds[0] != "seccompFd" || s.Metadata != "for the agent" || s.State.ID != "c1" || s.State.Status != status || s.State.Pid != c.Init().Pid() {
				t.Errorf("the agent was told %+v; pid %d, init %d", s, pid, c.Init().Pid())
			}
		}
		check(c.Init().Pid(), specs.StateCreated)
		ew, etext := testcontainer.Pipe(t)
		p, err := c.Exec(t.Context(), runtime.ExecRequest{Process: &specs.Process{Args: []string{"sh", "-c", script + "; touch /end"}, Cwd: "/", Env: []string{"PATH=/bin"}, NoNewPrivileges: noNewPrivileges}, Stdio: runtime.Stdio{Stdout: ew, Stderr: ew}})
		if err != nil {
			t.Fatal(err)
		}
		check(p.Pid(), specs.StateRunning)
		testcontainer.Wait(t, p)
		if out := etext(); out != want {
			t.Errorf("the exec says %q", out)
		}
		testcontainer.Wait(t, c.Init())
		if out := text(); out != want {
			t.Errorf("init says %q", out)
		}
	}
}

// TestSeccompAgentIsNotThere: without its agent nothing runs, and the error says so.
func TestSeccompAgentIsNotThere(t *testing.T) {
	t.Parallel()
	a := newAgent(t)
	c := testcontainer.Create(t, testcontainer.NewPod(t), runtime.CreateRequest{ID: "c1", Bundle: testcontainer.Busybox(t, asks(a, true), "sleep", "1000")})
	a.Close()
	err := c.Start(t.Context())
	if err == nil || !strings.Contains(err.Error(), "listenerPath") || !errors.Is(err, os.ErrNotExist) {
		t.Errorf("error %v", err)
	}
	if exit := testcontainer.Wait(t, c.Init()); exit.Status != 137 {
		t.Errorf("init ended with %d", exit.Status)
	}
}
