// SPDX-License-Identifier: Apache-2.0

package runtime_test

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"

	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"sysbox/runtime"
	"sysbox/tests/testcontainer"
	"sysbox/uidmap"
)

// TestCreateTogether: containers of a new pod that are made at once, of which some cannot be
// made, have one user namespace, and leave nothing. One id is one container's.
func TestCreateTogether(t *testing.T) {
	t.Parallel()
	for range 5 {
		p := testcontainer.NewPod(t)
		var bundles []string
		for i := range 8 {
			bundles = append(bundles, testcontainer.Busybox(t, func(s *specs.Spec) {
				if i%2 == 1 {
					s.Mounts = append(s.Mounts, specs.Mount{Destination: "/x", Type: "bind", Source: "/no-such", Options: []string{"bind"}})
				}
			}, "sleep", "1000"))
		}
		var wg sync.WaitGroup
		var mu sync.Mutex
		var made []*runtime.Container
		refused := 0
		for i := range 8 {
			wg.Go(func() {
				id := fmt.Sprintf("broken%d", i)
				if i%2 == 0 {
					id = fmt.Sprintf("c%d", i/4) // each twice
				}
				c, err := p.Create(t.Context(), runtime.CreateRequest{ID: id, Bundle: bundles[i]})
				mu.Lock()
				defer mu.Unlock()
				switch {
				case err == nil:
					made = append(made, c)
				case i%2 == 0 && errors.Is(err, os.ErrExist):
					refused++
				case i%2 == 0 || !strings.Contains(err.Error(), "/no-such"):
					t.Errorf("container %d: %v", i, err)
				}
			})
		}
		wg.Wait()
		if len(made) != 2 || refused != 2 {
			t.Fatalf("%d were made and %d refused; want two of each", len(made), refused)
		}
		var shared []string
		for _, c := range made {
			ns, err := os.Readlink(fmt.Sprintf("/proc/%d/ns/user", c.Init().Pid()))
			if err != nil {
				t.Error(err)
			}
			shared = append(shared, ns)
		}
		if shared[0] != shared[1] {
			t.Errorf("two user namespaces, %v", shared)
		}
		for _, c := range made {
			wg.Go(func() {
				if err := c.Delete(t.Context()); err != nil {
					t.Error(err)
				}
			})
		}
		wg.Wait()
		for _, b := range bundles {
			nothingLeft(t, p, b)
		}
	}
}

