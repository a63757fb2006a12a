// SPDX-License-Identifier: Apache-2.0

package e2e

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	containerd "github.com/containerd/containerd/v2/client"
	"github.com/containerd/containerd/v2/pkg/cio"
	"github.com/containerd/containerd/v2/pkg/oci"
	"github.com/opencontainers/runtime-spec/specs-go"

	"sysbox/runtime/whiteout"
	"sysbox/tests/peers"
)

// TestCgroupsAreBounded: a container's root, with little memory, mounts every hierarchy of
// the host and makes cgroups until it is refused. It makes none in version 1, where the
// kernel has no limit on their number, and in version 2 its share, which is less where there
// are more containers; and has the kernel start no program when one is empty.
func TestCgroupsAreBounded(t *testing.T) {
	h := on(t, peers.Newest)
	const script = `mkdir /m
for c in $(cut -d: -f2 /proc/self/cgroup); do
  case $c in name=*) o=none,$c;; *) o=$c;; esac
  mount -t cgroup -o $o c /m || { echo "$c: not mounted"; continue; }
  n=0; while [ $n -lt 20 ] && (cd /m && mkdir $(seq $((n*1000)) $((n*1000+999)))) 2>/dev/null; do n=$((n+1)); done
  echo 1 2>/dev/null >/m/notify_on_release && echo "$c: notify_on_release"
  echo "$c: $(find /m -mindepth 1 -type d | wc -l)"
  umount /m
done
cd /sys/fs/cgroup
n=0; while [ $n -lt 20 ] && mkdir $(seq $((n*1000)) $((n*1000+999))) 2>/dev/null; do n=$((n+1)); done
echo "v2: $(find . -mindepth 1 -type d | wc -l) $(cat cgroup.max.descendants)"`
	memory := int64(64 << 20)
	out, status := h.run(t, script, edit(func(s *specs.Spec) { s.Linux.Resources.Memory = &specs.LinuxMemory{Limit: &memory} }))
	if status != 0 || !strings.Contains(out, "v2: ") {
		t.Fatalf("exit status %d, output %q", status, out)
	}
	for line := range strings.Lines(strings.TrimSpace(out)) {
		name, rest, _ := strings.Cut(strings.TrimSpace(line), ": ")
		if name != "v2" {
			if rest != "0" {
				t.Errorf("%s: %s, want 0", name, rest)
			}
			continue
		}
		var made, limit int
		if _, err := fmt.Sscan(rest, &made, &limit); err != nil || made != limit || limit > 2048 {
			t.Errorf("%s: made and limit are %s, %v; want the same, 2048 at the most", name, rest, err)
		}
	}
	before := 1 << 20
	for range 3 {
		task, _ := h.sleeper(t)
		out, _ := h.exec(t, task, nil, "cat", "/sys/fs/cgroup/cgroup.max.descendants")
		share, err := strconv.Atoi(strings.TrimSpace(out))
		if err != nil || share >= before {
			t.Errorf("a further container may have %q cgroups, the one before %d; want fewer", out, before)
		}
		before = share
	}
}

// TestListsAreBounded: a list of inner overlays' marks, by an earlier life of the container
// or of its image, makes up to its bound, and one inode for many. With more the container is
// not made, nothing is in its layer, and it can be removed.
func TestListsAreBounded(t *testing.T) {
	h := on(t, peers.Newest)
	life := func(t *testing.T, c containerd.Container) (string, error) {
		t.Helper()
		var out output
		task, err := c.NewTask(background(t), out.creator())
		if err != nil {
			return "", err
		}
		exit := started(t, task)
		if status := wait(t, exit); status != 0 {
			t.Errorf("exit status %d, output %q", status, out.String())
		}
		task.IO().Wait()
		if _, err := task.Delete(background(t)); err != nil {
			t.Fatal(err)
		}
		return out.String(), nil
	}
	for _, n := range []int{whiteout.Max, 1_000_000} {
		t.Run(fmt.Sprint(n), func(t *testing.T) {
			writer := fmt.Sprintf("N=%d; ", n) + file("bound-list.sh")
			c := h.container(t, h.busybox, oci.WithProcessArgs("sh", "-c", writer))
			if out, err := life(t, c); err != nil || out != "made\n" {
				t.Fatalf("%v, output %q", err, out)
			}
			id := newID()
			h.commit(t, c, h.busybox, id)
			image := h.containerOn(t, id, containerd.WithSnapshot(id), h.busybox, oci.WithProcessArgs("sh", "-c", "cd /var/lib/docker; find . -type c | wc -l"))
			for name, c := range map[string]containerd.Container{"an earlier life's": c, "the image's": image} {
				folder := filepath.Join(h.upper(t, c), "var/lib/docker")
				out, err := life(t, c)
				if n > whiteout.Max {
					if err == nil || !strings.Contains(err.Error(), "/var/lib/docker") || !strings.Contains(err.Error(), ".sysbox-overlays") {
						t.Errorf("%s: output %q, error %v", name, out, err)
					}
				} else if err != nil || out != fmt.Sprintln(n) {
					t.Errorf("%s: output %q, error %v", name, out, err)
				}
				// The list, and d.
				if entries, err := os.ReadDir(folder); err != nil || len(entries) != 2 {
					t.Errorf("%s: in the layer are %d files, %v; want 2", name, len(entries), err)
				}
			}
		})
	}
	if !strings.Contains(h.Log(), "is not ready for a commit") {
		t.Error("the log does not say that a folder could not be made ready for a commit")
	}
}

