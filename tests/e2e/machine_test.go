// SPDX-License-Identifier: Apache-2.0

package e2e

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/containerd/containerd/v2/pkg/cio"
	"github.com/containerd/containerd/v2/pkg/oci"
	"github.com/opencontainers/runtime-spec/specs-go"

	"sysbox/tests/harness"
	"sysbox/tests/images"
	"sysbox/tests/peers"
)

// These tests need what only some hosts have; the virtual machine (tests/vm) has it all.

// TestSystemdDriver: a system container boots in a scope of the host's systemd, which has
// the limits and keeps them, and goes with the container.
func TestSystemdDriver(t *testing.T) {
	if !harness.Machine() {
		t.Skip("starts units of the host's systemd, which is for a machine that the tests have to themselves (tests/vm)")
	}
	h := on(t, peers.Newest)
	const unit = "sysbox-scope.scope"
	memory, pids := int64(1<<30), int64(2000)
	t.Run("booted", func(t *testing.T) {
		task, _ := h.booted(t, images.Debian, edit(func(s *specs.Spec) {
			s.Linux.CgroupsPath = "system.slice:sysbox:scope"
			s.Linux.Resources.Memory = &specs.LinuxMemory{Limit: &memory}
			s.Linux.Resources.Pids = &specs.LinuxPids{Limit: &pids}
		}))
		want := "ActiveState=active\nDelegate=yes\nMemoryMax=1073741824\nSlice=system.slice\nTasksMax=2000\n"
		show := func() string {
			return onHost(t, "systemctl show -p Slice,Delegate,MemoryMax,TasksMax,ActiveState "+unit+" | sort")
		}
		if got := show(); got != want {
			t.Errorf("the scope is\n%swant\n%s", got, want)
		}
		onHost(t, "systemctl daemon-reload")
		if got := cgroupFile(t, task.Pid(), "memory", "memory.limit_in_bytes", "memory.max"); got != "1073741824" || show() != want {
			t.Errorf("after daemon-reload: memory limit %s, the scope is\n%s", got, show())
		}
		out, status := h.exec(t, task, nil, "sh", "-c", "systemd-run --wait -q --pipe -p MemoryMax=64M sh -c 'cat /sys/fs/cgroup$(cut -d: -f3 /proc/self/cgroup)/memory.max'")
		if status != 0 || out != "67108864\n" {
			t.Errorf("a unit with a limit inside: exit status %d, output %q", status, out)
		}
		for _, c := range []struct{ name, script, want string }{
			{"the container's limit of processes", "cat /sys/fs/cgroup/pids.max", "2000"},
			{"a unit's limit is kept", "systemd-run --wait --collect -p MemoryMax=32M -p MemorySwapMax=0 tail /dev/zero 2>&1 | grep result", "oom-kill"},
			{"Docker", "docker load -q -i /opt/busybox.tar; docker run --rm busybox:test echo inner", "inner"},
			{"a limit of Docker's", "docker run --rm -m 48m --pids-limit 77 busybox:test cat /sys/fs/cgroup/memory.max /sys/fs/cgroup/pids.max", "50331648\n77"},
			{"which is kept", "docker run --rm -m 32m --memory-swap 32m busybox:test tail /dev/zero; echo $?", "137"},
		} {
			if out, status := h.exec(t, task, nil, "sh", "-c", c.script); status != 0 || !strings.Contains(out, c.want) {
				t.Errorf("%s: exit status %d, output %q, want %q", c.name, status, out, c.want)
			}
		}
	})
	if got := onHost(t, "systemctl is-active "+unit+" || true"); got != "inactive\n" {
		t.Errorf("the scope is %s after the container's end", got)
	}
}

