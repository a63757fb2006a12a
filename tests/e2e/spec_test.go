// SPDX-License-Identifier: Apache-2.0

package e2e

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/containerd/containerd/v2/core/containers"
	"github.com/containerd/containerd/v2/pkg/cio"
	"github.com/containerd/containerd/v2/pkg/oci"
	"github.com/opencontainers/runtime-spec/specs-go"
)

// edit changes the spec that containerd's client has made.
func edit(f func(*specs.Spec)) oci.SpecOpts {
	return func(_ context.Context, _ oci.Client, _ *containers.Container, s *oci.Spec) error {
		f(s)
		return nil
	}
}

// ordinary makes a hardened ordinary container.
func ordinary(s *specs.Spec) { s.Process.Env = append(s.Process.Env, "SYSBOX_SYSCONT_MODE=FALSE") }

// TestSpec: what containerd's spec asks for is what the container sees.
func TestSpec(t *testing.T) {
	umask, errno := uint32(0o27), uint(39) // ENOTEMPTY: nothing else answers mkdir so
	kill := []string{"CAP_KILL"}
	for _, c := range []struct {
		name, script, want string
		change             func(*specs.Spec)
	}{
		{"host name", "hostname", "box\n", func(s *specs.Spec) { s.Hostname = "box" }},
		{"variables of Sysbox are for us alone", "env | grep SYSBOX_ || echo none", "none\n", ordinary},
		{"working directory", "pwd", "/srv/new\n", func(s *specs.Spec) { s.Process.Cwd = "/srv/new" }},
		{"user, groups, umask", "id -u; id -g; id -G; umask", "1000\n1001\n1001 7\n0027\n", func(s *specs.Spec) {
			s.Process.User = specs.User{UID: 1000, GID: 1001, AdditionalGids: []uint32{7}, Umask: &umask}
		}},
		{"limits", "ulimit -n; ulimit -Hn", "100\n200\n", func(s *specs.Spec) {
			s.Process.Rlimits = []specs.POSIXRlimit{{Type: "RLIMIT_NOFILE", Soft: 100, Hard: 200}}
		}},
		{"no_new_privs", "grep -h NoNewPrivs /proc/self/status", "NoNewPrivs:\t1\n", func(s *specs.Spec) { s.Process.NoNewPrivileges = true }},
		{"all capabilities, within its user namespace", "grep CapEff /proc/self/status", "CapEff:\t000001ffffffffff\n", nil},
		{"capabilities of an ordinary container", "grep -E 'Cap(Eff|Bnd)' /proc/self/status", "CapEff:\t0000000000000020\nCapBnd:\t0000000000000020\n", func(s *specs.Spec) {
			ordinary(s)
			s.Process.Capabilities = &specs.LinuxCapabilities{Bounding: kill, Effective: kill, Permitted: kill}
		}},
		{"seccomp profile", "mkdir /tmp/x 2>&1 | grep -o 'not empty'", "not empty\n", func(s *specs.Spec) {
			s.Linux.Seccomp = &specs.LinuxSeccomp{
				DefaultAction: specs.ActAllow,
				Syscalls:      []specs.LinuxSyscall{{Names: []string{"mkdir", "mkdirat"}, Action: specs.ActErrno, ErrnoRet: &errno}},
			}
		}},
		{"sysctl", "cat /proc/sys/net/ipv4/ip_forward", "1\n", func(s *specs.Spec) {
			s.Linux.Sysctl = map[string]string{"net.ipv4.ip_forward": "1"}
		}},
		{"read-only root", "touch /x 2>/dev/null || echo ro", "ro\n", func(s *specs.Spec) { s.Root.Readonly = true }},
		{"read-only bind", "touch /data/x 2>/dev/null || echo ro; mount -o remount,rw,bind /data 2>/dev/null || echo locked", "ro\nlocked\n", func(s *specs.Spec) {
			s.Mounts = append(s.Mounts, specs.Mount{Destination: "/data", Type: "bind", Source: os.TempDir(), Options: []string{"rbind", "ro"}})
		}},
		{"tmpfs", "stat -f -c %T /data; stat -c %a /data", "tmpfs\n1700\n", func(s *specs.Spec) {
			s.Mounts = append(s.Mounts, specs.Mount{Destination: "/data", Type: "tmpfs", Source: "tmpfs", Options: []string{"mode=1700", "size=1m"}})
		}},
		{"masked file", "wc -c </etc/group", "0\n", func(s *specs.Spec) { s.Linux.MaskedPaths = append(s.Linux.MaskedPaths, "/etc/group") }},
		{"masked folder", "ls /root; touch /root/x 2>/dev/null || echo ro", "ro\n", func(s *specs.Spec) { s.Linux.MaskedPaths = append(s.Linux.MaskedPaths, "/root") }},
		{"devices are null and zero, and no other of the host's", "stat -c %t,%T /dev/null /dev/zero; mknod /dev/sda b 8 0 2>/dev/null || echo refused", "1,3\n1,5\nrefused\n", nil},
		{"oom_score_adj", "cat /proc/self/oom_score_adj", "321\n", func(s *specs.Spec) { n := 321; s.Process.OOMScoreAdj = &n }},
		{"three open files", "ls /proc/self/fd | wc -l", "4\n", nil}, // and ls's own
		{"a network of its own", "ls /sys/class/net", "lo\n", nil},
		{"a pid namespace of its own", "echo $$", "1\n", nil},
	} {
		t.Run(c.name, func(t *testing.T) {
			both(t, func(t *testing.T, h *host) {
				out, status := h.run(t, c.script, edit(func(s *specs.Spec) {
					if c.change != nil {
						c.change(s)
					}
				}))
				if out != c.want || status != 0 {
					t.Errorf("exit status %d, output %q, want %q", status, out, c.want)
				}
			})
		})
	}
}

