// SPDX-License-Identifier: Apache-2.0

package trap_test

import (
	"fmt"
	"os"
	"testing"
	"time"

	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"sysbox/runtime"
	"sysbox/tests/pace"
	"sysbox/tests/testcontainer"
)

// TestTrapSilentFileSystem: a file system of the container's that never answers holds up
// the calls that are about it: others of the same container's are answered. With more of
// them than are worked on at a time another container's are, and the first can be deleted.
func TestTrapSilentFileSystem(t *testing.T) {
	t.Parallel()
	p := testcontainer.NewPod(t)
	w, _ := testcontainer.Pipe(t)
	r, ready, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	bundle := trapSilenceInside.Bundle(t, func(s *specs.Spec) {
		s.Mounts = append(s.Mounts, specs.Mount{Destination: "/t", Type: "tmpfs", Source: "tmpfs"})
	})
	c := testcontainer.Create(t, p, runtime.CreateRequest{ID: "c1", Bundle: bundle, Stdio: runtime.Stdio{Stdout: ready, Stderr: w}})
	if err := c.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	ready.Close()
	_ = r.SetReadDeadline(time.Now().Add(time.Minute * pace.Patience()))
	buf := make([]byte, 1000)
	if n, _ := r.Read(buf); string(buf[:n]) != "silent\n" {
		t.Fatalf("the container says %q", buf[:n])
	}
	other := testcontainer.Create(t, p, runtime.CreateRequest{ID: "c2", Bundle: testcontainer.Busybox(t, nil, "mknod", "/root/n", "c", "1", "3")})
	if err := other.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	if exit := testcontainer.Wait(t, other.Init()); exit.Status != 0 {
		t.Errorf("mknod in the other container: exit status %d", exit.Status)
	}
	if err := c.Delete(t.Context()); err != nil {
		t.Error(err)
	}
}

var trapSilenceInside = testcontainer.Inside("trap silence", func() error {
	s, err := testcontainer.NewSilence("/root/f")
	if err != nil {
		return err
	}
	// The kernel's answer, and no bind of ours.
	if err := unix.Mknod("/root/f/n", charDev, nullDev); err != unix.EPERM {
		return fmt.Errorf("mknod on a FUSE file system: %w", err)
	}
	// As these calls are made by processes in the container's user namespace, they wait.
	hang := func(n int) error {
		m := fmt.Sprintf("/t/%d", n)
		go unix.Mount("o", m, "overlay", 0, fmt.Sprintf("lowerdir=/root/f/silent%d:/root", n))
		return os.Mkdir(m, 0o755)
	}
	if err := hang(0); err != nil {
		return err
	}
	<-s.Asked
	if err := unix.Mknod("/root/n", charDev, nullDev); err != nil {
		return fmt.Errorf("while a call is not answered: %w", err)
	}
	for i := range 40 { // more than are worked on at a time
		if err := hang(1 + i); err != nil {
			return err
		}
	}
	for range 31 {
		<-s.Asked
	}
	fmt.Println("silent")
	select {}
})
