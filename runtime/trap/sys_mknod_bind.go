// SPDX-License-Identifier: Apache-2.0

package trap

import (
	"encoding/binary"
	"os"
	"strconv"
	"sync"
	"unsafe"

	"golang.org/x/sys/unix"

	"sysbox/runtime/delegate"
	"sysbox/runtime/program"
	"sysbox/runtime/sys"
)

// nodeFS is a file system of the host for device nodes. Nodes cannot be opened on file systems
// that the container mounted (the kernel's SB_I_NODEV), so a node of this one is bound there. It
// is alone in a mount namespace of its own, because before Linux 6.15 only attached mounts can be
// bound. It has a limited number of inodes, which use the host's memory.
type nodeFS struct {
	mu     sync.Mutex
	dir    *os.File // guarded by mu; nil before the first node
	mounts *os.File // the namespace that contains dir
	next   int      // guarded by mu
	closed bool     // guarded by mu: a call may come after close
}

func (n *nodeFS) close() {
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
func (n *nodeFS) make() error {
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

// onlyMount attaches a mount as the root of this thread's new mount namespace, and detaches all
// other mounts.
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

// bind makes a node with this mode and owner. It calls attach with the node's mount namespace,
// directory and name, and unlinks the node afterwards: the node exists as long as its mount.
func (n *nodeFS) bind(mode uint32, dev int, uid, gid uint32, attach func(mounts, dir *os.File, name string)) error {
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
	attach(n.mounts, n.dir, name)
	return nil
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

// boundNode makes a node on a file system that the container mounted, where it cannot be opened,
// and binds one of the host over it. That is a mount, but it gives no more than the node: it
// covers a file that was made for it just now, in the caller's own mount namespace. So CAP_MKNOD
// suffices, as for the node itself; inner containers have no more.
//
// On a mount with the option nodev, the node is only made and cannot be opened. As on a machine,
// it can be removed and archived.
func (w *worker) boundNode(c *call, m nodeMaker, n node) response {
	if err := w.restoreCreds(); err != nil {
		return failure(err)
	}
	mounts, ok := w.server.ownMounts(c)
	if ok {
		defer unix.Close(mounts)
	}
	file, nodev, v := w.makeUnderNode(m, n)
	if file == nil {
		return v
	}
	defer file.Close()
	switch {
	case nodev && c.waits():
		return response{}
	case nodev:
		v = fail(unix.EINTR)
	case ok:
		v = w.bindOver(c, mounts, file, n)
	default:
		v = pass
	}
	if !v.done() {
		w.removeMade(m, n)
	}
	return v
}

// removeMade removes the file that was made. If the name now belongs to another file, the caller
// could have removed that as well.
func (w *worker) removeMade(m nodeMaker, n node) {
	_ = w.run(map[int]int{fdDir: m.dir}, m.setup, program.Program{
		step("remove the file", unix.SYS_UNLINKAT, num(fdDir), program.Str(n.name), num(0)),
	})
}

// bindOver binds a node over a file that was made for it.
func (w *worker) bindOver(c *call, mounts int, file *os.File, n node) response {
	st, err := cachedStat(int(file.Fd()))
	if err != nil {
		return failure(err)
	}
	bound, v := w.bindNode(mounts, file, &st, n)
	if bound == nil {
		return v
	}
	defer bound.Close()
	return w.attachedResponse(c, mounts, bound)
}

// makeUnderNode makes the file under a bound node. It is a node as well, which appears in other
// mount namespaces and in archives. On the container's overlays, which cannot make one, it is a
// plain file. nodev reports whether devices cannot be opened there at all.
func (w *worker) makeUnderNode(m nodeMaker, n node) (file *os.File, nodev bool, v response) {
	open := func(flags int) program.Program {
		open := step("open the new file", unix.SYS_OPENAT, num(fdDir), program.Str(n.name), num(flags|unix.O_NOFOLLOW|unix.O_CLOEXEC), num(n.mode&0o7777))
		open.Label = "file"
		stat := &program.Buffer{Name: "struct statfs", N: statfsSize}
		return program.Program{
			open,
			step("read the flags of the mount", unix.SYS_FSTATFS, num(fdDir), stat),
			step("send the flags of the mount", unix.SYS_WRITE, num(delegate.ReplySocket), stat, num(stat.N)),
		}
	}
	var fs [statfsSize]byte
	file, v = w.fetchWithReply(map[int]int{fdDir: m.dir}, m.setup, append(program.Program{n.mknod()}, open(unix.O_PATH)...), "file", fs[:])
	if v.errno == unix.EPERM || v.errno == unix.EOPNOTSUPP {
		refused := v
		if file, v = w.fetchWithReply(map[int]int{fdDir: m.dir}, m.setup, open(unix.O_CREAT|unix.O_EXCL|unix.O_WRONLY), "file", fs[:]); file != nil && hasNoDevices(fs) {
			file.Close()
			w.removeMade(m, n)
			return nil, false, refused
		}
		return file, false, v
	}
	if file == nil {
		return nil, false, passEACCES(v)
	}
	st, err := cachedStat(int(file.Fd()))
	if err != nil || unix.Mkdev(st.Rdev_major, st.Rdev_minor) != uint64(n.dev) || uint32(st.Mode)&unix.S_IFMT != n.mode&unix.S_IFMT {
		file.Close()
		return nil, false, fail(unix.EEXIST) // the container has put another file there
	}
	return file, hasNoDevices(fs), response{}
}

func hasNoDevices(fs [statfsSize]byte) bool {
	return binary.LittleEndian.Uint64(fs[statfsFlags:])&unix.ST_NODEV != 0
}

// statfsSize is the size of struct statfs, and statfsFlags the offset of its f_flags (statfs(2),
// on 64-bit architectures).
const (
	statfsSize  = int(unsafe.Sizeof(unix.Statfs_t{}))
	statfsFlags = int(unsafe.Offsetof(unix.Statfs_t{}.Flags))
)

// bindNode binds a node over a file, and gives it the file's owner and mode.
func (w *worker) bindNode(mounts int, file *os.File, st *unix.Statx_t, n node) (bound *os.File, v response) {
	err := w.server.nodeFS.bind(n.mode&unix.S_IFMT|uint32(st.Mode)&0o7777, n.dev, st.Uid, st.Gid, func(from, dir *os.File, name string) {
		calls := append(cloneMount(num(fdRoot), name), attachMount(program.Result("tree"))...)
		bound, v = w.fetch(map[int]int{fdFrom: int(from.Fd()), fdRoot: int(dir.Fd()), fdMounts: mounts, fdDir: int(file.Fd())}, nil, calls, "tree")
	})
	if err != nil {
		return nil, failure(err)
	}
	return bound, v
}

// attachedResponse is the response after a mount was attached. It detaches the mount if the
// caller has gone, as in [caller.nodeResponse].
func (w *worker) attachedResponse(c *call, mounts int, mount *os.File) response {
	if c.waits() || w.joinMounts(mounts) != nil {
		return response{}
	}
	// This uses the host's procfs, because the mount namespace may not have one.
	if unix.Fchdir(w.server.proc) == nil {
		_ = unix.Unmount("thread-self/fd/"+itoa(int32(mount.Fd())), unix.MNT_DETACH)
	}
	return fail(unix.EINTR)
}
