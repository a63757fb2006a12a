// SPDX-License-Identifier: Apache-2.0

package mirror

import (
	"errors"
	"os"

	"golang.org/x/sys/unix"

	"sysbox/runtime/sys"
)

// beneath is the only allowed lookup in the root: no links, no other mounts.
const beneath = unix.RESOLVE_BENEATH | unix.RESOLVE_NO_SYMLINKS | unix.RESOLVE_NO_MAGICLINKS | unix.RESOLVE_NO_XDEV

// open opens what a node leads to now. flags get O_NOFOLLOW.
func (m *Mirror) open(n *node, flags uint64) (*os.File, error) {
	path, err := m.nodes.path(n)
	if err != nil {
		return nil, err
	}
	return sys.Openat2(m.root, path, unix.OpenHow{Flags: flags | unix.O_NOFOLLOW, Resolve: beneath})
}

// handle opens the node of a call to inspect or change its metadata, not its content.
func (m *Mirror) handle(id uint64) (*os.File, error) {
	n, err := m.nodes.get(id)
	if err != nil {
		return nil, err
	}
	return m.open(n, unix.O_PATH)
}

// dir opens the node of a call as a directory, to access names in it.
func (m *Mirror) dir(id uint64) (*node, *os.File, error) {
	n, err := m.nodes.get(id)
	if err != nil {
		return nil, nil, err
	}
	f, err := m.open(n, unix.O_PATH|unix.O_DIRECTORY)
	return n, f, err
}

// do executes a call and returns its answer without the header.
func (m *Mirror) do(r *request) ([]byte, error) {
	switch r.opcode {
	case opLookup:
		return m.inDir(r, 0, false, func(int, string) error { return nil })
	case opMknod:
		return m.inDir(r, 16, true, func(dir int, name string) error {
			dev := r.u32(4)
			return unix.Mknodat(dir, name, r.u32(0), int(unix.Mkdev(dev>>8&0xfff, dev&0xff|dev>>12&^0xff)))
		})
	case opMkdir:
		return m.inDir(r, 8, true, func(dir int, name string) error { return unix.Mkdirat(dir, name, r.u32(0)&0o7777) })
	case opSymlink:
		return m.inDir(r, 0, true, func(dir int, name string) error {
			target, err := r.text(0, 1)
			if err != nil {
				return err
			}
			return unix.Symlinkat(target, dir, name)
		})
	case opLink:
		return m.inDir(r, 8, true, func(dir int, name string) error {
			old, err := m.handle(r.u64(0))
			if err != nil {
				return err
			}
			defer old.Close()
			return unix.Linkat(int(old.Fd()), "", dir, name, unix.AT_EMPTY_PATH)
		})
	case opUnlink:
		return nil, m.remove(r, 0)
	case opRmdir:
		return nil, m.remove(r, unix.AT_REMOVEDIR)
	case opRename:
		return nil, m.rename(r, 8, 0)
	case opRename2:
		return nil, m.rename(r, 16, r.u32(8))
	case opGetattr:
		return m.getattr(r)
	case opSetattr:
		return m.setattr(r)
	case opReadlink:
		return m.readlink(r)
	case opSetxattr, opGetxattr, opListxattr, opRemovexattr:
		return m.xattr(r)
	case opStatfs:
		return m.statfs()
	case opOpen, opOpendir, opCreate:
		return m.openFile(r)
	case opRelease, opReleasedir:
		m.files.release(r.u64(0))
		return nil, nil
	case opRead, opReaddir, opWrite, opFsync, opFsyncdir, opFallocate, opLseek:
		f, err := m.files.get(r.u64(0))
		if err != nil {
			return nil, err
		}
		var out []byte
		err = lend(f, func(fd int) (err error) {
			out, err = withFile(r, fd)
			return err
		})
		return out, err
	}
	// For most of these the kernel then stops making the call: opFlush, for example,
	// since no data is held back that a close would have to wait for.
	return nil, unix.ENOSYS
}

