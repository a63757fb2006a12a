// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/containerd/containerd/v2/pkg/cio"
	"github.com/containerd/containerd/v2/pkg/namespaces"
)

// The moments at which the shim's memory is read, its one container running.
const (
	momentStarted = "just started"
	momentExecs   = "after 5 execs"
	momentRest    = "at rest"
)

// rest is how long nobody calls a shim before it counts as resting: ours gives
// memory back after 3 s.
const rest = 4 * time.Second

// memory reads the proportional set size of the shim of one container, in KiB.
func (d *daemon) memory(ctx context.Context, t *target, id string) (_ map[string]int64, err error) {
	ctx = namespaces.WithNamespace(ctx, namespace)
	b, err := d.newBox(ctx, t, id)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, b.remove(ctx)) }()
	if b.task, err = b.container.NewTask(ctx, cio.NullIO); err != nil {
		return nil, fmt.Errorf("create: %w", err)
	}
	if err := b.task.Start(ctx); err != nil {
		return nil, fmt.Errorf("start: %w", err)
	}
	// The task's parent is the shim, whichever the runtime.
	shim, err := parent(int(b.task.Pid()))
	if err != nil {
		return nil, err
	}
	s := map[string]int64{}
	if s[momentStarted], err = pss(shim); err != nil {
		return nil, err
	}
	for i := range 5 {
		if _, err := b.exec(ctx, "e"+strconv.Itoa(i)); err != nil {
			return nil, fmt.Errorf("exec: %w", err)
		}
	}
	if s[momentExecs], err = pss(shim); err != nil {
		return nil, err
	}
	select {
	case <-time.After(rest):
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	s[momentRest], err = pss(shim)
	return s, err
}

func parent(pid int) (int, error) {
	v, err := field(fmt.Sprintf("/proc/%d/status", pid), "PPid:")
	if err != nil {
		return 0, err
	}
	cmdline, err := os.ReadFile(fmt.Sprintf("/proc/%d/cmdline", v))
	if err != nil {
		return 0, err
	}
	name, _, _ := strings.Cut(string(cmdline), "\x00")
	if !strings.HasPrefix(filepath.Base(name), "containerd-shim-") {
		return 0, fmt.Errorf("the parent of the container's process %d is %s, not a shim", pid, name)
	}
	return int(v), nil
}

func pss(pid int) (int64, error) { return field(fmt.Sprintf("/proc/%d/smaps_rollup", pid), "Pss:") }

// field reads a number from a file of lines of name and value.
func field(path, name string) (int64, error) {
	b, err := os.ReadFile(path)
	if err != nil {
		return 0, err
	}
	for line := range strings.Lines(string(b)) {
		if f := strings.Fields(line); len(f) > 1 && f[0] == name {
			return strconv.ParseInt(f[1], 10, 64)
		}
	}
	return 0, fmt.Errorf("%s has no %s", path, name)
}