// TestPodShares: the containers of a pod have one user namespace and one
// range; namespaces of the first can be joined by the second; the range goes
// back with the last.
func TestPodShares(t *testing.T) {
	t.Parallel()
	p := testcontainer.NewPod(t)
	first := testcontainer.Create(t, p, runtime.CreateRequest{ID: "first", Bundle: testcontainer.Busybox(t, nil, "sleep", "1000")})
	if err := first.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	w, text := testcontainer.Pipe(t)
	bundle := testcontainer.Busybox(t, func(s *specs.Spec) {
		for i, n := range s.Linux.Namespaces {
			if n.Type == "network" || n.Type == "ipc" || n.Type == "uts" {
				s.Linux.Namespaces[i].Path = fmt.Sprintf("/proc/%d/ns/%s", first.Init().Pid(), map[specs.LinuxNamespaceType]string{"network": "net", "ipc": "ipc", "uts": "uts"}[n.Type])
			}
		}
		s.Hostname = ""
	}, "sh", "-c", "for n in user net ipc uts pid mnt; do readlink /proc/self/ns/$n; done; hostname")
	second := testcontainer.Create(t, p, runtime.CreateRequest{ID: "second", Bundle: bundle, Stdio: runtime.Stdio{Stdout: w, Stderr: w}})
	if err := second.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	if got := testcontainer.Wait(t, second.Init()).Status; got != 0 {
		t.Fatalf("exit status %d: %s", got, text())
	}
	lines := strings.Fields(text())
	for i, name := range []string{"user", "net", "ipc", "uts", "pid", "mnt"} {
		theirs, err := os.Readlink(fmt.Sprintf("/proc/%d/ns/%s", first.Init().Pid(), name))
		if err != nil {
			t.Fatal(err)
		}
		if shared := lines[i] == theirs; shared != (i < 4) {
			t.Errorf("%s namespace shared: %v", name, shared)
		}
	}
	if lines[6] != "box" {
		t.Errorf("host name %q", lines[6])
	}
	ids := func() int {
		n := testcontainer.Ranges(t, p)
		return len(n)
	}
	for i, c := range []*testcontainer.Container{second, first} {
		if ids() != 1 {
			t.Errorf("before the delete of container %d: %d ranges recorded, want 1", i, ids())
		}
		if err := c.Delete(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	if ids() != 0 {
		t.Error("the range was not returned with the last container")
	}
}

// TestPodsAreApart: two pods have ids of their own, and the root of one cannot
// read a file of the other's even where both see it.
func TestPodsAreApart(t *testing.T) {
	t.Parallel()
	shared := t.TempDir()
	if err := os.Chmod(shared, 0o777); err != nil {
		t.Fatal(err)
	}
	skip := func(s *specs.Spec) {
		s.Annotations = map[string]string{"io.sysbox.skip-uid-shift": "/shared"}
		s.Mounts = append(s.Mounts, specs.Mount{Destination: "/shared", Type: "bind", Source: shared, Options: []string{"rbind"}})
	}
	a := testcontainer.NewPod(t)
	b := a.Beside("b")
	c := testcontainer.Create(t, a, runtime.CreateRequest{ID: "a", Bundle: testcontainer.Busybox(t, skip, "sh", "-c", "umask 077; echo secret >/shared/file")})
	if err := c.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	if got := testcontainer.Wait(t, c.Init()).Status; got != 0 {
		t.Fatalf("the writer ended with status %d", got)
	}
	w, text := testcontainer.Pipe(t)
	d := testcontainer.Create(t, b, runtime.CreateRequest{ID: "b", Bundle: testcontainer.Busybox(t, skip, "sh", "-c", "stat -c %u /shared/file; cat /shared/file; chown 0 /shared/file"), Stdio: runtime.Stdio{Stdout: w, Stderr: w}})
	if err := d.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	status := testcontainer.Wait(t, d.Init()).Status
	if out := text(); status == 0 || strings.Contains(out, "secret") || !strings.HasPrefix(out, "65534\n") {
		t.Errorf("exit status %d, output %q", status, out)
	}
	var st unix.Stat_t
	if err := unix.Stat(filepath.Join(shared, "file"), &st); err != nil {
		t.Fatal(err)
	}
	if uid := c.RootUID; st.Uid != uid || c.RootUID == d.RootUID {
		t.Errorf("the file belongs to %d on the host, the writer's root is %d, the reader's %d", st.Uid, uid, d.RootUID)
	}
}

// TestJoinUserNamespace: a caller that made the user and the network namespace
// itself and prepared the files (CRI with hostUsers: false) has its own used.
func TestJoinUserNamespace(t *testing.T) {
	t.Parallel()
	p := testcontainer.NewPod(t)
	m := uidmap.Map{{ContainerID: 0, HostID: 0x7a000000, Size: 65536}}
	sysMap := []syscall.SysProcIDMap{{ContainerID: 0, HostID: 0x7a000000, Size: 65536}}
	holder := exec.Command("/bin/sleep", "1000")
	holder.SysProcAttr = &syscall.SysProcAttr{
		Cloneflags: syscall.CLONE_NEWUSER | syscall.CLONE_NEWNET, UidMappings: sysMap, GidMappings: sysMap,
	}
	if err := holder.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() {
		_ = holder.Process.Kill()
		_ = holder.Wait()
	}()
	volume := t.TempDir()
	if err := os.WriteFile(filepath.Join(volume, "file"), []byte("x"), 0o600); err != nil {
		t.Fatal(err)
	}
	w, text := testcontainer.Pipe(t)
	bundle := testcontainer.Busybox(t, func(s *specs.Spec) {
		ids := []specs.LinuxIDMapping{{ContainerID: 0, HostID: 0x7a000000, Size: 65536}}
		s.Linux.UIDMappings, s.Linux.GIDMappings = ids, ids
		s.Linux.Namespaces = append(s.Linux.Namespaces, specs.LinuxNamespace{Type: "user", Path: fmt.Sprintf("/proc/%d/ns/user", holder.Process.Pid)})
		for i, n := range s.Linux.Namespaces {
			if n.Type == "network" {
				s.Linux.Namespaces[i].Path = fmt.Sprintf("/proc/%d/ns/net", holder.Process.Pid)
			}
		}
		s.Mounts = append(s.Mounts, specs.Mount{Destination: "/vol", Type: "bind", Source: volume, Options: []string{"rbind"}, UIDMappings: ids, GIDMappings: ids})
	}, "sh", "-c", "id -u; stat -c %u /bin/busybox /vol/file; readlink /proc/self/ns/user; readlink /proc/self/ns/net")
	if err := uidmap.Shift(t.TempDir(), filepath.Join(bundle, "rootfs"), m, m); err != nil {
		t.Fatal(err)
	}
	c := testcontainer.Create(t, p, runtime.CreateRequest{ID: "c1", Bundle: bundle, Stdio: runtime.Stdio{Stdout: w, Stderr: w}})
	if err := c.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	status := testcontainer.Wait(t, c.Init()).Status
	want := "0\n0\n0\n"
	for _, ns := range []string{"user", "net"} {
		link, err := os.Readlink(fmt.Sprintf("/proc/%d/ns/%s", holder.Process.Pid, ns))
		if err != nil {
			t.Fatal(err)
		}
		want += link + "\n"
	}
	if out := text(); out != want || status != 0 {
		t.Errorf("exit status %d, output %q, want %q", status, out, want)
	}
	if left := testcontainer.Ranges(t, p); len(left) > 0 {
		t.Errorf("a range of ours was taken: %v", left)
	}
}

// TestCgroupNamespaceByPath: a container can have another's of its pod, and so have its
// execs.
func TestCgroupNamespaceByPath(t *testing.T) {
	t.Parallel()
	p := testcontainer.NewPod(t)
	first := testcontainer.Create(t, p, runtime.CreateRequest{ID: "c1", Bundle: testcontainer.Busybox(t, nil, "sleep", "1000")})
	path := fmt.Sprintf("/proc/%d/ns/cgroup", first.Init().Pid())
	second := testcontainer.Create(t, p, runtime.CreateRequest{ID: "c2", Bundle: testcontainer.Busybox(t, func(s *specs.Spec) {
		s.Linux.Namespaces = append(s.Linux.Namespaces, specs.LinuxNamespace{Type: specs.CgroupNamespace, Path: path})
	}, "sleep", "1000")})
	if err := second.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	want, err := os.Readlink(path)
	if err != nil {
		t.Fatal(err)
	}
	if got := second.Script(t, "readlink /proc/1/ns/cgroup; readlink /proc/self/ns/cgroup"); got != want+"\n"+want+"\n" {
		t.Errorf("init and an exec are in %q, want %s", got, want)
	}
	link := t.TempDir() + "/cgroup"
	if err := os.Symlink("/proc/self/ns/cgroup", link); err != nil {
		t.Fatal(err)
	}
	_, err = p.Create(t.Context(), runtime.CreateRequest{ID: "c3", Bundle: testcontainer.Busybox(t, func(s *specs.Spec) {
		s.Linux.Namespaces = append(s.Linux.Namespaces, specs.LinuxNamespace{Type: specs.CgroupNamespace, Path: link})
	}, "true")})
	if err == nil || !strings.Contains(err.Error(), "the host's own cgroup namespace") {
		t.Errorf("the host's: %v", err)
	}
}

// TestJoinedMaps: files are given out by the mappings of the spec, so those of a user
// namespace that the caller has made must be the same, and not have the host's root.
func TestJoinedMaps(t *testing.T) {
	t.Parallel()
	p := testcontainer.NewPod(t)
	const base = 0x7a000000
	for _, c := range []struct {
		name, want  string
		hosts, spec uint32 // host ids of root; 0 in spec: no mappings
		allow       bool
		pinned      bool // elsewhere than in /proc, as CRI does, where the mappings are seen late
	}{
		{"others", "give the same", base, base + 65536, false, false},
		{"others, pinned", "give the same", base, base + 65536, false, true},
		{"the host's root", "ids.allow_host_root", 0, 0, false, false},
		{"the host's root behind other mappings", "ids.allow_host_root", 0, base, false, false},
		{"the host's root behind other mappings, pinned", "ids.allow_host_root", 0, base, false, true},
		{"the host's root behind other mappings, allowed", "give the same", 0, base, true, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			p.Config.IDs.AllowHostRoot = c.allow
			m := []syscall.SysProcIDMap{{ContainerID: 0, HostID: int(c.hosts), Size: 65536}}
			holder := exec.Command("/bin/sleep", "1000")
			holder.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWUSER, UidMappings: m, GidMappings: m}
			if err := holder.Start(); err != nil {
				t.Fatal(err)
			}
			defer func() {
				_ = holder.Process.Kill()
				_ = holder.Wait()
			}()
			path := fmt.Sprintf("/proc/%d/ns/user", holder.Process.Pid)
			if c.pinned {
				pin := filepath.Join(t.TempDir(), "user")
				if err := os.WriteFile(pin, nil, 0o600); err != nil {
					t.Fatal(err)
				}
				if err := unix.Mount(path, pin, "", unix.MS_BIND, ""); err != nil {
					t.Fatal(err)
				}
				defer func() { _ = unix.Unmount(pin, unix.MNT_DETACH) }()
				path = pin
			}
			bundle := testcontainer.Busybox(t, func(s *specs.Spec) {
				// A system container's cgroup would be given to the wrong ids.
				s.Process.Env = append(s.Process.Env, "SYSBOX_SYSCONT_MODE=FALSE")
				if c.spec != 0 {
					s.Linux.UIDMappings = []specs.LinuxIDMapping{{HostID: c.spec, Size: 65536}}
					s.Linux.GIDMappings = s.Linux.UIDMappings
				}
				s.Linux.Namespaces = append(s.Linux.Namespaces, specs.LinuxNamespace{Type: "user", Path: path})
			}, "true")
			c1, err := p.Create(t.Context(), runtime.CreateRequest{ID: "c1", Bundle: bundle})
			if err == nil {
				_ = c1.Delete(t.Context())
			}
			if err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("the answer is %v, and does not say %q", err, c.want)
			}
		})
	}
}

