// SPDX-License-Identifier: Apache-2.0

package bootstrap

import (
	"errors"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	bootapi "github.com/containerd/containerd/api/runtime/bootstrap/v1"
	"github.com/containerd/containerd/api/types/runc/options"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/anypb"

	"sysbox/runtime/sys"
)

func marshal(t *testing.T, m proto.Message) []byte {
	t.Helper()
	b, err := proto.Marshal(m)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func anyOptions(t *testing.T, cgroup string) *anypb.Any {
	return &anypb.Any{TypeUrl: "containerd.runc.v1.Options", Value: marshal(t, &options.Options{ShimCgroup: cgroup})}
}

func TestParse(t *testing.T) {
	params := func(id string) *bootapi.BootstrapParams {
		dir := "/run/other"
		return &bootapi.BootstrapParams{
			InstanceID: id, Namespace: "ns", LogLevel: bootapi.LogLevel_LOG_LEVEL_TRACE,
			ContainerdTtrpcAddress: "/ttrpc", SocketDir: &dir,
			Extensions: []*bootapi.Extension{{Value: anyOptions(t, "/shims")}},
		}
	}
	for _, c := range []struct {
		name  string
		stdin []byte
		want  Request
	}{
		{"CRI-O: nothing", nil, Request{SocketDir: defaultSocketDir}},
		{"old: options", marshal(t, anyOptions(t, "/shims")), Request{SocketDir: defaultSocketDir, ShimCgroup: "/shims"}},
		{"old: other options", marshal(t, &anypb.Any{TypeUrl: "runtimeoptions.v1.Options", Value: []byte{1, 2}}), Request{SocketDir: defaultSocketDir}},
		{"new", marshal(t, params("box")), Request{SocketDir: "/run/other", ShimCgroup: "/shims", Modern: true, Debug: true, TTRPCAddress: "/ttrpc"}},
		{"new form of another container", marshal(t, params("other")), Request{SocketDir: defaultSocketDir}},
		{"nonsense", []byte("\xff\xff\xff"), Request{SocketDir: defaultSocketDir}},
	} {
		t.Run(c.name, func(t *testing.T) {
			c.want.ID, c.want.Namespace = "box", "ns"
			got := Request{ID: "box", Namespace: "ns"}
			got.Parse(c.stdin)
			if got != c.want {
				t.Errorf("request is %+v, want %+v", got, c.want)
			}
		})
	}
}

func TestAnswer(t *testing.T) {
	old := Request{}
	if b, err := old.Answer("unix:///x"); err != nil || string(b) != "unix:///x" {
		t.Errorf("old answer is %q, %v", b, err)
	}
	modern := Request{Modern: true}
	b, err := modern.Answer("unix:///x")
	if err != nil {
		t.Fatal(err)
	}
	var r bootapi.BootstrapResult
	if err := proto.Unmarshal(b, &r); err != nil {
		t.Fatal(err)
	}
	if r.Version != 3 || r.Address != "unix:///x" || r.Protocol != "ttrpc" || len(r.Extensions) != 1 ||
		r.Extensions[0].Value.TypeUrl != "containerd.types.MountCapabilities" {
		t.Errorf("new answer is %v", &r)
	}
}

func TestSocketPath(t *testing.T) {
	a, err := socketPath("/run/containerd/s", "/run/containerd/containerd.sock", "k8s.io", "pod")
	if err != nil || len(a) > 107 {
		t.Errorf("path is %s, %v", a, err)
	}
	b, _ := socketPath("/run/containerd/s", "/run/containerd/containerd.sock", "k8s.io", "other")
	c, _ := socketPath("/run/containerd/s", "/run/containerd/containerd.sock", "moby", "pod")
	if a == b || a == c {
		t.Error("pods or namespaces share a socket")
	}
	for _, dir := range []string{"relative", "/" + strings.Repeat("x", maxSocketDir)} {
		if _, err := socketPath(dir, "", "ns", "pod"); err == nil {
			t.Errorf("folder %q was accepted", dir)
		}
	}
}

func TestListen(t *testing.T) {
	path := filepath.Join(t.TempDir(), "new", "sock")
	f, err := listen(path)
	if err != nil {
		t.Fatal(err)
	}
	st, err := os.Stat(path)
	if err != nil || st.Mode().Perm() != 0o600 {
		t.Errorf("socket's mode is %v, %v; want 0600", st.Mode(), err)
	}
	if _, err := listen(path); !errors.Is(err, errServed) {
		t.Errorf("second listen gives %v", err)
	}
	if err := RemoveDead("unix://" + path); err != nil {
		t.Error(err)
	}
	if _, err := os.Stat(path); err != nil {
		t.Error("a living shim's socket was removed")
	}
	f.Close() // the shim is killed; its socket stays
	f, err = listen(path)
	if err != nil {
		t.Fatalf("a dead shim's socket was not replaced: %v", err)
	}
	f.Close()
	if err := RemoveDead("unix://" + path); err != nil {
		t.Error(err)
	}
	if _, err := os.Stat(path); !errors.Is(err, os.ErrNotExist) {
		t.Error("a dead shim's socket was not removed")
	}
	if err := RemoveDead("unix://" + path); err != nil {
		t.Errorf("second removal: %v", err)
	}
}

// Starts of one pod at once, on a socket that a dead shim left: one listens,
// and the rest find that one.
func TestListenTogether(t *testing.T) {
	dir := t.TempDir()
	for range 50 {
		path := filepath.Join(dir, "sock")
		dead, err := net.Listen("unix", path)
		if err != nil {
			t.Fatal(err)
		}
		dead.(*net.UnixListener).SetUnlinkOnClose(false)
		dead.Close()
		var wg sync.WaitGroup
		var mu sync.Mutex
		var won []*os.File
		for range 8 {
			wg.Go(func() {
				f, err := listen(path)
				if err != nil && !errors.Is(err, errServed) {
					t.Error(err)
				}
				if f != nil {
					mu.Lock()
					won = append(won, f)
					mu.Unlock()
				}
			})
		}
		wg.Wait()
		if len(won) != 1 || !alive(path) {
			t.Fatalf("%d of 8 listen", len(won))
		}
		won[0].Close()
		os.Remove(path)
	}
}

func TestCgroupRoots(t *testing.T) {
	p := filepath.Join(t.TempDir(), "mountinfo")
	const text = `24 30 0:22 / /proc rw - proc proc rw
31 30 0:26 / /sys/fs/cgroup rw - tmpfs tmpfs rw
30 23 0:27 / /sys/fs/cgroup/memory rw shared:9 - cgroup cgroup rw,memory
36 23 0:29 / /sys/fs/cgroup/cpu rw shared:9 - cgroup cgroup rw,cpu
32 31 0:27 / /sys/fs/cgroup/memory rw shared:9 - cgroup cgroup rw,memory
33 31 0:28 / /sys/fs/cgroup/unified rw - cgroup2 cgroup2 rw
34 31 0:27 / /elsewhere rw - cgroup cgroup rw,memory
35 31 0:27 /sub /part rw - cgroup cgroup rw,memory
`
	if err := os.WriteFile(p, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	roots, err := cgroupRoots(p, func(m sys.MountInfo) bool { return m.ID != 30 && m.ID != 36 }) // which the tmpfs covers
	if err != nil || strings.Join(roots, " ") != "/sys/fs/cgroup/memory /sys/fs/cgroup/unified" {
		t.Errorf("roots are %q, %v", roots, err)
	}
}
