// SPDX-License-Identifier: Apache-2.0

package e2e

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	containerd "github.com/containerd/containerd/v2/client"
	"github.com/containerd/containerd/v2/pkg/cio"
	"github.com/containerd/containerd/v2/pkg/oci"
	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"sysbox/tests/harness"
	"sysbox/tests/images"
	"sysbox/tests/peers"
)

// Labels of the policy's, with two categories of their own, and some that it has not.
const (
	labelOfProcess = "system_u:system_r:container_t:s0:c1,c2"
	labelOfFiles   = "system_u:object_r:container_file_t:s0:c1,c2"
	otherLabel     = "system_u:system_r:container_t:s0:c3,c4"
	noType         = "system_u:system_r:sysbox_none_t:s0"
)

// TestSELinux: processes have the labels of the spec, and so has all that is mounted for
// the container; a label that the policy does not have is refused, and all are where the
// kernel has no SELinux.
func TestSELinux(t *testing.T) {
	h := on(t, peers.Newest)
	label := func(process, mount string) oci.SpecOpts {
		return edit(func(s *specs.Spec) { s.Process.SelinuxLabel, s.Linux.MountLabel = process, mount })
	}
	if _, err := os.Stat("/sys/fs/selinux/enforce"); err != nil {
		const off = "SELinux is not enabled on this host; enable it or remove the label"
		h.notCreated(t, fmt.Sprintf("process.selinuxLabel is %q: %s", labelOfProcess, off), label(labelOfProcess, ""))
		h.notCreated(t, fmt.Sprintf("linux.mountLabel is %q: %s", labelOfFiles, off), label("", labelOfFiles))
		if line, _ := os.ReadFile("/proc/cmdline"); slices.Contains(strings.Fields(string(line)), "security=selinux") {
			t.Fatal("the kernel was told to have SELinux, and has it not")
		}
		t.Skip("this kernel has no SELinux, which a machine of -lsm selinux has (tests/vm)")
	}
	for _, c := range []struct {
		name string
		// places beside those that all containers have
		places []string
		opts   []oci.SpecOpts
	}{
		{"a system container", []string{"/var/lib/docker", "/var/lib/docker/made"}, nil},
		{"an ordinary container", nil, []oci.SpecOpts{edit(ordinary)}},
	} {
		t.Run(c.name, func(t *testing.T) {
			opts := append([]oci.SpecOpts{
				label(labelOfProcess, labelOfFiles),
				oci.WithProcessArgs("sh", "-c", "touch /run/made /dev/shm/made; test ! -d /var/lib/docker || touch /var/lib/docker/made; touch /made; sleep 1000"),
			}, c.opts...)
			task, _ := h.sleeper(t, opts...)
			h.until(t, task, "test -e /made")
			if got := attr(t, fmt.Sprintf("/proc/%d/attr/current", task.Pid())); got != labelOfProcess {
				t.Errorf("init's label is %q", got)
			}
			for _, x := range []struct{ give, want string }{{"", labelOfProcess}, {otherLabel, otherLabel}} {
				out, status := h.exec(t, task, func(p *specs.Process) { p.SelinuxLabel = x.give }, "cat", "/proc/self/attr/current")
				if got := strings.TrimRight(out, "\x00\n"); status != 0 || got != x.want {
					t.Errorf("an exec's label is %q (exit status %d), want %q", got, status, x.want)
				}
			}
			for _, place := range append(c.places, "/", "/made", "/bin/busybox", "/dev", "/dev/null", "/dev/pts", "/dev/shm", "/dev/shm/made", "/dev/mqueue", "/run", "/run/made", "/sys/firmware") {
				b := make([]byte, 256)
				n, err := unix.Lgetxattr(fmt.Sprintf("/proc/%d/root%s", task.Pid(), place), "security.selinux", b)
				if got := strings.TrimRight(string(b[:max(n, 0)]), "\x00"); err != nil || got != labelOfFiles {
					t.Errorf("%s has the label %q (%v)", place, got, err)
				}
			}
			out, status := h.exec(t, task, func(p *specs.Process) { p.SelinuxLabel = noType }, "true")
			if want := notOfPolicy("process.selinuxLabel", noType); status == 0 || !strings.Contains(out, want) {
				t.Errorf("an exec with a label that is none: exit status %d, %q, want %q", status, out, want)
			}
		})
	}
	t.Run("systemd boots", func(t *testing.T) {
		task, _ := h.booted(t, images.Debian, label(labelOfProcess, labelOfFiles))
		out, status := h.exec(t, task, nil, "systemd-run", "--wait", "-q", "--pipe", "cat", "/proc/self/attr/current")
		if got := strings.TrimRight(out, "\x00\n"); status != 0 || got != labelOfProcess {
			t.Errorf("a unit's label is %q (exit status %d), want %q", got, status, labelOfProcess)
		}
	})
	if harness.Machine() { // all of which is confined meanwhile
		t.Run("it confines", func(t *testing.T) { h.confines(t, label(labelOfProcess, labelOfFiles)) })
	}
	h.notCreated(t, notOfPolicy("process.selinuxLabel", noType), label(noType, ""))
	h.notCreated(t, notOfPolicy("linux.mountLabel", noType), label(labelOfProcess, noType))
}

