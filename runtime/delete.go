// SPDX-License-Identifier: Apache-2.0

package runtime

import (
	"context"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"

	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"sysbox/runtime/cgroup"
	"sysbox/runtime/fsutil"
	"sysbox/runtime/hooks"
	"sysbox/runtime/kill"
	"sysbox/runtime/mirror"
	"sysbox/runtime/rootfs"
	"sysbox/runtime/state"
	"sysbox/uidmap"
)

// Delete kills what still runs and removes everything of the container. It
// can be called again after an error.
func (c *Container) Delete(ctx context.Context) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.deleted {
		return nil
	}
	if c.watch != nil {
		c.watch.Stop()
		defer func() {
			if !c.deleted {
				c.watch.Start()
			}
		}()
	}
	if err := c.end(ctx); err != nil {
		return err
	}
	err := c.undo.run(ctx)
	c.deleted = err == nil
	return err
}

// end kills all processes of the container and waits for their end.
func (c *Container) end(ctx context.Context) error {
	if c.stopOOM != nil {
		c.stopOOM()
		c.stopOOM = nil
	}
	if p := c.pending; p != nil {
		c.pending = nil
		p.close()
	}
	if c.init != nil {
		c.init.Signal(int(unix.SIGKILL))
	}
	if c.cgroup != nil {
		if err := c.target().KillAll(ctx); err != nil {
			return err
		}
	}
	if c.init == nil {
		return nil
	}
	// Init waits for all of its pid namespace, which other containers may have joined.
	if err := c.target().Wait(ctx, c.init.Done()); err != nil {
		return fmt.Errorf("wait for the end of init of container %s: %w", c.rec.ID, err)
	}
	c.init.Close()
	return nil
}

// target is the container for package kill.
func (c *Container) target() *kill.Target {
	return &kill.Target{
		Cgroup: c.cgroup, IDs: c.plan.IDs.UID, ID: c.rec.ID, Log: c.log,
		Alone: func() bool { return c.rec.Alone(c.cfg.Dirs()) },
	}
}

// removeRecord removes the record, after all that it names.
func (c *Container) removeRecord(context.Context) error {
	if !c.recorded {
		return nil
	}
	return c.rec.Remove(c.cfg.Dirs())
}

// releaseHolds lets others have the root's upper layer and storage.
func (c *Container) releaseHolds() {
	for _, end := range c.holds {
		end()
	}
	c.holds = nil
}

// undoRecorded removes what the record names.
func (c *Container) undoRecorded(ctx context.Context) error {
	if !c.recorded {
		return nil
	}
	return undoRecord(ctx, c.log, &c.rec, c.cfg.Dirs(), c.cgroup)
}

// undoRecord removes what a record names, its processes having ended. log has the container's
// id.
func undoRecord(ctx context.Context, log *slog.Logger, r *state.Record, d state.Dirs, cg *cgroup.Cgroup) error {
	err := parallel(
		func() error {
			if cg == nil {
				return nil
			}
			return cg.Delete(ctx)
		},
		func() error {
			if r.Mirror == "" {
				return nil
			}
			if err := mirror.Remove(r.Mirror, r.MirrorWork); err != nil {
				return fmt.Errorf("uncover the root file system %s: %w", r.Mirror, err)
			}
			return nil
		},
		func() error {
			if r.Upper != "" {
				for _, w := range rootfs.ParkUpper(ctx, r.Upper, r.InUpper) {
					log.Warn(w)
				}
			}
			if r.Shifted == "" {
				return nil
			}
			for _, dir := range r.Journals(d) {
				if err := uidmap.Revert(dir, r.Shifted); err != nil {
					return fmt.Errorf("give back the owners of %s: %w", r.Shifted, err)
				}
			}
			return nil
		},
		func() error {
			if r.Storage == "" {
				return nil
			}
			if err := fsutil.RemoveAll(ctx, nil, r.Storage); err != nil {
				return fmt.Errorf("remove the storage directories: %w", err)
			}
			os.Remove(filepath.Dir(r.Storage)) // the namespace's, while it is empty
			return nil
		},
	)
	if err != nil {
		return err
	}
	// A failed poststop hook is a warning, and the others still run.
	if err := hooks.RunAll(ctx, hooks.Poststop, r.Poststop, r.State(specs.StateStopped), "/"); err != nil {
		log.Warn(err.Error())
	}
	return nil
}
