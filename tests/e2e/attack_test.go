// SPDX-License-Identifier: Apache-2.0

package e2e

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/containerd/containerd/api/services/tasks/v1"
	"github.com/containerd/containerd/api/types"
	containerd "github.com/containerd/containerd/v2/client"
	"github.com/containerd/containerd/v2/core/containers"
	"github.com/containerd/containerd/v2/core/mount"
	"github.com/containerd/containerd/v2/pkg/cio"
	"github.com/containerd/containerd/v2/pkg/oci"
	"github.com/containerd/typeurl/v2"
	"github.com/opencontainers/runtime-spec/specs-go"
	"google.golang.org/protobuf/types/known/anypb"

	"sysbox/tests/peers"
)

// bind is a bind mount of a folder of the host's.
func bind(source, target string, options ...string) oci.SpecOpts {
	return oci.WithMounts([]specs.Mount{{Source: source, Destination: target, Type: "bind", Options: append(options, "rbind")}})
}

// dialer connects to a socket and tells how it was received.
const dialer = "tests/e2e/testdata/dial/dial.go"

// TestShimSocket: the shim's socket is not to be seen from a container, and
// where its folder was given to one, root there is turned away.
func TestShimSocket(t *testing.T) {
	if why := skipped(); why != "" {
		t.Skip(why)
	}
	dir, err := peers.Program(dialer)
	if err != nil {
		t.Fatal(err)
	}
	both(t, func(t *testing.T, h *host) {
		h.sleeper(t)
		sockets, err := filepath.Glob("/run/containerd/s/*")
		if err != nil || len(sockets) != 1 {
			t.Fatalf("shims' sockets %v, %v; want one", sockets, err)
		}
		// Else a dial that fails would say nothing.
		if out, err := exec.CommandContext(t.Context(), filepath.Join(dir, "dial"), sockets[0]).CombinedOutput(); err != nil {
			t.Fatalf("the host's root was not let in: %v: %s", err, out)
		}
		for _, c := range []struct {
			name string
			opt  oci.SpecOpts
			want uint32
		}{
			{"nothing shared", bind(dir, "/dial", "ro"), 1},
			{"its folder shared", oci.Compose(bind(dir, "/dial", "ro"), bind("/run/containerd/s", "/run/containerd/s")), 2},
		} {
			out, status := h.run(t, "/dial/dial "+sockets[0], c.opt)
			if status != c.want {
				t.Errorf("%s: outcome %d, want %d: %s", c.name, status, c.want, out)
			}
		}
		if out, _ := h.run(t, "cat /proc/net/unix"); strings.Contains(out, "containerd") || strings.Contains(out, "@") {
			t.Errorf("sockets in the container's network: %s", out)
		}
	})
}

// TestFilesAreApart: where a volume shows files by the host's ids, another
// container's root has no rights to them.
func TestFilesAreApart(t *testing.T) {
	both(t, func(t *testing.T, h *host) {
		shared := t.TempDir()
		if err := os.Chmod(shared, 0o777|os.ModeSticky); err != nil {
			t.Fatal(err)
		}
		unshifted := oci.Compose(oci.WithAnnotations(map[string]string{"io.sysbox.skip-uid-shift": "/shared"}), bind(shared, "/shared"))
		a, _ := h.sleeper(t, unshifted)
		b, _ := h.sleeper(t, unshifted)
		if out, status := h.exec(t, a, nil, "sh", "-c", "umask 077; echo secret >/shared/file; stat -c %u /shared/file"); out != "0\n" || status != 0 {
			t.Fatalf("exit status %d, output %q", status, out)
		}
		out, _ := h.exec(t, b, nil, "sh", "-c", "exec 2>/dev/null; stat -c %u /shared/file; cat /shared/file || echo x >/shared/file || chown 0 /shared/file || rm -f /shared/file || echo safe")
		if out != "65534\nsafe\n" {
			t.Errorf("the other container: %q", out)
		}
		if out, _ := h.exec(t, a, nil, "cat", "/shared/file"); out != "secret\n" {
			t.Errorf("its own file: %q", out)
		}
	})
}

// raw replaces numbers of a spec, which Go's types could not even hold.
func raw(t *testing.T, spec any, user map[string]any) *anypb.Any {
	t.Helper()
	b, err := json.Marshal(spec)
	if err != nil {
		t.Fatal(err)
	}
	var s map[string]any
	if err := json.Unmarshal(b, &s); err != nil {
		t.Fatal(err)
	}
	p, ok := s["process"].(map[string]any)
	if !ok {
		p = s
	}
	p["user"] = user
	if b, err = json.Marshal(s); err != nil {
		t.Fatal(err)
	}
	kind, err := typeurl.TypeURL(spec)
	if err != nil {
		t.Fatal(err)
	}
	return &anypb.Any{TypeUrl: kind, Value: b}
}

