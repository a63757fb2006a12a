// SPDX-License-Identifier: Apache-2.0

package runtime_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/opencontainers/runtime-spec/specs-go"

	"sysbox/runtime"
	"sysbox/runtime/sys"
	"sysbox/tests/testcontainer"
)

// TestHooks: all six kinds run in their order, with the state on stdin, in
// the namespaces that the spec wants.
func TestHooks(t *testing.T) {
	t.Parallel()
	log := filepath.Join(t.TempDir(), "log")
	host := func(kind string) []specs.Hook {
		script := fmt.Sprintf(`printf '%s '"$(readlink /proc/self/ns/net) $(readlink /proc/self/ns/mnt) " >>%s; cat >>%s; echo >>%s`, kind, log, log, log)
		return []specs.Hook{{Path: "/bin/sh", Args: []string{"sh", "-c", script}, Env: []string{"PATH=/usr/bin:/bin"}}}
	}
	bundle := testcontainer.Busybox(t, func(s *specs.Spec) {
		s.Hooks = &specs.Hooks{
			Prestart: host("prestart"), CreateRuntime: host("createRuntime"), CreateContainer: host("createContainer"),
			StartContainer: []specs.Hook{{Path: "/bin/sh", Args: []string{"sh", "-c", "cat >/started; readlink /proc/self/ns/net >>/started"}, Env: []string{"PATH=/bin"}}},
			Poststart:      host("poststart"), Poststop: host("poststop"),
		}
	}, "sleep", "1000")
	c := testcontainer.Create(t, testcontainer.NewPod(t), runtime.CreateRequest{ID: "c1", Bundle: bundle})
	if err := c.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	netns, err := os.Readlink(fmt.Sprintf("/proc/%d/ns/net", c.Init().Pid()))
	if err != nil {
		t.Fatal(err)
	}
	ours, _ := os.Readlink("/proc/self/ns/net")
	started, err := os.ReadFile(filepath.Join(bundle, "rootfs/started"))
	if err != nil || !strings.Contains(string(started), netns) || !strings.Contains(string(started), `"status":"created"`) {
		t.Errorf("startContainer: %v, %s", err, started)
	}
	if err := c.Delete(t.Context()); err != nil {
		t.Fatal(err)
	}
	b, err := os.ReadFile(log)
	if err != nil {
		t.Fatal(err)
	}
	want := []struct {
		kind, netns string
		status      specs.ContainerState
	}{
		{"prestart", ours, specs.StateCreating},
		{"createRuntime", ours, specs.StateCreating},
		{"createContainer", netns, specs.StateCreating},
		{"poststart", ours, specs.StateRunning},
		{"poststop", ours, specs.StateStopped},
	}
	lines := strings.Split(strings.TrimSpace(string(b)), "\n")
	if len(lines) != len(want) {
		t.Fatalf("%d hooks ran, want %d:\n%s", len(lines), len(want), b)
	}
	for i, w := range want {
		f := strings.SplitN(lines[i], " ", 4)
		var s specs.State
		if err := json.Unmarshal([]byte(f[3]), &s); err != nil {
			t.Fatal(err)
		}
		if f[0] != w.kind || f[1] != w.netns || s.Status != w.status || s.ID != "c1" || s.Bundle != bundle {
			t.Errorf("hook %d: %s; want %+v", i, lines[i], w)
		}
	}
}

// TestFailedHook: a hook that fails, or does not end in time, fails Create or Start with
// what it said, no other is run after it, and nothing is left; after a poststart hook
// all goes on.
func TestFailedHook(t *testing.T) {
	t.Parallel()
	second := 1
	for _, c := range []struct {
		name, script string
		timeout      *int
		want         string
	}{
		{"fails", "echo no luck >&2; exit 3", nil, "no luck"},
		{"does not end", "sleep 1000", &second, "timeout of 1s"},
	} {
		for _, kind := range []string{"prestart", "createRuntime", "createContainer", "startContainer", "poststart"} {
			t.Run(kind+" "+c.name, func(t *testing.T) {
				t.Parallel()
				p := testcontainer.NewPod(t)
				bundle := testcontainer.Busybox(t, func(s *specs.Spec) { s.Hooks = testcontainer.Hook(kind, c.script, c.timeout) }, "sleep", "1000")
				ctr, err := p.Create(t.Context(), runtime.CreateRequest{ID: "c1", Bundle: bundle})
				if err == nil {
					if kind != "startContainer" && kind != "poststart" {
						t.Error("Create went on")
					}
					if err = ctr.Start(t.Context()); err != nil {
						if exit := testcontainer.Wait(t, ctr.Init()); exit.Status != 137 {
							t.Errorf("init's exit status is %d: it ran", exit.Status)
						}
					}
					if kind == "poststart" {
						if err != nil || !strings.Contains(p.Said(), "hook #2 of poststart") {
							t.Errorf("Start: %v; the log: %s", err, p.Said())
						}
						err = errors.New(p.Said())
					}
					if err := ctr.Delete(t.Context()); err != nil {
						t.Error(err)
					}
				}
				if err == nil || !strings.Contains(err.Error(), "hook #1 of "+kind) || !strings.Contains(err.Error(), c.want) {
					t.Errorf("error %v, want one of hook #1 of %s with %q", err, kind, c.want)
				}
				if err != nil && kind != "poststart" && strings.Contains(err.Error(), "second hook") {
					t.Errorf("the next hook ran: %v", err)
				}
				nothingLeft(t, p, bundle)
			})
		}
	}
}

// TestHookIsConfined: what an image has in the place of a startContainer hook is confined as
// the container is.
func TestHookIsConfined(t *testing.T) {
	t.Parallel()
	bundle := testcontainer.Busybox(t, func(s *specs.Spec) {
		caps := []string{"CAP_CHOWN", "CAP_DAC_OVERRIDE"}
		s.Process.Env = append(s.Process.Env, "SYSBOX_SYSCONT_MODE=FALSE")
		s.Process.Capabilities = &specs.LinuxCapabilities{Bounding: caps, Effective: caps, Permitted: caps}
		s.Process.NoNewPrivileges = true
		s.Linux.Seccomp = &specs.LinuxSeccomp{
			DefaultAction: specs.ActAllow, Architectures: []specs.Arch{specs.ArchX86_64, specs.ArchAARCH64},
			Syscalls: []specs.LinuxSyscall{{Names: []string{"mkdir", "mkdirat"}, Action: specs.ActErrno}},
		}
		s.Hooks = &specs.Hooks{StartContainer: []specs.Hook{{Path: "/bin/sh", Args: []string{"sh", "-c", "mkdir /made; grep -E 'CapEff|CapBnd|NoNewPrivs' /proc/self/status >/said"}, Env: []string{"PATH=/bin"}}}}
	}, "sleep", "1000")
	c := testcontainer.Create(t, testcontainer.NewPod(t), runtime.CreateRequest{ID: "c1", Bundle: bundle})
	if err := c.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	said, err := os.ReadFile(bundle + "/rootfs/said")
	const want = "CapEff:\t0000000000000003\nCapBnd:\t0000000000000003\nNoNewPrivs:\t1\n"
	if string(said) != want {
		t.Errorf("the hook is %q, want %q, %v", said, want, err)
	}
	if sys.Exists(bundle + "/rootfs/made") {
		t.Error("the hook could do what the profile denies")
	}
}