// confines shows that a container can read what has its categories, and not what has others.
func (h *host) confines(t *testing.T, labelled oci.SpecOpts) {
	dir := t.TempDir()
	for name, label := range map[string]string{"": labelOfFiles, "own": labelOfFiles, "other": "system_u:object_r:container_file_t:s0:c3,c4"} {
		name = filepath.Join(dir, name)
		if name != dir {
			if err := os.WriteFile(name, []byte(filepath.Base(name)+"\n"), 0o644); err != nil {
				t.Fatal(err)
			}
		}
		if err := unix.Setxattr(name, "security.selinux", append([]byte(label), 0), 0); err != nil {
			t.Fatal(err)
		}
	}
	task, _ := h.sleeper(t, labelled, edit(func(s *specs.Spec) {
		s.Mounts = append(s.Mounts, specs.Mount{Destination: "/data", Type: "bind", Source: dir, Options: []string{"rbind", "ro"}})
	}), oci.WithProcessArgs("sh", "-c", "while ! test -e /data/go; do sleep 0.1; done; cat /data/own /data/other >/run/read 2>&1; touch /run/done; sleep 1000"))
	run := fmt.Sprintf("/proc/%d/root/run/", task.Pid())
	enforce := func(how string) {
		if err := os.WriteFile("/sys/fs/selinux/enforce", []byte(how), 0); err != nil {
			t.Error(err)
		}
	}
	enforce("1")
	defer enforce("0")
	if err := os.WriteFile(filepath.Join(dir, "go"), nil, 0o644); err != nil {
		t.Fatal(err)
	}
	for end := time.Now().Add(time.Minute * patience()); ; time.Sleep(100 * time.Millisecond) {
		if _, err := os.Stat(run + "done"); err == nil {
			break
		}
		if time.Now().After(end) {
			t.Fatal("the container's process does not come to its end")
		}
	}
	got, err := os.ReadFile(run + "read")
	if want := "own\ncat: can't open '/data/other': Permission denied\n"; err != nil || string(got) != want {
		t.Errorf("it reads %q (%v), want %q", got, err, want)
	}
}

func notOfPolicy(field, label string) string {
	return fmt.Sprintf("%s is %q: the SELinux policy of this host does not have it; use a user, role, type and level of the policy, or load one that has them", field, label)
}

// attr is a file of /proc/PID/attr, of which SELinux ends some with a NUL byte.
func attr(t *testing.T, name string) string {
	t.Helper()
	b, err := os.ReadFile(name)
	if err != nil {
		t.Error(err)
	}
	return strings.TrimRight(string(b), "\x00\n")
}

// notCreated tries a container of which Create is to answer with that sentence alone.
func (h *host) notCreated(t *testing.T, want string, opts ...oci.SpecOpts) {
	t.Helper()
	c := h.container(t, h.busybox, opts...)
	task, err := c.NewTask(background(t), cio.NullIO)
	if err == nil {
		_, _ = task.Delete(background(t), containerd.WithProcessKill)
		t.Errorf("it was made; want %q", want)
		return
	}
	if !strings.HasPrefix(err.Error(), want) && !strings.Contains(err.Error(), ": "+want) {
		t.Errorf("error %q, want %q", err, want)
	}
}

// until waits for a script in a container to succeed.
func (h *host) until(t *testing.T, task containerd.Task, script string) {
	t.Helper()
	if out, status := h.exec(t, task, nil, "sh", "-c", "while ! { "+script+"; }; do sleep 0.1; done"); status != 0 {
		t.Fatalf("%s: exit status %d, %q", script, status, out)
	}
}
