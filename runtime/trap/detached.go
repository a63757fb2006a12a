package trap

import (
	"os"
	"slices"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"sysbox/runtime/sys"
)

// trees are detached mounts of which callers have the root folder. They dissolve when
// they are closed here, unless they have been attached somewhere.
type detachedMounts struct {
	mu     sync.Mutex
	mounts []*detachedMount // guarded by mu; the oldest first
	closed bool             // guarded by mu
}

// tree is one of them.
type detachedMount struct {
	file *os.File
	// id is the mount's, which no other has while this one exists.
	id    uint64
	timer *time.Timer
	// given is closed when the caller has the root folder and this process has it no more:
	// the mount that is moved then can be unmounted at once.
	handedOver chan struct{}
}

const (
	// maxTrees bounds the mounts that are kept, and treeAge for how long, in case
	// their caller does not move them.
	maxDetached = 32
	detachedAge = time.Minute
)

// hold keeps a mount, which it takes over unless there is an error. given is to be called
// when its root folder is closed here.
func (t *detachedMounts) keep(mount *os.File) (given func(), err error) {
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
	kept := &detachedMount{file: mount, id: id, handedOver: make(chan struct{})}
	kept.timer = time.AfterFunc(detachedAge, func() {
		t.mu.Lock()
		defer t.mu.Unlock()
		if i := slices.Index(t.mounts, kept); i >= 0 {
			t.drop(i)
		}
	})
	t.mounts = append(t.mounts, kept)
	return sync.OnceFunc(func() { close(kept.handedOver) }), nil
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

// take takes out the mount whose root is the folder fd, nil for none.
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

// putBack keeps a mount again that could not be moved.
func (t *detachedMounts) putBack(mount *os.File) {
	given, err := t.keep(mount)
	if err != nil {
		mount.Close()
		return
	}
	given()
}

func (t *detachedMounts) close() {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.closed = true
	for len(t.mounts) > 0 {
		t.drop(0)
	}
}
