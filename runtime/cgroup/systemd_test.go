// SPDX-License-Identifier: Apache-2.0

package cgroup

import (
	"context"
	"fmt"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/opencontainers/runtime-spec/specs-go"

	"sysbox/tests/pace"
)

// TestScope needs a host whose init is systemd; a virtual machine will do.
func TestScope(t *testing.T) {
	if !exists("/run/systemd/system") {
		t.Skip("systemd isn't this host's init")
	}
	l := host(t)
	slice := strings.TrimPrefix(top, "/") // its dashes make three levels
	path := slice + ".slice:sysbox:c1"
	if _, err := Create(Config{Path: path}); err == nil {
		t.Error("a scope without a process")
	}
	holder := exec.Command("sleep", "600")
	start(t, holder)
	t.Cleanup(func() { // systemd keeps a slice that it made for a scope
		if out, err := exec.Command("systemctl", "stop", slice+".slice").CombinedOutput(); err != nil {
			t.Errorf("systemctl stop %s.slice: %v: %s", slice, err, out)
		}
	})
	c := create(t, Config{Path: path, PlaceholderPID: holder.Process.Pid, Resources: &specs.LinuxResources{
		Memory: &specs.LinuxMemory{Limit: ptr(int64(64 << 20))},
		CPU:    &specs.LinuxCPU{Quota: ptr(int64(25000)), Period: ptr(uint64(100000))},
		Pids:   &specs.LinuxPids{Limit: ptr(int64(100))},
	}})
	if want := "/sysbox.slice/sysbox-test.slice/" + slice + ".slice/sysbox-c1.scope"; c.Path() != want {
		t.Errorf("path %s, want %s", c.Path(), want)
	}
	for _, m := range l.mounts() {
		if !exists(m + c.Path()) {
			t.Errorf("%s isn't there", m+c.Path())
		}
	}
	node := t.TempDir() + "/mem"
	if out, err := commandIn(t, c, "true >/dev/null && mknod "+node+" c 1 1").CombinedOutput(); err != nil {
		t.Errorf("%v: %s", err, out)
	}
	if commandIn(t, c, "true <"+node).Run() == nil {
		t.Error("a device that no rule allows can be opened")
	}
	// systemd writes its values again; ours must be the same.
	show := func() string {
		var all strings.Builder
		for _, f := range []string{"cpu.max", "memory.max", "pids.max", "cpu.cfs_quota_us", "memory.limit_in_bytes"} {
			ctrl, _, _ := strings.Cut(f, ".")
			if s, err := readFile(c.dir(ctrl) + "/" + f); err == nil {
				fmt.Fprintf(&all, "%s=%s ", f, s)
			}
		}
		return all.String()
	}
	before := show()
	if out, err := exec.Command("systemctl", "daemon-reload").CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	if after := show(); after != before || before == "" {
		t.Errorf("limits are %s after daemon-reload, were %s", after, before)
	}
	if commandIn(t, c, "true <"+node).Run() == nil {
		t.Error("devices are open after daemon-reload")
	}
	if _, err := c.Update(&specs.LinuxResources{Memory: &specs.LinuxMemory{Limit: ptr(int64(128 << 20))}}); err != nil {
		t.Error(err)
	}
	if !strings.Contains(show(), "134217728") {
		t.Errorf("limits after Update: %s", show())
	}
	if _, err := c.Update(&specs.LinuxResources{Devices: []specs.LinuxDeviceCgroup{{Allow: true, Access: "rwm"}}}); err != nil {
		t.Error(err)
	}
	// systemd answers before it has changed its own BPF program.
	eventually(t, "all devices are open", func() bool { return commandIn(t, c, "true <"+node).Run() == nil })

	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second*pace.Patience())
	defer cancel()
	if err := c.KillAll(ctx); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		if err := c.Delete(ctx); err != nil {
			t.Fatal(err)
		}
	}
	if out, _ := exec.Command("systemctl", "is-active", "sysbox-c1.scope").Output(); string(out) != "inactive\n" {
		t.Errorf("the scope is %s", out)
	}
}
