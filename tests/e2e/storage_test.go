// SPDX-License-Identifier: Apache-2.0

package e2e

import (
	"archive/tar"
	"compress/gzip"
	"context"
	"errors"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	containerd "github.com/containerd/containerd/v2/client"
	"github.com/containerd/containerd/v2/pkg/oci"
	"github.com/containerd/containerd/v2/pkg/rootfs"
	"github.com/opencontainers/image-spec/identity"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"github.com/opencontainers/runtime-spec/specs-go"

	"sysbox/tests/harness"
	"sysbox/tests/images"
	"sysbox/tests/peers"
)

// TestStorageStays: what is in a folder that cannot live on overlayfs is there in
// the container's next task, for which it has other ids, also after kill -9 of the
// shim; a commit has it; and it goes with the container (the leak check).
func TestStorageStays(t *testing.T) {
	both(t, func(t *testing.T, h *host) {
		const script = "cat /proc/self/uid_map | tr -s ' '; cd /var/lib/docker; stat -c '%n %u:%g %F' * 2>/dev/null; echo f >f; chown 3:4 f; test -e w || mknod w c 0 0; echo; sleep 1000"
		var out output
		c := h.container(t, h.busybox, oci.WithProcessArgs("sh", "-c", script))
		life := func(end func(task containerd.Task, exit <-chan containerd.ExitStatus, shim int)) (ids, files string) {
			t.Helper()
			out.reset()
			others := h.Shims()
			task, exit := h.task(t, c, out.creator())
			for deadline := time.Now().Add(20 * time.Second * patience()); !strings.Contains(out.String(), "\n\n") && time.Now().Before(deadline); {
				time.Sleep(10 * time.Millisecond)
			}
			own := slices.DeleteFunc(h.Shims(), func(pid int) bool { return slices.Contains(others, pid) })
			if len(own) != 1 {
				t.Fatalf("shims %v, want one", own)
			}
			end(task, exit, own[0])
			ids, files, _ = strings.Cut(out.String(), "\n")
			return ids, files
		}
		stop := func(task containerd.Task, exit <-chan containerd.ExitStatus, _ int) {
			t.Helper()
			kill(t, task, exit, 9)
			if _, err := task.Delete(background(t)); err != nil {
				t.Fatal(err)
			}
		}
		first, files := life(func(task containerd.Task, exit <-chan containerd.ExitStatus, shim int) {
			// The limit that docs/configuration.md tells.
			if _, err := h.tryDiff(h.leased(t), t, c); err == nil || !strings.Contains(err.Error(), "/w: no such file") {
				t.Errorf("a commit of the running container: %v", err)
			}
			stop(task, exit, shim)
		})
		if files != "\n" {
			t.Errorf("at first: %q", files)
		}
		const want = "f 3:4 regular file\nw 0:0 character special file\n\n"
		h.sleeper(t) // takes the ids
		second, files := life(func(task containerd.Task, _ <-chan containerd.ExitStatus, shim int) {
			if err := syscall.Kill(shim, syscall.SIGKILL); err != nil {
				t.Fatal(err)
			}
			gone(t, task.Pid())
			h.taskGone(t, c)
		})
		if files != want || second == first {
			t.Errorf("in the second task, after %q with the ids%s: %q with%s", want, first, files, second)
		}
		if _, files = life(stop); files != want {
			t.Errorf("after kill -9 of the shim: %q, want %q", files, want)
		}
		if names := h.committed(t, c); !strings.Contains(names, "var/lib/docker/f 3:4\n") {
			t.Errorf("the commit has\n%s", names)
		}
	})
}

// leased is a context in which containerd keeps what is made, until the test's end.
func (h *host) leased(t *testing.T) context.Context {
	t.Helper()
	ctx, release, err := h.Client.WithLease(background(t))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := release(background(t)); err != nil {
			t.Error(err)
		}
	})
	return ctx
}

// diff makes a layer of what a container has changed, as commits do.
func (h *host) diff(ctx context.Context, t *testing.T, c containerd.Container) ocispec.Descriptor {
	t.Helper()
	layer, err := h.tryDiff(ctx, t, c)
	if err != nil {
		t.Fatal(err)
	}
	return layer
}

func (h *host) tryDiff(ctx context.Context, t *testing.T, c containerd.Container) (ocispec.Descriptor, error) {
	t.Helper()
	info, err := c.Info(ctx)
	if err != nil {
		t.Fatal(err)
	}
	return rootfs.CreateDiff(ctx, info.SnapshotKey, h.Client.SnapshotService(info.Snapshotter), h.Client.DiffService())
}

