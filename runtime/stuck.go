package runtime

import (
	"bytes"
	"context"
	"fmt"
	"log/slog"
	"os"
	"slices"
	"time"

	"golang.org/x/sys/unix"

	"sysbox/runtime/cgroup"
	"sysbox/runtime/fusectl"
	"sysbox/runtime/sys"
	"sysbox/uidmap"
)

// Who waits for a FUSE file system whose server has read the request is not ended by
// SIGKILL. The server can be a thread of the same process, so that neither would ever end,
// or a process of another container. So the connections are aborted.

const (
	// stuckAfter is how long what was told to end may take until it is looked for what keeps
	// it, and lookPause how long until it is looked again.
	stuckAfter = time.Second
	lookPause  = 500 * time.Millisecond
	// mountedOnly is how many looks are for what the threads have mounted where they are;
	// later ones are for all that the pod's ids own, as it may be unmounted (MNT_DETACH),
	// outside of a thread's root directory, or another container's of the pod.
	mountedOnly = 3
	// lookBudget bounds how long one look reads lists of mounts, which a container can make
	// very long.
	lookBudget = 2 * time.Second
	// endDeadline bounds how long a killed container is waited for, and looked after.
	endDeadline = 30 * time.Second
)

// grip looks for the FUSE connections that keep a container, or what works for it, from
// ending.
type grip struct {
	id     string
	cgroup *cgroup.Cgroup
	// ids are those of the host that the container's user ids are mapped to.
	ids uidmap.Map
	// alone tells whether nobody else uses these ids any more.
	alone func() bool
}

// release aborts connections, after a while and then again and again, until stop is called.
// (A timer costs an ordinary end less than a goroutine.)
func (g *grip) release() (stop func()) {
	ctx, cancel := context.WithCancel(context.Background())
	t := time.AfterFunc(stuckAfter, func() {
		for look := 0; ctx.Err() == nil; look++ {
			g.look(look)
			select {
			case <-ctx.Done():
			case <-time.After(lookPause):
			}
		}
	})
	return func() {
		t.Stop()
		cancel()
	}
}

// look aborts the connections that may be what is waited for. Those of the host, which may
// be volumes of many pods, have other owners.
func (g *grip) look(look int) {
	n, err := fusectl.Abort(func(all []fusectl.Connection) []fusectl.Connection {
		own := slices.DeleteFunc(all, func(c fusectl.Connection) bool { return !isOwn(g.ids, c) })
		if len(own) == 0 || g.alone() {
			return own
		}
		threads, _ := g.cgroup.Threads() // none, if they cannot be listed: all of them may be meant
		mounted := mountedBy(threads)
		widely := look >= mountedOnly && (len(threads) == 0 || slices.ContainsFunc(threads, uninterruptible))
		return slices.DeleteFunc(own, func(c fusectl.Connection) bool {
			return !mounted[c.Minor] && (!widely || !c.Waiting)
		})
	})
	if n > 0 {
		slog.Warn(fmt.Sprintf("the container was to end and did not: %d of its FUSE connections were aborted", n), "container", g.id)
	}
	if err != nil {
		slog.Warn("end a container that may wait for FUSE: "+err.Error(), "container", g.id)
	}
}

// isOwn never tells the host's root to be a container's.
func isOwn(ids uidmap.Map, c fusectl.Connection) bool {
	_, own := ids.ToContainer(c.Owner)
	return own && c.Owner != 0
}

// mountedBy are the minor numbers of the file systems that threads see mounted. (A thread
// that ends after its process's leading thread has these lists; the process has none.)
func mountedBy(threads []int) map[uint32]bool {
	minors, seen := map[uint32]bool{}, map[string]bool{}
	for deadline := time.Now().Add(lookBudget); len(threads) > 0 && time.Now().Before(deadline); threads = threads[1:] {
		task := fmt.Sprintf("/proc/%d/", threads[0])
		ns, err := os.Readlink(task + "ns/mnt")
		if err != nil || seen[ns] {
			continue
		}
		seen[ns] = true
		for m, err := range sys.MountsOf(task + "mountinfo") {
			if err != nil || time.Now().After(deadline) {
				break
			}
			if unix.Major(m.Dev) == 0 {
				minors[unix.Minor(m.Dev)] = true
			}
		}
	}
	return minors
}

// uninterruptible tells whether a thread waits for something that no signal ends.
func uninterruptible(tid int) bool {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", tid))
	return err == nil && bytes.HasPrefix(b[bytes.LastIndexByte(b, ')')+1:], []byte(" D"))
}

// killAll kills all processes of a container, and waits for their end, for a while.
func (g *grip) killAll(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, endDeadline)
	defer cancel()
	defer g.release()()
	if err := g.cgroup.KillAll(ctx); err != nil {
		return fmt.Errorf("end container %s: %w; if it is a FUSE file system of another pod that is waited for, end that one", g.id, err)
	}
	return nil
}

// wait waits until done is closed, for a while.
func (g *grip) wait(ctx context.Context, done <-chan struct{}) error {
	select {
	case <-done:
		return nil
	default:
	}
	ctx, cancel := context.WithTimeout(ctx, endDeadline)
	defer cancel()
	defer g.release()()
	select {
	case <-done:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// waitInit waits for the end of init, which waits for all of its pid namespace: other
// containers may have joined that.
func (c *Container) waitInit(ctx context.Context) error {
	if err := c.grip().wait(ctx, c.init.done); err != nil {
		return fmt.Errorf("wait for the end of init of container %s: %w", c.rec.ID, err)
	}
	return nil
}

// abortAll aborts the connections of ids that nobody uses any more.
func abortAll(ids uidmap.Map) {
	_, err := fusectl.Abort(func(all []fusectl.Connection) []fusectl.Connection {
		return slices.DeleteFunc(all, func(c fusectl.Connection) bool { return !isOwn(ids, c) })
	})
	if err != nil {
		slog.Warn("abort the FUSE connections that a pod has left: " + err.Error())
	}
}

// grip is that of a running container's.
func (c *Container) grip() *grip {
	return &grip{id: c.rec.ID, cgroup: c.cgroup, ids: c.plan.IDs.UID, alone: func() bool { return c.rec.alone(c.cfg.Dirs()) }}
}

// grip is that of what a dead shim left.
func (r *record) grip(d Dirs, cg *cgroup.Cgroup) *grip {
	ids := r.UID
	if ids == nil { // of a shim that did not record them
		threads, _ := cg.Threads()
		for _, tid := range threads {
			if uid, _, err := uidmap.Of(fmt.Sprintf("/proc/%d/ns/user", tid)); err == nil {
				ids = uid
				break
			}
		}
	}
	return &grip{id: r.ID, cgroup: cg, ids: ids, alone: func() bool { return r.alone(d) }}
}

// alone tells whether no other container has the ids of this one's. Ids of the caller may be
// anybody's.
func (r *record) alone(d Dirs) bool {
	if r.IDOwner == "" {
		return false
	}
	siblings, err := r.siblings(d)
	return err == nil && !slices.ContainsFunc(siblings, func(s *record) bool { return s.IDOwner == r.IDOwner })
}
