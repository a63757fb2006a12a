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
// enters a mount namespace. The node has no name afterwards: it goes with its mount, which
// is returned.
func (n *nodes) bind(mode uint32, dev int, uid, gid uint32, join func(ns int) error, attach func(*os.File) error) (*os.File, error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.closed {
		return nil, unix.EPERM
	}
	if n.dir == nil {
		if err := n.make(); err != nil {
			return nil, err
		}
	}
	n.next++
	name, at := strconv.Itoa(n.next), int(n.dir.Fd())
	if err := unix.Mknodat(at, name, mode, dev); err != nil {
		return nil, err
	}
	defer func() { _ = unix.Unlinkat(at, name, 0) }()
	if err := unix.Fchownat(at, name, int(uid), int(gid), unix.AT_SYMLINK_NOFOLLOW); err != nil {
		return nil, err
	}
	if err := unix.Fchmodat(at, name, mode&0o7777, 0); err != nil {
		return nil, err
	}
	if err := join(int(n.mounts.Fd())); err != nil {
		return nil, err
	}
	bound, err := sys.OpenTree(n.dir, name, false)
	if err != nil {
		return nil, err
	}
	if err := attach(bound); err != nil {
		bound.Close()
		return nil, err
	}
	return bound, nil
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

// boundNode makes a node on a file system of the container's, where it does not open, and
// binds one of the host's over it. That is a mount, but of no use beyond a node's: it lies
// in the caller's own mount namespace on a file that was made for it just now. So
// CAP_MKNOD is enough, as for the node; inner containers have no more.
//
// On a mount without devices (nodev) the node is just made, and does not open: as on a
// machine, where it can be removed and archived.
func (w *worker) boundNode(c *call, dir int, n node) verdict {
	var fs unix.Statfs_t
	if err := unix.Fstatfs(dir, &fs); err == nil && fs.Flags&unix.ST_NODEV != 0 {
		if err := unix.Mknodat(dir, n.name, n.mode, n.dev); err != nil {
			return failed(err)
		}
		return c.made(dir, n.name)
	}
	mounts, ok := w.server.mounts(c)
	if !ok {
		return pass
	}
	defer unix.Close(mounts)
	file, err := underNode(dir, n)
	if err != nil {
		return failed(err)
	}
	defer unix.Close(file)
	var st unix.Stat_t
	if err := unix.Fstat(file, &st); err != nil {
		return failed(err)
	}
	bound, err := w.coverFile(mounts, file, &st, n)
	if err != nil {
		unmake(dir, n.name, &st)
		return failed(err)
	}
	defer bound.Close()
	v := w.attached(c, bound)
	if v.errno != 0 {
		unmake(dir, n.name, &st)
	}
	return v
}

// underNode makes what lies under a bound node: a node as well, which shows in other
// mount namespaces and in archives, or a plain file on overlays of the container's, which
// cannot make one.
func underNode(dir int, n node) (int, error) {
	err := unix.Mknodat(dir, n.name, n.mode, n.dev)
	if err == unix.EPERM || err == unix.EOPNOTSUPP {
		return unix.Openat(dir, n.name, unix.O_CREAT|unix.O_EXCL|unix.O_WRONLY|unix.O_NOFOLLOW|unix.O_CLOEXEC, n.mode&0o7777)
	}
	if err != nil {
		return -1, err
	}
	file, err := unix.Openat(dir, n.name, unix.O_PATH|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	if err != nil {
		return -1, err
	}
	var st unix.Stat_t
	if err := unix.Fstat(file, &st); err != nil || st.Rdev != uint64(n.dev) || st.Mode&unix.S_IFMT != n.mode&unix.S_IFMT {
		unix.Close(file)
		return -1, unix.EEXIST // the container has put something else there meanwhile
	}
	return file, nil
}

// coverFile binds a node over a file, of which it has owner and rights.
func (w *worker) coverFile(mounts, file int, st *unix.Stat_t, n node) (*os.File, error) {
	if err := w.capable(^uint64(0)); err != nil {
		return nil, err
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

// attached is the verdict for a mount that was attached: it goes if the caller has gone, as
// in [caller.made]. The thread is in the mount's namespace.
func (w *worker) attached(c *call, mount *os.File) verdict {
	if c.waits() {
		return verdict{}
	}
	// By the host's procfs, as there need not be one where the mount is.
	if unix.Fchdir(w.server.proc) == nil {
		_ = unix.Unmount("thread-self/fd/"+itoa(int32(mount.Fd())), unix.MNT_DETACH)
	}
	return fail(unix.EINTR)
}
