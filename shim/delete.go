// SPDX-License-Identifier: Apache-2.0

package shim

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"time"

	task "github.com/containerd/containerd/api/runtime/task/v2"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/timestamppb"

	"sysbox/runtime"
	"sysbox/runtime/config"
	"sysbox/runtime/state"
	"sysbox/shim/bootstrap"
	"sysbox/shim/bundle"
)

// deleteTimeout is what is left of containerd's five seconds for a delete.
const deleteTimeout = 4500 * time.Millisecond

// remove is the delete action: it removes what a dead shim left of one
// container. containerd runs it after every normal removal too, so there is
// usually nothing to do.
func remove(f flags, stdout io.Writer) error {
	dir, err := bundleDir(f)
	if err != nil {
		return err
	}
	dirs, err := findDirs(f, dir)
	if err != nil {
		return fmt.Errorf("clean up container %s: %w", f.id, err)
	}
	ctx, cancel := context.WithTimeout(context.Background(), deleteTimeout)
	defer cancel()
	exit, err := cleanup(ctx, dirs, f, dir)
	if err != nil {
		return fmt.Errorf("clean up container %s: %w", f.id, err)
	}
	if address, err := bundle.ReadAddress(dir); err == nil {
		// Best effort: the next start replaces a dead socket as well.
		_ = bootstrap.RemoveDead(address)
	}
	b, err := proto.Marshal(&task.DeleteResponse{
		Pid:        uint32(exit.Pid),
		ExitStatus: uint32(exit.Status),
		ExitedAt:   timestamppb.New(exit.At),
	})
	if err != nil {
		return err
	}
	_, err = stdout.Write(b)
	return err
}

// findDirs returns the directories that hold the container's record. The bundle names them;
// if it does not, because an earlier version made it, findDirs searches all possible places.
// The configuration comes last: it may have changed since, or be broken.
func findDirs(f flags, dir string) (state.Dirs, error) {
	stateDir, dataDir, damaged := bundle.ReadDirs(dir)
	if damaged == nil {
		return state.Dirs{State: stateDir, Data: dataDir}, nil
	}
	path, err := bundle.ReadConfigPath(dir)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		damaged = err
	}
	configured, err := config.Dirs(path)
	if err != nil {
		configured = state.Defaults()
	}
	found, ok := state.Find(f.namespace, f.id, dir, configured)
	switch _, made := os.Stat(filepath.Join(dir, bundle.InitPid)); {
	case ok:
		return found, nil
	case made != nil:
		return configured, nil // the shim was killed or rejected the container before it made anything
	case !errors.Is(damaged, fs.ErrNotExist):
		return configured, fmt.Errorf("cannot find its record: %w; restore the configuration that it was made with, and run containerd-shim-sysbox-v1 reclaim", damaged)
	case err != nil:
		return configured, fmt.Errorf("cannot find its record, and the configuration cannot be read: %w; restore the configuration that it was made with, and run containerd-shim-sysbox-v1 reclaim", err)
	}
	return configured, nil
}

// cleanup calls the runtime and stops waiting when ctx ends, even if a system
// call is blocked in the kernel: the process exits next, and containerd may
// call again. exit.json takes precedence over the exit that the runtime guesses.
func cleanup(ctx context.Context, d state.Dirs, f flags, dir string) (bundle.Exit, error) {
	type result struct {
		exit runtime.Exit
		err  error
	}
	done := make(chan result, 1)
	go func() {
		e, err := runtime.Cleanup(ctx, slog.Default(), d, f.namespace, f.id)
		done <- result{e, err}
	}()
	var r result
	select {
	case r = <-done:
	case <-ctx.Done():
		r.err = context.Cause(ctx)
	}
	if r.err != nil {
		return bundle.Exit{}, r.err
	}
	if e, err := bundle.ReadExit(dir); err == nil {
		return e, nil
	}
	pid, _ := bundle.ReadInitPid(dir)
	if r.exit.At.IsZero() {
		r.exit.At = time.Now()
	}
	return bundle.Exit{Pid: pid, Status: r.exit.Status, At: r.exit.At}, nil
}