// TestStateDirsAreApart: configurations with state directories of their own do not give the
// same ids to two pods, though these have the same name.
func TestStateDirsAreApart(t *testing.T) {
	t.Parallel()
	var ids []uint32
	for range 2 {
		c := testcontainer.Create(t, testcontainer.NewPod(t), runtime.CreateRequest{ID: "c1", Bundle: testcontainer.Busybox(t, nil, "sleep", "1000")})
		ids = append(ids, c.RootUID)
	}
	if ids[0] == ids[1] {
		t.Errorf("both pods have the ids from %d on", ids[0])
	}
}

// TestTooOld: a Create that fails where no container can start says that, in one line.
func TestTooOld(t *testing.T) {
	t.Parallel()
	bundle := testcontainer.Busybox(t, func(s *specs.Spec) {
		s.Mounts = append(s.Mounts, specs.Mount{Destination: "/x", Type: "bind", Source: "/no-such", Options: []string{"bind"}})
	}, "true")
	p := testcontainer.NewPod(t)
	p.Config.Testing.Startable = func() error { return errors.New("use Linux 5.12 or newer") }
	if _, err := p.Create(t.Context(), runtime.CreateRequest{ID: "c1", Bundle: bundle}); err == nil || err.Error() != "use Linux 5.12 or newer" {
		t.Errorf("on a kernel that is too old: %v", err)
	}
	if _, err := testcontainer.NewPod(t).Create(t.Context(), runtime.CreateRequest{ID: "c1", Bundle: bundle}); err == nil || !strings.Contains(err.Error(), "/no-such") {
		t.Errorf("on this kernel: %v", err)
	}
}
