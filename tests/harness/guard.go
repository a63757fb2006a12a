// SPDX-License-Identifier: Apache-2.0

package harness

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	containerd "github.com/containerd/containerd/v2/client"

	"sysbox/runtime/sys"
)

// guardVariable tells a copy of this program to be a guard, and of which
// folder.
const guardVariable = "SYSBOX_HARNESS_GUARD"

// A guard is a copy of this program, in a session of its own, that waits for
// the end of a pipe. It removes what its starter could not: a test that
// panics, runs out of time or is killed runs no clean-up.
func init() {
	if dir := os.Getenv(guardVariable); dir != "" {
		os.Exit(guard(dir, os.Stdin))
	}
}

// dismissal is what a starter writes that has cleaned up by itself.
const dismissal = "done"

// watchOver starts the guard of c.
func (c *Containerd) watchOver() error {
	r, w, err := os.Pipe()
	if err != nil {
		return err
	}
	defer r.Close()
	cmd := exec.Command("/proc/self/exe")
	cmd.Env = append(os.Environ(), guardVariable+"="+c.Dir)
	cmd.Stdin = r
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	if err := cmd.Start(); err != nil {
		w.Close()
		return fmt.Errorf("start a guard over %s: %w", c.Dir, err)
	}
	c.dismiss = func() error {
		c.dismiss = func() error { return nil }
		_, err := io.WriteString(w, dismissal)
		return errors.Join(err, w.Close(), cmd.Wait())
	}
	return nil
}

// guard waits for its starter's end and returns an exit code.
func guard(dir string, pipe io.Reader) int {
	said, err := io.ReadAll(pipe)
	if string(said) == dismissal {
		return 0
	}
	c := &Containerd{Dir: dir}
	c.Client, _ = containerd.New(c.Socket(), containerd.WithDefaultNamespace(Namespace), containerd.WithTimeout(10*time.Second))
	err = errors.Join(err, c.Stop())
	if err != nil {
		fmt.Fprintln(os.Stderr, "clean up after a test that was ended:", err)
		return 1
	}
	return 0
}

// processes are the pids whose command line has an argument, or the end of
// one, that want accepts.
func processes(want func(args []string) bool) []int {
	entries, err := os.ReadDir("/proc")
	if err != nil {
		return nil
	}
	var out []int
	for _, e := range entries {
		pid, err := strconv.Atoi(e.Name())
		if err != nil {
			continue
		}
		b, err := os.ReadFile(filepath.Join("/proc", e.Name(), "cmdline"))
		if err == nil && want(strings.Split(string(b), "\x00")) {
			out = append(out, pid)
		}
	}
	return out
}

// end ends processes of c that are not this one's children, and waits for it.
func end(ctx context.Context, sig syscall.Signal, pids []int) {
	for _, pid := range pids {
		_ = syscall.Kill(pid, sig) // it may have ended by itself
	}
	for _, pid := range pids {
		for syscall.Kill(pid, 0) == nil && ctx.Err() == nil && !zombie(pid) {
			time.Sleep(20 * time.Millisecond)
		}
	}
}

// zombie tells of a process that has ended and is not reaped yet.
func zombie(pid int) bool {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	_, rest, ok := strings.Cut(string(b), ") ")
	return err != nil || ok && strings.HasPrefix(rest, "Z")
}

// unmount takes down every mount in a folder, the latest first.
func unmount(dir string) error {
	var points []string
	for m, err := range sys.MountsOf("/proc/self/mountinfo") {
		if err != nil {
			return err
		}
		if strings.HasPrefix(m.Point, dir+"/") {
			points = append(points, m.Point)
		}
	}
	var err error
	for _, p := range slices.Backward(points) {
		if e := syscall.Unmount(p, syscall.MNT_DETACH); e != nil && !errors.Is(e, syscall.EINVAL) {
			err = errors.Join(err, fmt.Errorf("unmount %s: %w", p, e))
		}
	}
	return err
}
