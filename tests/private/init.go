// SPDX-License-Identifier: Apache-2.0

package private

import (
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"runtime"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"sysbox/runtime/sys"
)

// states are the folders in which programs keep their state, by default or always: that
// of the host's own programs is not to be seen.
var states = []string{"/run", "/var/lib/sysbox", "/var/lib/cni"}

// fill is pid 1 in its first stage: it joins the cgroups, makes the mounts that the new
// namespaces need, and becomes the one that reaps.
func fill() error {
	// A cgroup namespace is a thread's, until the process is executed again.
	runtime.LockOSThread()
	g, err := joinGroups(os.Getenv(groupVariable))
	if err != nil {
		return err
	}
	for _, m := range []struct {
		source, target, fstype string
		flags                  uintptr
	}{
		{"", "/", "", unix.MS_REC | unix.MS_PRIVATE},
		{"proc", "/proc", "proc", unix.MS_NOSUID | unix.MS_NODEV | unix.MS_NOEXEC},
	} {
		if err := unix.Mount(m.source, m.target, m.fstype, m.flags, ""); err != nil {
			return fmt.Errorf("mount %s: %w", m.target, err)
		}
	}
	for _, dir := range states {
		if err := os.MkdirAll(dir, 0o755); err != nil {
			return err
		}
		if err := unix.Mount("state", dir, "tmpfs", unix.MS_NOSUID|unix.MS_NODEV, "mode=0755"); err != nil {
			return fmt.Errorf("mount %s: %w", dir, err)
		}
	}
	for _, dir := range []string{"/run/lock", "/run/netns", "/run/containerd"} {
		if err := os.Mkdir(dir, 0o755); err != nil {
			return err
		}
	}
	if err := g.cover(); err != nil {
		return err
	}
	// As under systemd, so that what would spread is seen to spread.
	if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_SHARED, ""); err != nil {
		return fmt.Errorf("make the mounts shared: %w", err)
	}
	if err := loopback(); err != nil {
		return fmt.Errorf("set the loopback device up: %w", err)
	}
	cmd := again(reaping)
	return fmt.Errorf("execute %s again: %w", cmd.Path, unix.Exec(cmd.Path, cmd.Args, cmd.Environ()))
}

// loopback sets the loopback device up.
func loopback() error {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	r, err := unix.NewIfreq("lo")
	if err != nil {
		return err
	}
	r.SetUint16(unix.IFF_UP)
	return unix.IoctlIfreq(fd, unix.SIOCSIFFLAGS, r)
}

// patience bounds how long guards may clean up after tests that were ended.
const patience = 2 * time.Minute

// reap is pid 1 in its second stage: it runs the tests and waits for children, which may
// be those of others. When the tests and their guards have ended, it ends, and all that is
// left with it.
func reap() (int, error) {
	cmd := again(running)
	signals := make(chan os.Signal, 1)
	signal.Notify(signals, fatal...)
	if err := cmd.Start(); err != nil {
		return 1, err
	}
	go func() {
		_ = cmd.Process.Signal(<-signals) // it may have ended
		// It need not listen: a second signal ends all at once.
		select {
		case <-signals:
		case <-time.After(patience):
		}
		thaw()
		os.Exit(1)
	}()
	code, err := wait(cmd.Process.Pid)
	go func() { _, _ = wait(0) }() // until this process ends
	for deadline := time.Now().Add(patience); guarded() && time.Now().Before(deadline); {
		time.Sleep(10 * time.Millisecond)
	}
	thaw()
	return code, err
}

// guarded tells whether another copy of this program is there, as guards are
// (package harness): they clean up when the tests are gone.
func guarded() bool {
	self, err := os.Readlink("/proc/1/exe")
	if err != nil {
		return false
	}
	list, _ := filepath.Glob("/proc/[0-9]*/exe")
	for _, name := range list {
		if exe, err := os.Readlink(name); err == nil && exe == self && name != "/proc/1/exe" {
			return true
		}
	}
	return false
}

// wait waits for children until pid has ended, and returns its exit code.
func wait(pid int) (int, error) {
	for {
		var status syscall.WaitStatus
		ended, err := syscall.Wait4(-1, &status, 0, nil)
		switch {
		case err == syscall.EINTR:
		case err != nil:
			return 1, fmt.Errorf("wait for the tests: %w", err)
		case ended == pid && status.Signaled():
			return 1, fmt.Errorf("the tests were ended by %s", status.Signal())
		case ended == pid:
			return status.ExitStatus(), nil
		}
	}
}

// thaw lets processes end that are frozen by version 1, where no signal reaches them.
func thaw() {
	for m, err := range sys.MountsOf("/proc/self/mountinfo") {
		if err != nil {
			return
		}
		if m.Type == "cgroup" {
			_ = filepath.WalkDir(m.Point, func(p string, _ os.DirEntry, err error) error {
				if err == nil && filepath.Base(p) == "freezer.state" {
					_ = os.WriteFile(p, []byte("THAWED"), 0) // the root has none
				}
				return nil
			})
		}
	}
}
