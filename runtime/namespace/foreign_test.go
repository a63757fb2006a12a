// SPDX-License-Identifier: Apache-2.0

package namespace_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"sysbox/runtime"
	"sysbox/runtime/sys"
	"sysbox/tests/testcontainer"
)

// joining gives namespaces by path.
func joining(paths map[specs.LinuxNamespaceType]string, edit func(*specs.Spec)) func(*specs.Spec) {
	return func(s *specs.Spec) {
		for i, n := range s.Linux.Namespaces {
			if p := paths[n.Type]; p != "" {
				s.Linux.Namespaces[i].Path = p
			}
		}
		if edit != nil {
			edit(s)
		}
	}
}

// TestForeignNamespaces: a container may join the ipc and uts namespaces of another, which
// belong to another user namespace (docker run --ipc container:X), or to the host's (CRI-O's
// pods): it has that one's message queues, and its host name. In another container's it can
// make no queues (EOVERFLOW): the owner of the namespace does not have its ids.
func TestForeignNamespaces(t *testing.T) {
	t.Parallel()
	donor := testcontainer.Create(t, testcontainer.NewPod(t), runtime.CreateRequest{ID: "donor", Bundle: testcontainer.Busybox(t, nil, "sleep", "1000")})
	if err := donor.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	// Namespaces as CRI-O makes them are held by a thread of ours.
	held, free := make(chan int), make(chan struct{})
	ended := make(chan error, 1)
	go func() {
		ended <- sys.Thread(func() error {
			if err := sys.Unshare(unix.CLONE_NEWIPC | unix.CLONE_NEWUTS); err != nil {
				close(held)
				return err
			}
			held <- unix.Gettid()
			<-free
			return nil
		})
	}()
	tid, ok := <-held
	if !ok {
		t.Fatal(<-ended)
	}
	defer func() {
		close(free)
		if err := <-ended; err != nil {
			t.Error(err)
		}
	}()
	for name, pid := range map[string]int{"a container's": donor.Init().Pid(), "the host's": tid} {
		t.Run(name, func(t *testing.T) {
			paths := map[specs.LinuxNamespaceType]string{
				"ipc": fmt.Sprintf("/proc/%d/ns/ipc", pid), "uts": fmt.Sprintf("/proc/%d/ns/uts", pid),
			}
			p := testcontainer.NewPod(t)
			set := func(s *specs.Spec) { s.Hostname, s.Domainname = "given", "example" }
			theirs := pid == donor.Init().Pid()
			if theirs {
				donor.Script(t, "touch /dev/mqueue/of-first")
			}
			script := "stat -f -c %T /dev/mqueue; touch /dev/mqueue/of-first; cat /dev/mqueue/of-first; touch /dev/mqueue/own || echo refused; hostname; cat /proc/sys/kernel/domainname; sleep 1000"
			w, text := testcontainer.Pipe(t)
			first := testcontainer.Create(t, p, runtime.CreateRequest{ID: "first", Bundle: testcontainer.Busybox(t, joining(paths, set), "sh", "-c", script), Stdio: runtime.Stdio{Stdout: w, Stderr: w}})
			if err := first.Start(t.Context()); err != nil {
				t.Fatal(err)
			}
			if out := first.Script(t, "until ls /dev/mqueue | grep of-first; do sleep 0.01; done"); !strings.Contains(out, "of-first") {
				t.Errorf("exec sees %q", out)
			}
			// Locked, as what the host's side has mounted.
			if out := first.Script(t, "grep ' /dev/mqueue ' /proc/mounts; umount /dev/mqueue"); !strings.Contains(out, "nosuid,nodev,noexec") || !strings.Contains(out, "can't unmount") {
				t.Errorf("the mount: %q", out)
			}
			// Another container there sees the same queues, in its own pod.
			w2, text2 := testcontainer.Pipe(t)
			second := testcontainer.Create(t, p.Beside("c"), runtime.CreateRequest{ID: "second", Bundle: testcontainer.Busybox(t, joining(paths, func(s *specs.Spec) { s.Hostname = "" }), "sh", "-c", "ls /dev/mqueue; hostname"), Stdio: runtime.Stdio{Stdout: w2, Stderr: w2}})
			if err := second.Start(t.Context()); err != nil {
				t.Fatal(err)
			}
			testcontainer.Wait(t, second.Init())
			if got := text2(); !strings.Contains(got, "of-first\n") || !strings.HasSuffix(got, "given\n") {
				t.Errorf("the second container: %q", got)
			}
			first.Init().Signal(int(unix.SIGKILL))
			testcontainer.Wait(t, first.Init())
			if got := text(); !strings.Contains(got, "QSIZE:0") || strings.Contains(got, "refused\n") != theirs || !strings.HasSuffix(got, "given\nexample\n") {
				t.Errorf("the first container: %q", got)
			}
		})
	}
}