// inDir does something with a name in the directory of a call, and returns the entry of the
// name afterwards. The name follows a structure of this size. made: the object is new.
func (m *Mirror) inDir(r *request, size int, made bool, do func(dir int, name string) error) ([]byte, error) {
	name, err := r.name(size, 0)
	if err != nil {
		return nil, err
	}
	parent, dir, err := m.dir(r.node)
	if err != nil {
		return nil, err
	}
	defer dir.Close()
	if err := do(int(dir.Fd()), name); err != nil {
		return nil, err
	}
	var st unix.Stat_t
	if err := unix.Fstatat(int(dir.Fd()), name, &st, unix.AT_SYMLINK_NOFOLLOW); err != nil {
		return nil, err
	}
	return m.entry(m.nodes.found(parent, name, st.Mode, made).id, &st), nil
}

func (m *Mirror) remove(r *request, flags int) error {
	name, err := r.name(0, 0)
	if err != nil {
		return err
	}
	parent, dir, err := m.dir(r.node)
	if err != nil {
		return err
	}
	defer dir.Close()
	if err := unix.Unlinkat(int(dir.Fd()), name, flags); err != nil {
		return err
	}
	m.nodes.removed(parent, name)
	return nil
}

func (m *Mirror) rename(r *request, size int, flags uint32) error {
	from, err := r.name(size, 0)
	if err != nil {
		return err
	}
	to, err := r.name(size, 1)
	if err != nil {
		return err
	}
	fromNode, fromDir, err := m.dir(r.node)
	if err != nil {
		return err
	}
	defer fromDir.Close()
	toNode, toDir, err := m.dir(r.u64(0))
	if err != nil {
		return err
	}
	defer toDir.Close()
	if err := unix.Renameat2(int(fromDir.Fd()), from, int(toDir.Fd()), to, uint(flags)); err != nil {
		return err
	}
	m.nodes.renamed(place{fromNode, from}, place{toNode, to}, flags&unix.RENAME_EXCHANGE != 0)
	return nil
}

const (
	setMode     = 1 << 0
	setUID      = 1 << 1
	setGID      = 1 << 2
	setSize     = 1 << 3
	setAtime    = 1 << 4
	setMtime    = 1 << 5
	setByFile   = 1 << 6
	setAtimeNow = 1 << 7
	setMtimeNow = 1 << 8
)

func (m *Mirror) getattr(r *request) ([]byte, error) {
	if r.u32(0)&1 != 0 { // by an open file whose name may be gone
		if f, err := m.files.get(r.u64(8)); err == nil {
			return m.stat(f)
		}
	}
	f, err := m.handle(r.node)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	return m.stat(f)
}

func (m *Mirror) stat(f *os.File) ([]byte, error) {
	var st unix.Stat_t
	if err := lend(f, func(fd int) error { return unix.Fstat(fd, &st) }); err != nil {
		return nil, err
	}
	return m.attr(&st), nil
}

// lend passes the number of a file to use, and prevents closing it meanwhile: a slow call may
// still be running when the caller has closed the file.
func lend(f *os.File, use func(fd int) error) error {
	conn, err := f.SyscallConn()
	if err != nil {
		return err
	}
	var failed error
	if err := conn.Control(func(fd uintptr) { failed = use(int(fd)) }); err != nil {
		return unix.EBADF
	}
	return failed
}

func (m *Mirror) setattr(r *request) ([]byte, error) {
	valid := r.u32(0)
	var f *os.File
	var err error
	if valid&setByFile != 0 {
		f, err = m.files.get(r.u64(8))
	} else if f, err = m.handle(r.node); err == nil {
		defer f.Close()
	}
	if err != nil {
		return nil, err
	}
	if err := lend(f, func(fd int) error { return m.change(r, fd, valid) }); err != nil {
		return nil, err
	}
	return m.stat(f)
}

