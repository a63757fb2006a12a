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
type trees struct {
	mu     sync.Mutex
	held   []*tree // guarded by mu; the oldest first
	closed bool    // guarded by mu
}

// tree is one of them.
type tree struct {
	file *os.File
	// id is the mount's, which no other has while this one exists.
	id    uint64
	timer *time.Timer
	// given is closed when the caller has the root folder and this process has it no more:
	// the mount that is moved then can be unmounted at once.
	given chan struct{}
}

const (
	// maxTrees bounds the mounts that are kept, and treeAge for how long, in case
	// their caller does not move them.
	maxTrees = 32
	treeAge  = time.Minute
)

// hold keeps a mount, which it takes over unless there is an error. given is to be called
// when its root folder is closed here.
func (t *trees) hold(mount *os.File) (given func(), err error) {
	id, err := sys.MountID(mount, "")
	if err != nil {
		return nil, err
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.closed {
		return nil, unix.EPERM
	}
	if len(t.held) == maxTrees {
		t.drop(0)
	}
	kept := &tree{file: mount, id: id, given: make(chan struct{})}
	kept.timer = time.AfterFunc(treeAge, func() {
		t.mu.Lock()
		defer t.mu.Unlock()
		if i := slices.Index(t.held, kept); i >= 0 {
			t.drop(i)
		}
	})
	t.held = append(t.held, kept)
	return sync.OnceFunc(func() { close(kept.given) }), nil
}

// drop lets a mount dissolve. t.mu is held.
func (t *trees) drop(i int) {
	t.held[i].timer.Stop()
	t.held[i].file.Close()
	t.held = slices.Delete(t.held, i, i+1)
}

func (t *trees) empty() bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	return len(t.held) == 0
}

// take takes out the mount whose root is the folder fd, nil for none.
func (t *trees) take(fd int) *os.File {
	var st unix.Statx_t
	if unix.Statx(fd, "", unix.AT_EMPTY_PATH, unix.STATX_MNT_ID, &st) != nil || st.Attributes&unix.STATX_ATTR_MOUNT_ROOT == 0 {
		return nil
	}
	out := t.remove(st.Mnt_id)
	if out == nil {
		return nil
	}
	<-out.given
	return out.file
}

func (t *trees) remove(id uint64) *tree {
	t.mu.Lock()
	defer t.mu.Unlock()
	i := slices.IndexFunc(t.held, func(x *tree) bool { return x.id == id })
	if i < 0 {
		return nil
	}
	out := t.held[i]
	out.timer.Stop()
	t.held = slices.Delete(t.held, i, i+1)
	return out
}

// putBack keeps a mount again that could not be moved.
func (t *trees) putBack(mount *os.File) {
	given, err := t.hold(mount)
	if err != nil {
		mount.Close()
		return
	}
	given()
}

func (t *trees) close() {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.closed = true
	for len(t.held) > 0 {
		t.drop(0)
	}
}
