package runtime

import (
	"context"
	"errors"
	"io/fs"
	"syscall"
	"time"

	"sysbox/runtime/cgroup"
)

// Cleanup removes all that a container left whose shim has died or cannot be
// reached: processes, cgroups, storage, ids, its record. It can be called
// again and again, also after an orderly Delete, and is harmless to the
// siblings of the pod. It returns how init ended as far as that is known: 137.
func Cleanup(ctx context.Context, cfg *Config, namespace, id, _ string) (Exit, error) {
	exit := Exit{Status: 128 + int(syscall.SIGKILL), At: time.Now()}
	name, err := recordPath(cfg, namespace, id)
	if err != nil {
		return exit, err
	}
	unlock, err := lockRecord(ctx, name)
	if errors.Is(err, fs.ErrNotExist) {
		return exit, nil // deleted in order, or never made
	}
	if err != nil {
		return exit, err
	}
	defer unlock()
	r, err := readRecord(name)
	if errors.Is(err, fs.ErrNotExist) {
		return exit, nil // by its shim, at this moment
	}
	if errors.Is(err, errNoRecord) {
		// The shim was killed before it had written a line, which it does before
		// it makes anything.
		return exit, (&record{Namespace: namespace, ID: id}).remove(cfg)
	}
	if err != nil {
		return exit, err
	}
	siblings, err := r.siblings(cfg)
	if err != nil {
		return exit, err
	}
	if err := r.reclaim(ctx, cfg); err != nil {
		return exit, err
	}
	if len(siblings) == 0 {
		// A caller that cannot reach a living shim has given it up, and will
		// never ask it to shut down.
		return exit, r.Shim.signal(syscall.SIGTERM)
	}
	return exit, nil
}

// reclaim ends what still runs of a container without a shim, and undoes its
// record.
func (r *record) reclaim(ctx context.Context, cfg *Config) error {
	if err := r.Init.signal(syscall.SIGKILL); err != nil {
		return err
	}
	var cg *cgroup.Cgroup
	if r.Cgroup != nil {
		var err error
		if cg, err = cgroup.Load(*r.Cgroup); err != nil {
			return err
		}
		if err := cg.KillAll(ctx); err != nil {
			return err
		}
	}
	if err := r.undo(ctx, cfg, cg); err != nil {
		return err
	}
	if r.IDOwner != "" {
		siblings, err := r.siblings(cfg)
		if err != nil {
			return err
		}
		last := true
		for _, s := range siblings {
			last = last && s.IDOwner != r.IDOwner
		}
		if last {
			a, err := openAllocator(cfg)
			if err != nil {
				return err
			}
			if err := errors.Join(a.ReleaseOwner(r.IDOwner), a.Close()); err != nil {
				return err
			}
		}
	}
	return r.remove(cfg)
}
