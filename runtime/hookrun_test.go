package runtime

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/opencontainers/runtime-spec/specs-go"
)

// TestHooks: all six kinds run in their order, with the state on stdin, in
// the namespaces that the spec wants.
func TestHooks(t *testing.T) {
	log := filepath.Join(t.TempDir(), "log")
	host := func(kind string) []specs.Hook {
		script := fmt.Sprintf(`printf '%s '"$(readlink /proc/self/ns/net) $(readlink /proc/self/ns/mnt) " >>%s; cat >>%s; echo >>%s`, kind, log, log, log)
		return []specs.Hook{{Path: "/bin/sh", Args: []string{"sh", "-c", script}, Env: []string{"PATH=/usr/bin:/bin"}}}
	}
	bundle := busybox(t, func(s *specs.Spec) {
		s.Hooks = &specs.Hooks{
			Prestart: host("prestart"), CreateRuntime: host("createRuntime"), CreateContainer: host("createContainer"),
			StartContainer: []specs.Hook{{Path: "/bin/sh", Args: []string{"sh", "-c", "cat >/started; readlink /proc/self/ns/net >>/started"}, Env: []string{"PATH=/bin"}}},
			Poststart:      host("poststart"), Poststop: host("poststop"),
		}
	}, "sleep", "1000")
	c := create(t, testPod(t, "pod"), CreateRequest{ID: "c1", Bundle: bundle})
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

// TestFailedHook: a failed hook of the first kinds fails Create with what it
// said, and nothing is left.
func TestFailedHook(t *testing.T) {
	for _, kind := range []string{"createRuntime", "createContainer"} {
		t.Run(kind, func(t *testing.T) {
			h := []specs.Hook{{Path: "/bin/sh", Args: []string{"sh", "-c", "echo no luck >&2; exit 3"}}}
			bundle := busybox(t, func(s *specs.Spec) {
				s.Hooks = &specs.Hooks{}
				if kind == "createRuntime" {
					s.Hooks.CreateRuntime = h
				} else {
					s.Hooks.CreateContainer = h
				}
			}, "true")
			_, err := testPod(t, "pod").Create(t.Context(), CreateRequest{ID: "c1", Bundle: bundle})
			if err == nil || !strings.Contains(err.Error(), "hook #1 of "+kind) || !strings.Contains(err.Error(), "no luck") {
				t.Errorf("error %v", err)
			}
		})
	}
}
