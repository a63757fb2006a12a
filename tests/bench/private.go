// SPDX-License-Identifier: Apache-2.0

package main

import (
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strings"

	"golang.org/x/sys/unix"

	"sysbox/runtime/sys"
)

// inPrivate runs start on a thread with a mount namespace of its own, which
// what it starts inherits: no mount of the bench is the host's to see, and
// none is left. The thread lives until release is closed, as what it starts
// may be told of its end (PR_SET_PDEATHSIG is about threads).
func inPrivate(release <-chan struct{}, start func() error) error {
	done := make(chan error)
	go func() {
		// Not unlocked: the thread ends with the goroutine.
		runtime.LockOSThread()
		err := unix.Unshare(unix.CLONE_NEWNS)
		if err == nil {
			err = unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, "")
		}
		if err != nil {
			done <- fmt.Errorf("make a mount namespace: %w; run the bench as root", err)
			return
		}
		if err := start(); err != nil {
			done <- err
			return
		}
		done <- nil
		<-release
	}()
	return <-done
}

// hybrid is where cgroup v2 is mounted on a host whose resource controllers
// are v1's, if v2 has controllers as well; "" otherwise. crun refuses such
// hosts (1.21); our containers need v2 to be there.
func hybrid() (string, error) {
	for m, err := range sys.MountsOf("/proc/self/mountinfo") {
		if err != nil {
			return "", err
		}
		if m.Type != "cgroup2" || m.Point == "/sys/fs/cgroup" {
			continue
		}
		c, err := os.ReadFile(filepath.Join(m.Point, "cgroup.controllers"))
		if err == nil && len(strings.TrimSpace(string(c))) > 0 {
			return m.Point, nil
		}
	}
	return "", nil
}
