// SPDX-License-Identifier: Apache-2.0

package trap

import (
	"encoding/binary"
	"os"

	"golang.org/x/sys/unix"

	"sysbox/runtime/program"
)

// openTree answers open_tree(2) as [worker.bind] answers mount(2).
func openTree(w *worker, c *call) response { return w.openTree(c, nil) }

// openTreeAttr answers open_tree_attr(2).
func openTreeAttr(w *worker, c *call) response {
	const size = 32 // MOUNT_ATTR_SIZE_VER0
	if c.args[4] != size {
		return pass
	}
	attr := make([]byte, size)
	if c.read(c.args[3], attr) != nil {
		return pass
	}
	if (binary.LittleEndian.Uint64(attr)|binary.LittleEndian.Uint64(attr[8:]))&unix.MOUNT_ATTR_IDMAP != 0 {
		return pass // the file system belongs to the host
	}
	return w.openTree(c, attr)
}

// openTree gives the caller a detached copy of one of the [bindablePaths]. The kernel refuses to
// make it because mounts below are locked. open_tree returns an O_PATH file, which cannot be
// handed over. So the caller gets a file of the copy's root directory, and the shim keeps the
// mount until the caller moves it.
func (w *worker) openTree(c *call, attr []byte) response {
	const known = unix.OPEN_TREE_CLONE | unix.OPEN_TREE_CLOEXEC | unix.AT_EMPTY_PATH | unix.AT_NO_AUTOMOUNT | unix.AT_SYMLINK_NOFOLLOW
	if uint32(c.args[2])&^known != 0 {
		return pass
	}
	id, mounts, ok := w.server.mayMount(c)
	if !ok {
		return pass
	}
	unix.Close(mounts)
	k, ok := w.walker(c, id, 0)
	if !ok {
		return pass
	}
	defer k.close()
	follow := 0
	if c.args[2]&unix.AT_SYMLINK_NOFOLLOW != 0 {
		follow = unix.O_NOFOLLOW
	}
	at, err := k.walkAt(int32(c.args[0]), c.args[1], c.args[2]&unix.AT_EMPTY_PATH != 0, follow)
	if err != nil {
		return pass
	}
	ns, err := namespaceOf(at, "")
	unix.Close(at)
	dir, ok := w.server.bindable[ns]
	if err != nil || !ok {
		return pass
	}
	calls := cloneMount(num(unix.AT_FDCWD), dir)
	if attr != nil {
		calls = append(calls, step("change the copy", unix.SYS_MOUNT_SETATTR, program.Result("tree"), program.Str(""), num(unix.AT_EMPTY_PATH), program.Bytes(attr), num(len(attr))))
	}
	clone, v := w.fetch(map[int]int{fdFrom: int(w.server.cfg.Tree.Fd())}, nil, calls, "tree")
	if clone == nil {
		return v
	}
	fd, err := unix.Openat(w.server.proc, "thread-self/fd/"+itoa(int32(clone.Fd())), unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		clone.Close()
		return failure(err)
	}
	handedOver, err := w.server.detached.keep(clone)
	if err != nil {
		unix.Close(fd)
		clone.Close()
		return failure(err)
	}
	return response{file: os.NewFile(uintptr(fd), dir), closeOnExec: c.args[2]&unix.OPEN_TREE_CLOEXEC != 0, onClose: handedOver}
}

// walkAt is [walker.walk] for a path in the caller's memory. If empty is true, an empty path
// means dirfd itself.
func (k *walker) walkAt(dirfd int32, addr uint64, empty bool, flags int) (int, error) {
	w, c := k.w, k.c
	var path string
	err := w.withPtrace(func() (err error) {
		path, err = c.text(addr, unix.PathMax, unix.ENAMETOOLONG)
		return err
	})
	switch {
	case err != nil:
		return -1, err
	case path != "":
		return k.walk(dirfd, path, flags)
	case !empty:
		return -1, unix.ENOENT
	case dirfd == unix.AT_FDCWD:
		return w.openOfCaller(func() (int, error) { return c.file("cwd", unix.O_PATH) })
	}
	return w.numbered(c, dirfd)
}

// moveMount moves a mount that openTree has made. The shim must not keep it open after that, or
// the caller could not unmount it. The kernel moves all other mounts.
func moveMount(w *worker, c *call) response {
	s := w.server
	if s.detached.empty() {
		return pass
	}
	const known = unix.MOVE_MOUNT_F_SYMLINKS | unix.MOVE_MOUNT_F_AUTOMOUNTS | unix.MOVE_MOUNT_F_EMPTY_PATH |
		unix.MOVE_MOUNT_T_SYMLINKS | unix.MOVE_MOUNT_T_AUTOMOUNTS | unix.MOVE_MOUNT_T_EMPTY_PATH
	flags := c.args[4]
	id, mounts, ok := s.mayMount(c)
	if !ok || uint32(flags)&^known != 0 {
		return pass
	}
	defer unix.Close(mounts)
	if from, err := c.text(c.args[1], 1, unix.EINVAL); err != nil || from != "" {
		return pass
	}
	fd, err := c.file("fd/"+itoa(int32(c.args[0])), unix.O_PATH)
	if err != nil {
		return pass
	}
	mount := s.detached.take(fd)
	unix.Close(fd)
	if mount == nil {
		return pass
	}
	if v := w.moveDetached(c, id, mounts, mount, flags); v.errno != 0 || v.pass {
		s.detached.putBack(mount)
		return v
	}
	mount.Close()
	return response{}
}

func (w *worker) moveDetached(c *call, id *identity, mounts int, mount *os.File, flags uint64) response {
	k, ok := w.walker(c, id, 0)
	if !ok {
		return pass
	}
	defer k.close()
	follow := unix.O_NOFOLLOW
	if flags&unix.MOVE_MOUNT_T_SYMLINKS != 0 {
		follow = 0
	}
	at, err := k.walkAt(int32(c.args[2]), c.args[3], flags&unix.MOVE_MOUNT_T_EMPTY_PATH != 0, follow)
	if err != nil {
		return failure(err)
	}
	defer unix.Close(at)
	if !c.waits() {
		return fail(unix.EINTR)
	}
	return w.run(map[int]int{fdMounts: mounts, fdTree: int(mount.Fd()), fdDir: at}, nil, attachMount(num(fdTree)))
}