// change applies a struct fuse_setattr_in to an open file, by O_PATH or not. The path in
// procfs leads to the file itself, even if it is a link.
func (m *Mirror) change(r *request, fd int, valid uint32) error {
	path := numberPath(fd)
	if valid&(setUID|setGID) != 0 {
		uid, gid := -1, -1
		if valid&setUID != 0 {
			id, ok := m.uid.ToHost(r.u32(76))
			if !ok {
				return unix.EINVAL
			}
			uid = int(id)
		}
		if valid&setGID != 0 {
			id, ok := m.gid.ToHost(r.u32(80))
			if !ok {
				return unix.EINVAL
			}
			gid = int(id)
		}
		if err := unix.Fchownat(fd, "", uid, gid, unix.AT_EMPTY_PATH); err != nil {
			return err
		}
	}
	if valid&setMode != 0 {
		if err := unix.Chmod(path, r.u32(68)&0o7777); err != nil {
			return err
		}
	}
	if valid&setSize != 0 {
		var st unix.Stat_t
		if err := unix.Fstat(fd, &st); err != nil {
			return err
		}
		if st.Mode&unix.S_IFMT != unix.S_IFREG {
			return unix.EINVAL
		}
		if err := unix.Truncate(path, int64(r.u64(16))); err != nil {
			return err
		}
	}
	if valid&(setAtime|setMtime) == 0 {
		return nil
	}
	times := []unix.Timespec{{Nsec: unix.UTIME_OMIT}, {Nsec: unix.UTIME_OMIT}}
	for i, bits := range [][2]uint32{{setAtime, setAtimeNow}, {setMtime, setMtimeNow}} {
		switch {
		case valid&bits[1] != 0:
			times[i].Nsec = unix.UTIME_NOW
		case valid&bits[0] != 0:
			times[i] = unix.Timespec{Sec: int64(r.u64(32 + 8*i)), Nsec: int64(r.u32(56 + 4*i))}
		}
	}
	return unix.UtimesNanoAt(unix.AT_FDCWD, path, times, 0)
}

func (m *Mirror) readlink(r *request) ([]byte, error) {
	f, err := m.handle(r.node)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	b := make([]byte, unix.PathMax)
	n, err := unix.Readlinkat(int(f.Fd()), "", b)
	return b[:max(n, 0)], err
}

func (m *Mirror) statfs() ([]byte, error) {
	var st unix.Statfs_t
	if err := unix.Fstatfs(int(m.root.Fd()), &st); err != nil {
		return nil, err
	}
	b := make([]byte, 80) // struct fuse_kstatfs
	for i, v := range []uint64{st.Blocks, st.Bfree, st.Bavail, st.Files, st.Ffree} {
		order.PutUint64(b[8*i:], v)
	}
	for i, v := range []uint32{uint32(st.Bsize), uint32(st.Namelen), uint32(st.Frsize)} {
		order.PutUint32(b[40+4*i:], v)
	}
	return b, nil
}

const (
	// openDirect tells the kernel not to cache pages of a file.
	openDirect = 1 << 0
	// kept are the flags of the caller that are passed on. O_NONBLOCK is always set: a lease
	// of the container would make the open wait.
	kept = unix.O_ACCMODE | unix.O_APPEND | unix.O_TRUNC | unix.O_DSYNC | unix.O_SYNC | unix.O_NOATIME
)

// openFile opens a file or directory, or creates a file.
func (m *Mirror) openFile(r *request) ([]byte, error) {
	flags := uint64(r.u32(0))
	switch r.opcode {
	case opOpendir:
		n, err := m.nodes.get(r.node)
		if err != nil {
			return nil, err
		}
		f, err := m.open(n, unix.O_RDONLY|unix.O_DIRECTORY)
		if err != nil {
			return nil, err
		}
		return opened(m.files.add(f), 0), nil
	case opOpen:
		f, err := m.handle(r.node)
		if err != nil {
			return nil, err
		}
		defer f.Close()
		if f, err = content(f, flags); err != nil {
			return nil, err
		}
		return opened(m.files.add(f), openDirect), nil
	}
	var f *os.File
	entry, err := m.inDir(r, 16, true, func(dir int, name string) error {
		fd, err := unix.Openat2(dir, name, &unix.OpenHow{
			Flags: flags&kept | unix.O_CREAT | unix.O_EXCL | unix.O_NOFOLLOW | unix.O_NONBLOCK | unix.O_CLOEXEC,
			Mode:  uint64(r.u32(4) & 0o7777), Resolve: beneath,
		})
		if err == nil {
			f = os.NewFile(uintptr(fd), name)
			return nil
		}
		if !errors.Is(err, unix.EEXIST) || flags&unix.O_EXCL != 0 {
			return err
		}
		// The container has created it since the kernel looked it up.
		fd, err = unix.Openat2(dir, name, &unix.OpenHow{Flags: unix.O_PATH | unix.O_NOFOLLOW | unix.O_CLOEXEC, Resolve: beneath})
		if err != nil {
			return err
		}
		at := os.NewFile(uintptr(fd), name)
		defer at.Close()
		f, err = content(at, flags)
		return err
	})
	if err != nil {
		if f != nil {
			f.Close()
		}
		return nil, err
	}
	return append(entry, opened(m.files.add(f), openDirect)...), nil
}

