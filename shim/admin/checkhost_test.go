// SPDX-License-Identifier: Apache-2.0

package admin

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"sysbox/tests/leak"
	"sysbox/tests/peers"
)

// checkOn runs the command check in a mount namespace of its own that a script has prepared;
// "$@" in the script is the command. It returns what it wrote, and whether it said no.
func checkOn(t *testing.T, script string) (text string, no bool) {
	t.Helper()
	if os.Getuid() != 0 {
		t.Skip("makes a container, which takes root")
	}
	dir, err := peers.Shim()
	if err != nil {
		t.Fatal(err)
	}
	out, err := exec.CommandContext(t.Context(), "unshare", "--mount", "--propagation", "private", "sh", "-ec", script, "sh", filepath.Join(dir, "containerd-shim-sysbox-v1"), "check").CombinedOutput()
	return string(out), err != nil
}

// TestCheckSaysNo: where no container starts, check says so, whatever the kernel has: it names
// the step, the reason, and what to do.
func TestCheckSaysNo(t *testing.T) {
	for _, c := range []struct {
		name, script string
		says         []string
	}{
		{"no cgroups", `for i in 1 2 3; do awk '$3 ~ /^cgroup/ {print $2}' /proc/mounts | tac | xargs -r umount || true; done; "$@"`, []string{
			"create the container: ", "no cgroup hierarchy is mounted", "mount cgroup2 on /sys/fs/cgroup",
		}},
		{"read-only state_dir", `mkdir -p /run/sysbox; mount --bind -o ro /run/sysbox /run/sysbox; "$@"`, []string{
			"create the container: ", "/run/sysbox/", "read-only file system", "name other directories in the configuration (state_dir, data_dir)",
		}},
		{"read-only data_dir", `mkdir -p /var/lib/sysbox; mount --bind -o ro /var/lib/sysbox /var/lib/sysbox; "$@"`, []string{
			"data_dir /var/lib/sysbox", "read-only file system", "name other directories in the configuration (state_dir, data_dir)",
		}},
		{"full state_dir", `mkdir -p /run/sysbox; mount -t tmpfs -o nr_inodes=1 none /run/sysbox; "$@"`, []string{
			"create the container: ", "/run/sysbox/", "no space left on device", "free some space there",
		}},
	} {
		t.Run(c.name, func(t *testing.T) {
			out, no := checkOn(t, c.script)
			if !no || !strings.Contains(out, "\nFAILED  a container: ") || !strings.Contains(out, "containers do not start on this host: ") {
				t.Errorf("said no: %v", no)
			}
			for _, s := range c.says {
				if !strings.Contains(out, s) {
					t.Errorf("says nothing of %q", s)
				}
			}
			if t.Failed() {
				t.Logf("it says:\n%s", out)
			}
		})
	}
}

// TestCheckOfCapabilities: each capability without which no container is made, or stopped, is
// missed by its name, and the kernel is not blamed for it.
func TestCheckOfCapabilities(t *testing.T) {
	for _, name := range []string{"chown", "dac_override", "kill", "mknod", "setgid", "setpcap", "setuid", "sys_admin", "sys_ptrace"} {
		t.Run(name, func(t *testing.T) {
			out, no := checkOn(t, `exec setpriv --bounding-set -`+name+` --inh-caps -`+name+` "$@"`)
			if !no || !strings.Contains(out, ": it lacks CAP_"+strings.ToUpper(name)) || strings.Contains(out, "use Linux 5.12 or newer") {
				t.Errorf("said no: %v:\n%s", no, out)
			}
		})
	}
}

// TestCheckLeavesNothing: a container was made, and of it there is nothing, nor of one that
// could not be made.
func TestCheckLeavesNothing(t *testing.T) {
	look := leak.Options{Dirs: []string{"/run/sysbox", "/var/lib/sysbox"}, Match: func(s string) bool { return strings.Contains(s, "sysbox") }}
	for _, script := range []string{`"$@"`, `exec setpriv --bounding-set -mknod --inh-caps -mknod "$@"`} {
		before, err := leak.Take(look)
		if err != nil {
			t.Fatal(err)
		}
		out, no := checkOn(t, script)
		if made := strings.Contains(out, "\nyes     a container: created"); made == no {
			t.Errorf("said no: %v:\n%s", no, out)
		}
		left, err := leak.Compare(before, look)
		if err != nil || len(left) > 0 {
			t.Errorf("left are %q, %v", left, err)
		}
		if left, _ := filepath.Glob("/var/lib/sysbox/*/*"); len(left) > 0 {
			t.Errorf("left are %q", left)
		}
	}
}