// committed lists what is in the layer that a commit of a container makes.
func (h *host) committed(t *testing.T, c containerd.Container) string {
	t.Helper()
	ctx := h.leased(t)
	r, err := h.Client.ContentStore().ReaderAt(ctx, h.diff(ctx, t, c))
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	z, err := gzip.NewReader(io.NewSectionReader(r, 0, r.Size()))
	if err != nil {
		t.Fatal(err)
	}
	var names strings.Builder
	for tr := tar.NewReader(z); ; {
		e, err := tr.Next()
		if errors.Is(err, io.EOF) {
			return names.String()
		}
		if err != nil {
			t.Fatal(err)
		}
		names.WriteString(strings.Join([]string{e.Name, " ", strconv.Itoa(e.Uid), ":", strconv.Itoa(e.Gid), "\n"}, ""))
	}
}

// TestInnerDockerStays: an inner Docker builds; in the container's next task, with
// other ids, what it built runs and is built upon, deleted files and replaced folders
// of its layers included; so it is in a container of an image that was made of the
// first one, and in one that gets the first one's volume.
func TestInnerDockerStays(t *testing.T) {
	h := on(t, peers.Newest)
	ctx := background(t)
	archive, err := images.Debian()
	if err != nil {
		t.Fatal(err)
	}
	image, err := h.Load(ctx, archive)
	if err != nil {
		t.Fatal(err)
	}
	run := func(task containerd.Task, script, want string) {
		t.Helper()
		if out, status := h.exec(t, task, nil, "sh", "-c", script); status != 0 || !strings.HasSuffix(out, want) {
			t.Errorf("%s: exit status %d, output %q, want %q at its end", script, status, out, want)
		}
	}
	first := func(task containerd.Task) {
		t.Helper()
		run(task, file("storage-first-life.sh"), "built\n")
	}
	next := func(task containerd.Task) {
		t.Helper()
		run(task, "docker run --rm one sh -c 'ls -A /d; test -e /gone || echo deleted'", "b\ndeleted\n")
		run(task, file("storage-next-life.sh"), "c\n")
	}
	life := func(c containerd.Container, use func(containerd.Task)) {
		t.Helper()
		task, exit := h.boot(t, c)
		use(task)
		kill(t, task, exit, 37) // SIGRTMIN+3
		if _, err := task.Delete(background(t)); err != nil {
			t.Fatal(err)
		}
	}
	c := h.container(t, image)
	life(c, first)
	h.sleeper(t) // takes the ids
	life(c, next)

	id := newID()
	h.commit(t, c, image, id)
	life(h.containerOn(t, id, containerd.WithSnapshot(id), image), next)

	volume := oci.WithMounts([]specs.Mount{{Destination: "/var/lib/docker", Type: "bind", Source: t.TempDir(), Options: []string{"rbind", "rw"}}})
	life(h.container(t, image, volume), first)
	h.sleeper(t)
	life(h.container(t, image, volume), next)
}

// commit makes a snapshot for a new container on the image that a commit of another
// container would make.
func (h *host) commit(t *testing.T, c containerd.Container, image containerd.Image, id string) {
	t.Helper()
	ctx := h.leased(t)
	info, err := c.Info(ctx)
	if err != nil {
		t.Fatal(err)
	}
	layers, err := image.RootFS(ctx)
	if err != nil {
		t.Fatal(err)
	}
	s := h.Client.SnapshotService(info.Snapshotter)
	mounts, err := s.Prepare(ctx, id+"-layer", identity.ChainID(layers).String())
	if err == nil {
		_, err = h.Client.DiffService().Apply(ctx, h.diff(ctx, t, c), mounts)
	}
	if err == nil {
		err = s.Commit(ctx, id+"-image", id+"-layer")
	}
	if err == nil {
		_, err = s.Prepare(ctx, id, id+"-image")
	}
	if err != nil {
		t.Fatal(err)
	}
}

// taskGone waits until containerd has removed what a killed shim left: before, it
// answers that there is no such task, and takes no other.
func (h *host) taskGone(t *testing.T, c containerd.Container) {
	t.Helper()
	bundles := filepath.Join(h.Dir, "state/io.containerd.runtime.v2.task/"+harness.Namespace+"/"+c.ID())
	for deadline := time.Now().Add(20 * time.Second * patience()); time.Now().Before(deadline); time.Sleep(20 * time.Millisecond) {
		if task, err := c.Task(background(t), nil); err == nil {
			_, _ = task.Delete(background(t))
		}
		if _, err := os.Stat(bundles); errors.Is(err, os.ErrNotExist) {
			return
		}
	}
	t.Fatal("the task of the killed shim is there still")
}