// upper is the upper layer of a container's root.
func (h *host) upper(t *testing.T, c containerd.Container) string {
	t.Helper()
	info, err := c.Info(background(t))
	if err != nil {
		t.Fatal(err)
	}
	list, err := h.Client.SnapshotService(info.Snapshotter).Mounts(background(t), info.SnapshotKey)
	if err != nil {
		t.Fatal(err)
	}
	for _, m := range list {
		for _, o := range m.Options {
			if dir, ok := strings.CutPrefix(o, "upperdir="); ok {
				return dir
			}
		}
	}
	t.Fatalf("no upper layer in %v", list)
	return ""
}

// imageWith makes a snapshot for a new container, of an image in which a script has been run.
func (h *host) imageWith(t *testing.T, script string) (id string) {
	t.Helper()
	c := h.container(t, h.busybox, oci.WithProcessArgs("sh", "-c", script))
	task, exit := h.task(t, c, cio.NullIO)
	if status := wait(t, exit); status != 0 {
		t.Fatalf("%s: exit status %d", script, status)
	}
	if _, err := task.Delete(background(t)); err != nil {
		t.Fatal(err)
	}
	id = newID()
	h.commit(t, c, h.busybox, id)
	return id
}

// copyUp is a tmpfs with what the image has in its place.
func copyUp(dir string) oci.SpecOpts {
	return oci.WithMounts([]specs.Mount{{Destination: dir, Type: "tmpfs", Source: "tmpfs", Options: []string{"tmpcopyup"}}})
}

// TestCopyCounts: what the image has in a tmpfs's place is copied into it on the account of
// the container: its limit of memory holds. A copy on the disk takes little memory.
func TestCopyCounts(t *testing.T) {
	h := on(t, peers.Newest)
	const script = "mkdir -p /big /var/lib/docker && dd if=/dev/zero of=/big/file bs=1M count=100 2>/dev/null && cp /big/file /var/lib/docker"
	for _, test := range []struct {
		dir   string
		limit int64
		opts  oci.SpecOpts
		ok    bool
	}{
		{"/big", 400 << 20, copyUp("/big"), true},
		{"/big", 50 << 20, copyUp("/big"), false},
		{"/var/lib/docker", 50 << 20, oci.Compose(), true},
	} {
		id := h.imageWith(t, script)
		c := h.containerOn(t, id, containerd.WithSnapshot(id), h.busybox, test.opts, oci.WithProcessArgs("sleep", "1000"), edit(func(s *specs.Spec) {
			s.Linux.Resources.Memory = &specs.LinuxMemory{Limit: &test.limit, Swap: &test.limit}
		}))
		task, err := c.NewTask(background(t), cio.NullIO)
		switch {
		case !test.ok && (err == nil || !strings.Contains(err.Error(), test.dir) || !strings.Contains(err.Error(), "limits of memory")):
			t.Errorf("%s with a limit of %d bytes: %v", test.dir, test.limit, err)
		case test.ok && err != nil:
			t.Errorf("%s with a limit of %d bytes: %v", test.dir, test.limit, err)
		case test.ok:
			started(t, task)
			if out, _ := h.exec(t, task, nil, "stat", "-c", "%s", test.dir+"/file"); out != "104857600\n" {
				t.Errorf("the copy in %s: %q", test.dir, out)
			}
		}
	}
}

// TestCopyGivenUp: while a Create copies what the image has, its caller gives up, or the shim
// is killed. The copying, which has the CPU time that the container has, ends, and nothing
// stays.
func TestCopyGivenUp(t *testing.T) {
	h := on(t, peers.Newest)
	for name, end := range map[string]func(giveUp func()){
		"the caller gives up": func(giveUp func()) { giveUp() },
		"the shim is killed": func(func()) {
			for _, pid := range h.Shims() {
				_ = syscall.Kill(pid, syscall.SIGKILL)
			}
		},
	} {
		t.Run(name, func(t *testing.T) {
			id := h.imageWith(t, "mkdir -p /data && cd /data && touch $(seq 30000)")
			quota, period := int64(1000), uint64(100000)
			c := h.containerOn(t, id, containerd.WithSnapshot(id), h.busybox, copyUp("/data"), oci.WithProcessArgs("true"), edit(func(s *specs.Spec) {
				s.Linux.Resources.CPU = &specs.LinuxCPU{Quota: &quota, Period: &period}
			}))
			ctx, giveUp := context.WithCancel(background(t))
			defer giveUp()
			failed := make(chan error, 1)
			go func() {
				_, err := c.NewTask(ctx, cio.NullIO)
				failed <- err
			}()
			for !copying() {
				select {
				case err := <-failed:
					t.Fatalf("the Create has ended: %v", err)
				case <-time.After(5 * time.Millisecond):
				}
			}
			end(giveUp)
			if err := <-failed; err == nil {
				t.Error("the Create succeeded")
			}
			for deadline := time.Now().Add(30 * time.Second * patience()); copying() || len(h.Shims()) > 0; time.Sleep(20 * time.Millisecond) {
				if time.Now().After(deadline) {
					t.Fatalf("something copies: %v, shims %v", copying(), h.Shims())
				}
			}
		})
	}
}

// copying tells whether a process of a shim copies what an image has.
func copying() bool {
	names, _ := filepath.Glob("/proc/[0-9]*/cmdline")
	for _, name := range names {
		if b, _ := os.ReadFile(name); strings.HasPrefix(string(b), "sysbox-fill\x00") {
			return true
		}
	}
	return false
}
