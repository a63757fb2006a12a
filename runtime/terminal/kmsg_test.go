// SPDX-License-Identifier: Apache-2.0

package terminal_test

import (
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"sysbox/runtime"
	"sysbox/tests/testcontainer"
)

// TestKmsg: what systemd takes for the kernel's log can be opened, waited for and written
// without end, and nothing comes of it.
func TestKmsg(t *testing.T) {
	t.Parallel()
	w, text := testcontainer.Pipe(t)
	bundle := kmsgInside.Bundle(t, func(s *specs.Spec) { s.Process.Args[0] = "/sbin/init" })
	testcontainer.Copy(t, "/proc/self/exe", filepath.Join(bundle, "rootfs/sbin/init"))
	c := testcontainer.Create(t, testcontainer.NewPod(t), runtime.CreateRequest{ID: "c1", Bundle: bundle, Stdio: runtime.Stdio{Stdout: w, Stderr: w}})
	if err := c.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	if exit := testcontainer.Wait(t, c.Init()); exit.Status != 0 {
		t.Error(text())
	}
}

var kmsgInside = testcontainer.Inside("kmsg", func() error {
	fd, err := unix.Open("/dev/kmsg", unix.O_RDWR|unix.O_NONBLOCK|unix.O_NOCTTY, 0)
	if err != nil {
		return err
	}
	epoll, err := unix.EpollCreate1(0)
	if err != nil {
		return err
	}
	if err := unix.EpollCtl(epoll, unix.EPOLL_CTL_ADD, fd, &unix.EpollEvent{Events: unix.EPOLLIN}); err != nil {
		return fmt.Errorf("wait for it: %w", err)
	}
	if n, err := unix.EpollWait(epoll, make([]unix.EpollEvent, 1), 0); n != 0 || err != nil {
		return fmt.Errorf("it is ready: %d, %w", n, err)
	}
	if _, err := unix.Read(fd, make([]byte, 10)); err != unix.EAGAIN {
		return fmt.Errorf("read: %w", err)
	}
	f, err := os.OpenFile("/dev/kmsg", os.O_WRONLY, 0)
	if err != nil {
		return err
	}
	_, err = f.Write(make([]byte, 1<<20))
	return err
})
