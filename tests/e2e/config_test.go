// SPDX-License-Identifier: Apache-2.0

package e2e

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/containerd/containerd/api/events"
	containerd "github.com/containerd/containerd/v2/client"
	"github.com/containerd/typeurl/v2"

	"sysbox/tests/harness"
	"sysbox/tests/peers"
)

// breaks are changes of a configuration after which nothing of a container that was made
// with it can be found by it.
var breaks = []struct {
	name string
	do   func(file string, h *harness.Containerd) error
}{
	{"a typo", func(file string, _ *harness.Containerd) error { return appendTo(file, "moduls = []\n") }},
	{"not TOML", func(file string, _ *harness.Containerd) error { return appendTo(file, "[ids\n") }},
	{"a wrong value", func(file string, _ *harness.Containerd) error { return appendTo(file, "ids.range_size = 10\n") }},
	{"state_dir changed", func(file string, h *harness.Containerd) error {
		return os.WriteFile(file, fmt.Appendf(nil, "state_dir = %q\ndata_dir = %q\n", h.StateDir()+"-2", h.DataDir()), 0o600)
	}},
	{"data_dir changed", func(file string, h *harness.Containerd) error {
		return os.WriteFile(file, fmt.Appendf(nil, "state_dir = %q\ndata_dir = %q\n", h.StateDir(), h.DataDir()+"-2"), 0o600)
	}},
	{"the file removed", func(file string, _ *harness.Containerd) error { return os.Remove(file) }},
	{"a directory in its place", func(file string, _ *harness.Containerd) error {
		if err := os.Remove(file); err != nil {
			return err
		}
		return os.Mkdir(file, 0o700)
	}},
}

func appendTo(file, text string) error {
	b, err := os.ReadFile(file)
	if err != nil {
		return err
	}
	return os.WriteFile(file, append(b, text...), 0o600)
}

// TestConfigurationBroken: a configuration that was broken or changed while a container ran
// hides the container neither from the delete command, after whose run containerd knows of
// its end, nor from reclaim.
func TestConfigurationBroken(t *testing.T) {
	if why := skipped(); why != "" {
		t.Skip(why)
	}
	shim, err := peers.Shim()
	if err != nil {
		t.Fatal(err)
	}
	h := startReplaceable(t, shim)
	for _, b := range breaks {
		for _, way := range []string{"delete", "reclaim"} {
			t.Run(b.name+", "+way, func(t *testing.T) {
				h.brokenConfig(t, b.do, func(task containerd.Task) {
					if way == "delete" {
						h.diesWithShim(t, task)
						return
					}
					h.Kill()
					killShimOf(t, task)
					if out := h.command(t, "reclaim"); !strings.Contains(out, task.ID()) {
						t.Errorf("reclaim says %q", out)
					}
				})
			})
		}
	}
}

// TestConfigurationBrokenSinceUpgrade: the same of a container that the last version made,
// whose bundle does not tell the directories, as far as the file is TOML and names the same.
func TestConfigurationBrokenSinceUpgrade(t *testing.T) {
	last, this := shims(t)
	for _, b := range breaks {
		if b.name != "a typo" && b.name != "a wrong value" {
			continue
		}
		t.Run(b.name, func(t *testing.T) {
			h := startReplaceable(t, last)
			h.brokenConfig(t, b.do, func(task containerd.Task) {
				h.install(t, this)
				h.diesWithShim(t, task)
			})
		})
	}
}

// diesWithShim kills a container's shim and waits until containerd tells of the container's
// end, as its delete command does.
func (h *replaceable) diesWithShim(t *testing.T, task containerd.Task) {
	t.Helper()
	ctx := background(t)
	stream, errs := h.Client.Subscribe(ctx, `topic=="/tasks/exit"`)
	killShimOf(t, task)
	for {
		select {
		case e := <-stream:
			v, err := typeurl.UnmarshalAny(e.Event)
			if err != nil {
				t.Fatal(err)
			}
			exit, ok := v.(*events.TaskExit)
			if !ok || exit.ContainerID != task.ID() {
				continue
			}
			if exit.ExitStatus != 137 {
				t.Errorf("containerd tells of an end with %d", exit.ExitStatus)
			}
			return
		case err := <-errs:
			t.Fatalf("containerd tells of no end: %v", err)
		}
	}
}

// brokenConfig runs a container, breaks the configuration, has the
// container removed, and fails the test if anything of it is left.
func (h *replaceable) brokenConfig(t *testing.T, spoil func(string, *harness.Containerd) error, remove func(containerd.Task)) {
	t.Helper()
	task, _ := h.sleeper(t)
	file := filepath.Join(h.Dir, "sysbox.toml")
	text, err := os.ReadFile(file)
	if err == nil {
		err = spoil(file, h.Containerd)
	}
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := os.RemoveAll(file); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(file, text, 0o600); err != nil {
			t.Fatal(err)
		}
	}()
	remove(task)
	gone(t, task.Pid())
	h.forgets(t, task)
	if left, _ := filepath.Glob("/run/sysbox/ids/r-*"); len(left) > 0 {
		t.Errorf("ids are left: %v", left)
	}
	if h.Client == nil {
		h.resume(t)
	}
}
