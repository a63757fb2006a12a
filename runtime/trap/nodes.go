package trap

import (
	"os"
	"strconv"
	"sync"

	"golang.org/x/sys/unix"

	"sysbox/runtime/sys"
)

// nodes is a file system of the host's for device nodes of which binds lie in file
// systems of the container's, where nodes themselves do not open (the kernel's
// SB_I_NODEV). It is all there is in a mount namespace of its own: before Linux 6.15 only
// what is mounted somewhere can be bound. Its inodes are limited: they are memory of the
// host's.
type nodes struct {
	mu     sync.Mutex
	dir    *os.File // guarded by mu; nil before the first node
	mounts *os.File // the namespace, with dir
	next   int      // guarded by mu
	closed bool     // guarded by mu: a call may come later than the end
}

func (n *nodes) close() {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.closed = true
	if n.dir != nil {
		n.dir.Close()
		n.mounts.Close()
		n.dir = nil
	}
}

// make makes the file system and its namespace. n.mu is held.
func (n *nodes) make() error {
	dir, err := newTmpfs(map[string]string{"mode": "0700", "size": "64k", "nr_inodes": "1024"})
	if err != nil {
		return err
	}
	err = sys.Thread(func() error {
		if err := sys.Unshare(unix.CLONE_FS | unix.CLONE_NEWNS); err != nil {
			return err
		}
		mounts, err := os.Open("/proc/thread-self/ns/mnt")
		if err != nil {
			return err
		}
		if err := onlyMount(dir); err != nil {
			mounts.Close()
			return err
		}
		n.mounts = mounts
		return nil
	})
	if err != nil {
		dir.Close()
		return err
	}
	n.dir = dir
	return nil
}

// onlyMount attaches a mount as the root of this thread's new mount namespace, and
// detaches all else.
func onlyMount(dir *os.File) error {
	if err := sys.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""); err != nil {
		return err
	}
	root, err := os.OpenFile("/", unix.O_PATH|unix.O_DIRECTORY, 0)
	if err != nil {
		return err
	}
	defer root.Close()
	if err := sys.MoveMount(dir, root); err != nil {
		return err
	}
	if err := dir.Chdir(); err != nil {
		return err
	}
	if err := sys.PivotRoot(".", "."); err != nil {
		return err
	}
	return sys.Unmount(".", unix.MNT_DETACH)
}

// bind puts a new node with this mode and owner on what attach attaches it to; join
// enters a mount namespace. The node has no name afterwards: it goes with its mount.
func (n *nodes) bind(mode uint32, dev int, uid, gid uint32, join func(ns int) error, attach func(*os.File) error) error {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.closed {
		return unix.EPERM
	}
	if n.dir == nil {
		if err := n.make(); err != nil {
			return err
		}
	}
	n.next++
	name, at := strconv.Itoa(n.next), int(n.dir.Fd())
	if err := unix.Mknodat(at, name, mode, dev); err != nil {
		return err
	}
	defer func() { _ = unix.Unlinkat(at, name, 0) }()
	if err := unix.Fchownat(at, name, int(uid), int(gid), unix.AT_SYMLINK_NOFOLLOW); err != nil {
		return err
	}
	if err := unix.Fchmodat(at, name, mode&0o7777, 0); err != nil {
		return err
	}
	if err := join(int(n.mounts.Fd())); err != nil {
		return err
	}
	bound, err := sys.OpenTree(n.dir, name, false)
	if err != nil {
		return err
	}
	defer bound.Close()
	return attach(bound)
}

func newTmpfs(options map[string]string) (*os.File, error) {
	fs, err := sys.Fsopen("tmpfs")
	if err != nil {
		return nil, err
	}
	defer fs.Close()
	for key, value := range options {
		if err := fs.SetString(key, value); err != nil {
			return nil, err
		}
	}
	if err := fs.Create(); err != nil {
		return nil, err
	}
	return fs.Mount(unix.MOUNT_ATTR_NOSUID | unix.MOUNT_ATTR_NOEXEC)
}

// boundNode makes a node on a file system of the container's: a plain file with a
// node of the host's bound over it. For that the caller must be one that could mount.
func (w *worker) boundNode(c *call, id *identity, dir int, n node) verdict {
	if !id.has(capSysAdmin) {
		return pass
	}
	mounts, ok := w.server.mounts(c)
	if !ok {
		return pass
	}
	defer unix.Close(mounts)
	file, err := unix.Openat(dir, n.name, unix.O_CREAT|unix.O_EXCL|unix.O_WRONLY|unix.O_NOFOLLOW|unix.O_CLOEXEC, n.mode&0o7777)
	if err != nil {
		return failed(err)
	}
	defer unix.Close(file)
	if err = w.coverFile(mounts, file, n); err != nil {
		_ = unix.Unlinkat(dir, n.name, 0)
		return failed(err)
	}
	return verdict{}
}

func (w *worker) coverFile(mounts, file int, n node) error {
	var st unix.Stat_t
	if err := unix.Fstat(file, &st); err != nil {
		return err
	}
	if err := w.capable(^uint64(0)); err != nil {
		return err
	}
	return w.server.nodes.bind(n.mode&unix.S_IFMT|st.Mode&0o7777, n.dev, st.Uid, st.Gid, w.join, func(bound *os.File) error {
		if err := w.join(mounts); err != nil {
			return err
		}
		return attach(bound, file)
	})
}

// attach puts a detached mount on a file.
func attach(mount *os.File, at int) error {
	return unix.MoveMount(int(mount.Fd()), "", at, "", unix.MOVE_MOUNT_F_EMPTY_PATH|unix.MOVE_MOUNT_T_EMPTY_PATH)
}