// TestNetDevice: a network device of the host's is the container's, and one that there is not
// is told by name.
func TestNetDevice(t *testing.T) {
	both(t, func(t *testing.T, h *host) {
		for _, c := range []string{"link add sbxe2e type veth peer name sbxe2ep", "addr add 10.97.1.1/24 dev sbxe2e"} {
			if out, err := exec.CommandContext(t.Context(), "ip", strings.Fields(c)...).CombinedOutput(); err != nil {
				t.Fatalf("ip %s: %v: %s", c, err, out)
			}
		}
		device := func(host string) oci.SpecOpts {
			return edit(func(s *specs.Spec) { s.Linux.NetDevices = map[string]specs.LinuxNetDevice{host: {Name: "eth7"}} })
		}
		out, status := h.run(t, "ip -o -4 addr show dev eth7 | grep -o '10.97.1.1/24'; ip link show dev eth7 | grep -o ',UP'", device("sbxe2e"))
		if out != "10.97.1.1/24\n,UP\n" || status != 0 {
			t.Errorf("exit status %d, output %q", status, out)
		}
		io := &output{}
		_, err := h.container(t, h.busybox, device("nosuch0")).NewTask(background(t), io.creator())
		if err == nil || !strings.Contains(err.Error(), `linux.netDevices is "nosuch0": the host has no such network device`) {
			t.Errorf("got %v", err)
		}
	})
}

// TestHooks: a hook runs on the host and is told of the container.
func TestHooks(t *testing.T) {
	both(t, func(t *testing.T, h *host) {
		log := filepath.Join(t.TempDir(), "log")
		hook := func(name string) []specs.Hook {
			return []specs.Hook{{Path: "/bin/sh", Args: []string{"sh", "-c", fmt.Sprintf(`echo %s $(grep -o '"status":"[a-z]*"' | cut -d: -f2) >>%s`, name, log)}, Env: []string{"PATH=/usr/bin:/bin"}}}
		}
		c := h.container(t, h.busybox, oci.WithProcessArgs("true"), edit(func(s *specs.Spec) {
			s.Hooks = &specs.Hooks{CreateRuntime: hook("createRuntime"), Poststart: hook("poststart"), Poststop: hook("poststop")}
		}))
		task, exit := h.task(t, c, cio.NullIO)
		wait(t, exit)
		if _, err := task.Delete(background(t)); err != nil {
			t.Fatal(err)
		}
		b, err := os.ReadFile(log)
		got := strings.ReplaceAll(string(b), `"`, "")
		// Init may have ended before the hooks after its start.
		if err != nil || !strings.HasPrefix(got, "createRuntime creat") || !strings.Contains(got, "\npoststart ") || !strings.HasSuffix(got, "\npoststop stopped\n") {
			t.Errorf("hooks wrote %q, %v", got, err)
		}
	})
}

// TestRangesAreApart: no host id belongs to two containers.
func TestRangesAreApart(t *testing.T) {
	both(t, func(t *testing.T, h *host) {
		type span struct{ first, size int }
		var spans []span
		for range 4 {
			task, _ := h.sleeper(t)
			b, err := os.ReadFile(fmt.Sprintf("/proc/%d/uid_map", task.Pid()))
			if err != nil {
				t.Fatal(err)
			}
			for line := range strings.Lines(string(b)) {
				var inside int
				var s span
				if _, err := fmt.Sscan(line, &inside, &s.first, &s.size); err != nil {
					t.Fatalf("%q: %v", line, err)
				}
				for _, o := range spans {
					if s.first < o.first+o.size && o.first < s.first+s.size {
						t.Errorf("ranges %v and %v overlap", s, o)
					}
				}
				if s.first == 0 {
					t.Errorf("range %v has the host's root", s)
				}
				spans = append(spans, s)
			}
		}
		if len(spans) < 4 {
			t.Errorf("4 containers have ranges %v", spans)
		}
	})
}
