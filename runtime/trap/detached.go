// SPDX-License-Identifier: Apache-2.0

package trap

import (
	"os"
	"slices"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"sysbox/runtime/sys"
)

// detachedMounts keeps detached mounts whose root directory was handed to a caller. A mount
// dissolves when it is closed here, unless it has been attached somewhere.
type detachedMounts struct {
	mu     sync.Mutex
	mounts []*detachedMount // guarded by mu; the oldest first
	closed bool             // guarded by mu
}

type detachedMount struct {
	file *os.File
	// id is the mount's id, which is unique while the mount exists.
	id    uint64
	timer *time.Timer
	// handedOver is closed when the caller has the root directory and the shim has closed its own
	// copy. From then on a moved mount can be unmounted at once.
	handedOver chan struct{}
}

const (
	// maxDetached and detachedAge bound how many mounts are kept and for how long, in case their
	// callers do not move them.
	maxDetached = 32
	detachedAge = time.Minute
)

// keep keeps a mount. It takes the mount over unless it returns an error. Call handedOver after
// the root directory was closed here.
func (t *detachedMounts) keep(mount *os.File) (handedOver func(), err error) {
	id, err := sys.MountID(mount, "")
	if err != nil {
		return nil, err
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.closed {
		return nil, unix.EPERM
	}
	if len(t.mounts) == maxDetached {
		t.drop(0)
	}
	out := &detachedMount{file: mount, id: id, handedOver: make(chan struct{})}
	out.timer = time.AfterFunc(detachedAge, func() {
		t.mu.Lock()
		defer t.mu.Unlock()
		if i := slices.Index(t.mounts, out); i >= 0 {
			t.drop(i)
		}
	})
	t.mounts = append(t.mounts, out)
	return sync.OnceFunc(func() { close(out.handedOver) }), nil
}

// drop lets a mount dissolve. t.mu is held.
func (t *detachedMounts) drop(i int) {
	t.mounts[i].timer.Stop()
	t.mounts[i].file.Close()
	t.mounts = slices.Delete(t.mounts, i, i+1)
}

func (t *detachedMounts) empty() bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	return len(t.mounts) == 0
}

// take removes and returns the mount whose root is the directory fd; nil if there is none.
func (t *detachedMounts) take(fd int) *os.File {
	var st unix.Statx_t
	if unix.Statx(fd, "", unix.AT_EMPTY_PATH, unix.STATX_MNT_ID, &st) != nil || st.Attributes&unix.STATX_ATTR_MOUNT_ROOT == 0 {
		return nil
	}
	out := t.remove(st.Mnt_id)
	if out == nil {
		return nil
	}
	<-out.handedOver
	return out.file
}

func (t *detachedMounts) remove(id uint64) *detachedMount {
	t.mu.Lock()
	defer t.mu.Unlock()
	i := slices.IndexFunc(t.mounts, func(x *detachedMount) bool { return x.id == id })
	if i < 0 {
		return nil
	}
	out := t.mounts[i]
	out.timer.Stop()
	t.mounts = slices.Delete(t.mounts, i, i+1)
	return out
}

// putBack keeps a mount again after it could not be moved.
func (t *detachedMounts) putBack(mount *os.File) {
	handedOver, err := t.keep(mount)
	if err != nil {
		mount.Close()
		return
	}
	handedOver()
}

func (t *detachedMounts) close() {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.closed = true
	for len(t.mounts) > 0 {
		t.drop(0)
	}
}
