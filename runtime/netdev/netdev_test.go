// SPDX-License-Identifier: Apache-2.0

package netdev

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"sysbox/runtime/plan"
	"sysbox/runtime/sys"
)

// ipIn runs ip(8) in a network namespace and returns its lines.
func ipIn(t *testing.T, ns *os.File, commands ...string) string {
	t.Helper()
	var all strings.Builder
	err := sys.Thread(func() error { // whose namespace its children have
		if err := sys.Setns(ns, unix.CLONE_NEWNET); err != nil {
			return err
		}
		for _, c := range commands {
			out, err := exec.CommandContext(context.Background(), "ip", strings.Fields(c)...).CombinedOutput()
			if err != nil {
				return fmt.Errorf("ip %s: %w: %s", c, err, out)
			}
			all.Write(out)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return all.String()
}

// namespace is a new network namespace.
func namespace(t *testing.T) *os.File {
	t.Helper()
	if os.Getuid() != 0 {
		t.Skip("makes network namespaces, which takes root")
	}
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
	t.Cleanup(func() { ns.Close() })
	return ns
}

// move moves devices from one namespace to another.
func move(host, ns *os.File, devices ...plan.NetDevice) (m *Transfer, err error) {
	err = sys.Thread(func() error {
		if err := sys.Setns(host, unix.CLONE_NEWNET); err != nil {
			return err
		}
		m, err = Move(ns, devices)
		return err
	})
	return m, err
}

// state is what there is to be seen of a device: up or not, MTU, MAC, and each address with
// its flags, in lines.
func state(t *testing.T, ns *os.File, name string) string {
	t.Helper()
	var out []string
	for line := range strings.Lines(ipIn(t, ns, "-o link show dev "+name, "-o addr show dev "+name)) {
		f := strings.Fields(line)
		switch {
		case strings.Contains(line, "link/ether"):
			flags, mac := strings.Trim(f[2], "<>"), f[len(f)-3]
			for i, w := range f {
				if w == "link/ether" {
					mac = f[i+1]
				}
			}
			up := "down"
			for flag := range strings.SplitSeq(flags, ",") {
				if flag == "UP" {
					up = "up"
				}
			}
			out = append(out, up+" "+f[4]+" "+mac)
		case strings.Contains(line, "scope link") && f[2] == "inet6": // the kernel's own
		default:
			rest := strings.Join(f[3:], " ")
			rest, _, _ = strings.Cut(rest, "\\") // lifetimes
			out = append(out, strings.TrimSuffix(strings.Replace(rest, " "+name, "", 1), " "))
		}
	}
	return strings.Join(out, "\n")
}

const mac = "02:00:00:00:0a:01"

// withDevices is a namespace with the devices ha and hc, of which ha has addresses.
func withDevices(t *testing.T) *os.File {
	host := namespace(t)
	ipIn(t, host,
		"link add ha type veth peer name hb", "link add hc type veth peer name hd",
		"link set ha address "+mac, "link set ha mtu 1400", "link set hb up", "link set ha up",
		"addr add 10.9.0.1/24 brd 10.9.0.255 dev ha", "addr add 10.9.0.2/24 dev ha", "addr add 10.9.7.1/32 dev ha noprefixroute",
		"addr add fd00:9::1/64 nodad dev ha",
		"addr add 10.9.8.1/24 dev ha valid_lft 1000 preferred_lft 1000", "addr add 10.9.9.1/24 dev ha scope link",
	)
	return host
}

// TestMove: a device has its name, its permanent global addresses and its attributes in the
// container, and is up; the host has it no more.
func TestMove(t *testing.T) {
	host := withDevices(t)
	ns := namespace(t)
	ipIn(t, ns, "link add eth0 type veth peer name eth1")
	m, err := move(host, ns, plan.NetDevice{Host: "ha", Name: "net7"}, plan.NetDevice{Host: "hc", Name: "eth%d"})
	if err != nil {
		t.Fatal(err)
	}
	defer m.Close()
	const kept = "up 1400 " + mac + "\n" +
		"10.9.0.1/24 brd 10.9.0.255 scope global\n10.9.7.1/32 scope global noprefixroute\n10.9.0.2/24 scope global secondary\nfd00:9::1/64 scope global nodad"
	if got := state(t, ns, "net7"); got != kept {
		t.Errorf("in the container\n%s\nwant\n%s", got, kept)
	}
	if got := state(t, ns, "eth2"); !strings.HasPrefix(got, "up ") {
		t.Errorf("of a template: %q", got)
	}
	if left := ipIn(t, host, "-o link show"); strings.Contains(left, " ha@") || strings.Contains(left, " hc@") {
		t.Errorf("the host has still\n%s", left)
	}
	if err := m.Rollback(); err != nil {
		t.Fatal(err)
	}
	if got := state(t, host, "ha"); got != kept {
		t.Errorf("back on the host\n%s\nwant\n%s", got, kept)
	}
	if got := state(t, host, "hc"); !strings.HasPrefix(got, "down ") {
		t.Errorf("what was down came back as %q", got)
	}
	if left := ipIn(t, ns, "-o link show"); strings.Contains(left, "net7") || strings.Contains(left, "eth2") {
		t.Errorf("the container has still\n%s", left)
	}
}

// TestMoveFails: what cannot be moved is told, and all that was moved before it is back.
func TestMoveFails(t *testing.T) {
	for _, c := range []struct{ host, name, want string }{
		{"nosuch", "nosuch", `linux.netDevices is "nosuch": the host has no such network device`},
		{"lo", "lo7", `linux.netDevices is "lo": it cannot be moved to another network namespace: invalid argument`},
		{"hc", "lo", `linux.netDevices.hc.name is "lo": the network namespace of the container already has a device of this name`},
		{"hc", "net7", `linux.netDevices.hc.name is "net7": the network namespace of the container already has a device of this name`},
	} {
		host := withDevices(t)
		before := state(t, host, "ha")
		ns := namespace(t)
		_, err := move(host, ns, plan.NetDevice{Host: "ha", Name: "net7"}, plan.NetDevice{Host: c.host, Name: c.name})
		if err == nil || !strings.HasPrefix(err.Error(), c.want) {
			t.Errorf("%s as %s: %v; want %s", c.host, c.name, err, c.want)
		}
		after := state(t, host, "ha")
		for line := range strings.Lines(after) {
			if !strings.Contains(before, strings.TrimSuffix(line, "\n")) {
				t.Errorf("%s: back on the host\n%s\nwant of\n%s", c.host, after, before)
			}
		}
		ipIn(t, host, "link show hc")
		if left := ipIn(t, ns, "-o link show"); strings.Count(left, "\n") != 1 {
			t.Errorf("the container has still\n%s", left)
		}
	}
}

// TestBackOfWhatIsGone: what was destroyed meanwhile is told.
func TestBackOfWhatIsGone(t *testing.T) {
	host := withDevices(t)
	ns := namespace(t)
	m, err := move(host, ns, plan.NetDevice{Host: "ha", Name: "ha"}, plan.NetDevice{Host: "hc", Name: "hc"})
	if err != nil {
		t.Fatal(err)
	}
	defer m.Close()
	ipIn(t, ns, "link del ha")
	if err := m.Rollback(); !errors.Is(err, unix.ENODEV) || !strings.Contains(err.Error(), "move ha back to the host") {
		t.Errorf("got %v", err)
	}
	ipIn(t, host, "link show hc")
}