// TestNumbersOfUsers: an id that is not one, or that the container does not
// have, never becomes another.
func TestNumbersOfUsers(t *testing.T) {
	both(t, func(t *testing.T, h *host) {
		ctx := background(t)
		task, _ := h.sleeper(t)
		for _, c := range []struct {
			user map[string]any
			want string
		}{
			{map[string]any{"uid": 1 << 32, "gid": 0}, "uid"},
			{map[string]any{"uid": 0, "gid": 1 << 32}, "gid"},
			{map[string]any{"uid": -1, "gid": 0}, "uid"},
			{map[string]any{"uid": 1<<32 - 1, "gid": 0}, "uid"},
			{map[string]any{"uid": 1 << 31, "gid": 0}, "uid"},
			{map[string]any{"uid": 0, "gid": 0, "additionalGids": []any{1 << 31}}, "additionalGids"},
		} {
			ctr := h.container(t, h.busybox, oci.WithProcessArgs("id", "-u"))
			spec, err := ctr.Spec(ctx)
			if err != nil {
				t.Fatal(err)
			}
			changed := raw(t, spec, c.user)
			if err := ctr.Update(ctx, func(_ context.Context, _ *containerd.Client, r *containers.Container) error {
				r.Spec = changed
				return nil
			}); err != nil {
				t.Fatal(err)
			}
			// Past the client, which would not send it.
			rootfs, err := h.Client.SnapshotService("overlayfs").Mounts(ctx, ctr.ID())
			if err != nil {
				t.Fatal(err)
			}
			_, err = h.Client.TaskService().Create(ctx, &tasks.CreateTaskRequest{ContainerID: ctr.ID(), Rootfs: mounts(rootfs)})
			if err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("create for %v: %v", c.user, err)
			}

			id := fmt.Sprintf("x%d", count.Add(1))
			process := raw(t, &specs.Process{Args: []string{"id", "-u"}, Cwd: "/"}, c.user)
			_, err = h.Client.TaskService().Exec(ctx, &tasks.ExecProcessRequest{ContainerID: task.ID(), ExecID: id, Spec: process})
			if err == nil {
				_, err = h.Client.TaskService().Start(ctx, &tasks.StartRequest{ContainerID: task.ID(), ExecID: id})
				_, _ = h.Client.TaskService().DeleteProcess(ctx, &tasks.DeleteProcessRequest{ContainerID: task.ID(), ExecID: id})
			}
			if err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("exec for %v: %v", c.user, err)
			}
		}
	})
}

func mounts(list []mount.Mount) []*types.Mount {
	var out []*types.Mount
	for _, m := range list {
		out = append(out, &types.Mount{Type: m.Type, Source: m.Source, Target: m.Target, Options: m.Options})
	}
	return out
}

// TestPod: the containers of a pod share a shim, ids and namespaces by path,
// as CRI makes them; one's end is not the others'.
func TestPod(t *testing.T) {
	both(t, func(t *testing.T, h *host) {
		annotated := func(kind, sandbox string) oci.SpecOpts {
			return oci.WithAnnotations(map[string]string{"io.kubernetes.cri.container-type": kind, "io.kubernetes.cri.sandbox-id": sandbox})
		}
		pod := fmt.Sprintf("pod%s-%d", session, count.Add(1))
		pause, _ := h.sleeper(t, annotated("sandbox", pod))
		ns := func(kind specs.LinuxNamespaceType, name string) oci.SpecOpts {
			return oci.WithLinuxNamespace(specs.LinuxNamespace{Type: kind, Path: fmt.Sprintf("/proc/%d/ns/%s", pause.Pid(), name)})
		}
		join := oci.Compose(annotated("container", pod), ns(specs.NetworkNamespace, "net"), ns(specs.IPCNamespace, "ipc"), ns(specs.UTSNamespace, "uts"))
		a, exit := h.sleeper(t, join)
		b, _ := h.sleeper(t, join)
		if shims := h.Shims(); len(shims) != 1 {
			t.Errorf("shims %v, want one", shims)
		}
		for _, name := range []string{"uid_map", "ns/net", "ns/ipc", "ns/user"} {
			if x, y := look(t, a.Pid(), name), look(t, b.Pid(), name); x != y || x != look(t, pause.Pid(), name) {
				t.Errorf("%s: %q and %q", name, x, y)
			}
		}
		if look(t, a.Pid(), "ns/pid") == look(t, b.Pid(), "ns/pid") {
			t.Error("the pid namespace is shared, which nobody asked for")
		}
		kill(t, a, exit, 9)
		if out, status := h.exec(t, b, nil, "echo", "alive"); out != "alive\n" || status != 0 {
			t.Errorf("the other container: exit status %d, output %q", status, out)
		}
		c := h.container(t, h.busybox, oci.WithProcessArgs("true"), join)
		_, exit = h.task(t, c, cio.NullIO)
		if status := wait(t, exit); status != 0 {
			t.Errorf("a container that came later: exit status %d", status)
		}
	})
}

// look returns what a link or file of a process says.
func look(t *testing.T, pid uint32, name string) string {
	t.Helper()
	path := fmt.Sprintf("/proc/%d/%s", pid, name)
	if s, err := os.Readlink(path); err == nil {
		return s
	}
	b, err := os.ReadFile(path)
	if err != nil {
		t.Error(err)
	}
	return string(b)
}