// TestModprobe: the unmodified modprobe(8) of a container succeeds for what the host has
// in its kernel or has loaded, and for what the administrator's list names, with what that
// needs; for others it fails, and the log says why, once.
func TestModprobe(t *testing.T) {
	if !harness.Machine() {
		t.Skip("loads modules into the host's kernel, which is for a machine that the tests have to themselves (tests/vm)")
	}
	h := on(t, peers.Newest)
	config := filepath.Join(h.Dir, "sysbox.toml")
	old, err := os.ReadFile(config)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(config, append([]byte("modules = [\"wireguard\"]\n"), old...), 0o600); err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := os.WriteFile(config, old, 0o600); err != nil {
			t.Error(err)
		}
	}()
	archive, err := images.Debian()
	if err != nil {
		t.Fatal(err)
	}
	image, err := h.Load(background(t), archive)
	if err != nil {
		t.Fatal(err)
	}
	task, _ := h.task(t, h.container(t, image, oci.WithProcessArgs("sleep", "1000")), cio.NullIO)
	if _, err := os.Stat("/sys/module/udp_tunnel"); err == nil {
		t.Error("udp_tunnel, which wireguard needs, is loaded already: the test shows too little")
	}
	builtin := strings.TrimSpace(onHost(t, "basename $(head -1 /lib/modules/$(uname -r)/modules.builtin) .ko"))
	for _, c := range []struct {
		name, module string
		status       uint32
		want         string
	}{
		{"in the kernel", builtin, 0, ""},
		{"loaded", "overlay", 0, ""},
		{"on the list", "wireguard", 0, ""},
		{"on the list and loaded", "wireguard", 0, ""},
		{"not on the list", "dummy", 1, "Operation not permitted"},
		{"none at all", "no-such", 1, "not found"},
	} {
		out, status := h.exec(t, task, nil, "modprobe", c.module)
		if status != c.status || !strings.Contains(out, c.want) || c.want == "" && out != "" {
			t.Errorf("%s: modprobe %s: exit status %d, output %q, want %d, %q", c.name, c.module, status, out, c.status, c.want)
		}
	}
	if _, err := os.Stat("/sys/module/wireguard"); err != nil {
		t.Error(err)
	}
	if n := strings.Count(h.Log(), "asked for the kernel module dummy"); n != 1 {
		t.Errorf("the log says %d times that the module is not on the list, want once:\n%s", n, h.Log())
	}
	onHost(t, "modprobe -r wireguard")
}

// onHost runs a command on the host.
func onHost(t *testing.T, script string) string {
	t.Helper()
	out, err := exec.CommandContext(background(t), "sh", "-c", script).CombinedOutput()
	if err != nil {
		t.Errorf("%s: %v\n%s", script, err, out)
	}
	return string(out)
}

// TestAppArmor: init and further processes are confined by the profiles of the spec.
func TestAppArmor(t *testing.T) {
	if b, _ := os.ReadFile("/sys/module/apparmor/parameters/enabled"); !strings.HasPrefix(string(b), "Y") {
		t.Skip("this kernel has no AppArmor")
	}
	if _, err := exec.LookPath("apparmor_parser"); err != nil {
		t.Skip("apparmor_parser is not installed")
	}
	h := on(t, peers.Newest)
	const name = "sysbox-test"
	profile := "profile " + name + " flags=(attach_disconnected,mediate_deleted) {\n file,\n capability,\n network,\n signal,\n ptrace,\n mount,\n umount,\n pivot_root,\n unix,\n deny /etc/group r,\n}\n"
	load := func(how string) {
		t.Helper()
		cmd := exec.CommandContext(background(t), "apparmor_parser", how)
		cmd.Stdin = strings.NewReader(profile)
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Fatalf("apparmor_parser %s: %v\n%s", how, err, out)
		}
	}
	load("-rK")
	defer load("-R")
	confined := oci.WithApparmorProfile(name)
	const script = "cat /proc/self/attr/current; cat /etc/group 2>&1"
	const want = name + " (enforce)\ncat: can't open '/etc/group': Permission denied\n"
	for _, c := range []struct {
		name string
		opts []oci.SpecOpts
	}{
		{"a system container", []oci.SpecOpts{confined}},
		{"an ordinary container", []oci.SpecOpts{confined, edit(ordinary)}},
	} {
		if out, _ := h.run(t, script, c.opts...); out != want {
			t.Errorf("%s printed %q, want %q", c.name, out, want)
		}
	}
	task, _ := h.sleeper(t, confined)
	if out, _ := h.exec(t, task, nil, "sh", "-c", script); out != want {
		t.Errorf("an exec in a confined container printed %q, want %q", out, want)
	}
	task, _ = h.sleeper(t)
	if out, _ := h.exec(t, task, func(p *specs.Process) { p.ApparmorProfile = name }, "sh", "-c", script); out != want {
		t.Errorf("an exec printed %q, want %q", out, want)
	}
	if out, status := h.exec(t, task, func(p *specs.Process) { p.ApparmorProfile = "sysbox-none" }, "true"); status == 0 || !strings.Contains(out, "sysbox-none") {
		t.Errorf("an exec under a profile that does not exist: exit status %d, %q", status, out)
	}
}
