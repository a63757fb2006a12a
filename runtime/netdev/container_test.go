// SPDX-License-Identifier: Apache-2.0

package netdev_test

import (
	"fmt"
	"os"
	"os/exec"
	"strings"
	"testing"

	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"sysbox/runtime"
	"sysbox/runtime/sys"
	"sysbox/tests/testcontainer"
)

// hostIP runs ip(8).
func hostIP(t *testing.T, args ...string) string {
	t.Helper()
	out, err := exec.Command("ip", args...).CombinedOutput()
	if err != nil {
		t.Fatalf("ip %s: %v: %s", strings.Join(args, " "), err, out)
	}
	return string(out)
}

// hostDevice makes a network device with an address on the host.
func hostDevice(t *testing.T) string {
	t.Helper()
	if os.Getuid() != 0 {
		t.Skip("makes network devices, which takes root")
	}
	name := fmt.Sprintf("sx%d", os.Getpid())
	hostIP(t, "link", "add", name, "type", "veth", "peer", "name", name+"p")
	t.Cleanup(func() { _ = exec.Command("ip", "link", "del", name+"p").Run() }) // it may be gone with the container
	hostIP(t, "addr", "add", "10.98.1.1/24", "dev", name)
	hostIP(t, "link", "set", name, "up")
	return name
}

// withNetDevice moves a device into a container as eth0.
func withNetDevice(host string, more func(*specs.Spec)) func(*specs.Spec) {
	return func(s *specs.Spec) {
		s.Linux.NetDevices = map[string]specs.LinuxNetDevice{host: {Name: "eth0"}}
		if more != nil {
			more(s)
		}
	}
}

// TestNetDevices: hooks and sysctls of the spec meet the device under its new name; a
// virtual one ends with the container's namespace.
func TestNetDevices(t *testing.T) {
	host := hostDevice(t)
	out, status := testcontainer.Run(t, withNetDevice(host, func(s *specs.Spec) {
		s.Linux.Sysctl = map[string]string{"net.ipv4.conf.eth0.forwarding": "1"}
		s.Hooks = testcontainer.Hook("createContainer", "grep eth0: /proc/net/dev && cat /proc/sys/net/ipv4/conf/eth0/forwarding", nil)
		s.Hooks.CreateContainer = s.Hooks.CreateContainer[:1]
	}), "sh", "-c", "cat /proc/sys/net/ipv4/conf/eth0/forwarding; cat /proc/net/fib_trie")
	if status != 0 || !strings.HasPrefix(out, "1\n") || !strings.Contains(out, "10.98.1.1") {
		t.Errorf("status %d: %s", status, out)
	}
}

// TestNetDevicesGivenBack: where Create fails after the devices were moved, the host has
// them as before.
func TestNetDevicesGivenBack(t *testing.T) {
	for _, c := range []struct {
		name, want string
		spoil      func(*specs.Spec)
	}{
		{"a hook fails", "no luck", func(s *specs.Spec) { s.Hooks = testcontainer.Hook("createRuntime", "echo no luck >&2; exit 3", nil) }},
		{"a sysctl that there is not", "net.ipv4.conf.eth9.forwarding", func(s *specs.Spec) {
			s.Linux.Sysctl = map[string]string{"net.ipv4.conf.eth9.forwarding": "1"}
		}},
		{"no program", "executable file not found", func(s *specs.Spec) { s.Process.Args[0] = "nosuch" }},
	} {
		t.Run(c.name, func(t *testing.T) {
			host := hostDevice(t)
			before := hostIP(t, "-o", "-4", "addr", "show", "dev", host, "up")
			p := testcontainer.NewPod(t)
			bundle := testcontainer.Busybox(t, withNetDevice(host, c.spoil), "true")
			if _, err := p.Create(t.Context(), runtime.CreateRequest{ID: "c1", Bundle: bundle}); err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("error %v, want %s", err, c.want)
			}
			// But for the index, with which the line begins.
			_, was, _ := strings.Cut(before, ":")
			if _, is, _ := strings.Cut(hostIP(t, "-o", "-4", "addr", "show", "dev", host, "up"), ":"); is != was {
				t.Errorf("the host has\n%s\nand had\n%s", is, was)
			}
			testcontainer.NothingLeft(t, p, bundle)
		})
	}
}

// TestNetDevicesOfJoined: in a namespace of the caller's the device outlives the container.
func TestNetDevicesOfJoined(t *testing.T) {
	host := hostDevice(t)
	var ns *os.File
	err := sys.Thread(func() (err error) {
		if err := sys.Unshare(unix.CLONE_NEWNET); err != nil {
			return err
		}
		ns, err = os.Open("/proc/thread-self/ns/net")
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	defer ns.Close()
	p := testcontainer.NewPod(t)
	bundle := testcontainer.Busybox(t, withNetDevice(host, func(s *specs.Spec) {
		s.Linux.Namespaces[4].Path = fmt.Sprintf("/proc/%d/fd/%d", os.Getpid(), ns.Fd())
	}), "true")
	c := testcontainer.Create(t, p, runtime.CreateRequest{ID: "c1", Bundle: bundle})
	if err := c.Delete(t.Context()); err != nil {
		t.Fatal(err)
	}
	list := ""
	err = sys.Thread(func() error {
		if err := sys.Setns(ns, unix.CLONE_NEWNET); err != nil {
			return err
		}
		out, err := exec.Command("ip", "-o", "-4", "addr", "show", "dev", "eth0").CombinedOutput()
		list = string(out)
		return err
	})
	if err != nil || !strings.Contains(list, "10.98.1.1/24") {
		t.Errorf("%v: %s", err, list)
	}
}