// content opens the object of an O_PATH handle for its content: only a regular file, whose
// open has no side effects.
func content(at *os.File, flags uint64) (*os.File, error) {
	var st unix.Stat_t
	if err := unix.Fstat(int(at.Fd()), &st); err != nil {
		return nil, err
	}
	if st.Mode&unix.S_IFMT != unix.S_IFREG {
		return nil, unix.ESTALE // it was a file when the kernel looked it up
	}
	fd, err := unix.Open(fdPath(at), int(flags&kept)|unix.O_NONBLOCK|unix.O_NOCTTY|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, err
	}
	return os.NewFile(uintptr(fd), "content"), nil
}

// withFile executes a call on an open file.
func withFile(r *request, fd int) ([]byte, error) {
	switch r.opcode {
	case opRead:
		b := make([]byte, min(r.u32(16), maxWrite))
		n, err := whole(b, func(b []byte, at int) (int, error) { return unix.Pread(fd, b, int64(r.u64(8))+int64(at)) })
		return b[:n], err
	case opReaddir:
		return readdir(fd, int64(r.u64(8)), int(min(r.u32(16), maxWrite)))
	case opWrite:
		b := r.data[min(40, len(r.data)):]
		n, err := whole(b[:min(len(b), int(r.u32(16)))], func(b []byte, at int) (int, error) {
			return unix.Pwrite(fd, b, int64(r.u64(8))+int64(at))
		})
		if err != nil && n == 0 {
			return nil, err
		}
		out := make([]byte, 8)
		order.PutUint32(out, uint32(n))
		return out, nil
	case opFsync, opFsyncdir:
		if r.u32(8)&1 != 0 {
			return nil, unix.Fdatasync(fd)
		}
		return nil, unix.Fsync(fd)
	case opFallocate:
		return nil, unix.Fallocate(fd, r.u32(24), int64(r.u64(8)), int64(r.u64(16)))
	case opLseek:
		at, err := unix.Seek(fd, int64(r.u64(8)), int(r.u32(16)))
		out := make([]byte, 8)
		order.PutUint64(out, uint64(at))
		return out, err
	}
	return nil, unix.ENOSYS
}

// whole repeats an operation that may be partial, until all is done or there is no progress.
func whole(b []byte, do func(b []byte, at int) (int, error)) (done int, err error) {
	for done < len(b) {
		n, err := do(b[done:], done)
		if err == unix.EINTR {
			continue
		}
		if err != nil || n == 0 {
			return done, err
		}
		done += n
	}
	return done, nil
}

const direntSize = 24 // struct fuse_dirent, and linux_dirent64 has 19 bytes before the name

// readdir reads a directory from a position of the file system, into struct fuse_dirent of at
// most size bytes together.
func readdir(fd int, from int64, size int) ([]byte, error) {
	if _, err := unix.Seek(fd, from, unix.SEEK_SET); err != nil {
		return nil, err
	}
	// A fuse_dirent is at most 8 bytes longer than an entry of getdents64, which has at
	// least 24 bytes.
	b := make([]byte, size*3/4)
	n, err := unix.Getdents(fd, b)
	if err != nil {
		return nil, err
	}
	var out []byte
	for b = b[:n]; len(b) > 19; {
		length := int(order.Uint16(b[16:]))
		if length < 20 || length > len(b) {
			return nil, unix.EIO
		}
		name := b[19:length]
		for i, c := range name {
			if c == 0 {
				name = name[:i]
				break
			}
		}
		e := make([]byte, (direntSize+len(name)+7)&^7)
		copy(e, b[:8])       // ino
		copy(e[8:], b[8:16]) // offset of the next
		order.PutUint32(e[16:], uint32(len(name)))
		order.PutUint32(e[20:], uint32(b[18]))
		copy(e[direntSize:], name)
		if len(out)+len(e) > size {
			break
		}
		out, b = append(out, e...), b[length:]
	}
	return out, nil
}

// forget drops numbers that the kernel does not use any more.
func (m *Mirror) forget(r *request) {
	if r.opcode == opForget {
		m.nodes.forget(r.node, r.u64(0))
		return
	}
	for i := range min(int(r.u32(0)), len(r.data)/16) {
		m.nodes.forget(r.u64(8+16*i), r.u64(16+16*i))
	}
}
