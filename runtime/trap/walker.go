// SPDX-License-Identifier: Apache-2.0

package trap

import (
	"golang.org/x/sys/unix"

	"sysbox/runtime/delegate"
	"sysbox/runtime/program"
)

// walker resolves a caller's paths, with the caller's ids and the given capabilities of the host.
//
// The container may have mounted a FUSE file system whose server never answers, or an overlay
// above one. A thread of the shim that waits for it could not be given up, and would keep the
// shim from ending. So the worker itself resolves only what the kernel has in memory
// (RESOLVE_CACHED, Linux 5.12). A process in the container's cgroups does the rest.
type walker struct {
	w      *worker
	c      *call
	id     *identity
	rights uint64
	// root and cwd are the caller's, opened with O_PATH.
	root, cwd int
	// onHostFS reports whether the root is on one of the host's file systems, so that the worker
	// can enter it.
	onHostFS bool
}

// walker returns a walker for a call; false if the caller has gone.
func (w *worker) walker(c *call, id *identity, rights uint64) (*walker, bool) {
	root, cwd, ok := c.rootAndCwd()
	if !ok {
		return nil, false
	}
	st, err := cachedStat(root)
	near := err == nil && w.server.hostDevs[unix.Mkdev(st.Dev_major, st.Dev_minor)]
	return &walker{w: w, c: c, id: id, rights: rights, root: root, cwd: cwd, onHostFS: near}, true
}

func (k *walker) close() {
	unix.Close(k.root)
	unix.Close(k.cwd)
}

// cachedStat returns what the kernel knows of an open file. It asks no server of a file system.
func cachedStat(fd int) (st unix.Statx_t, err error) {
	err = unix.Statx(fd, "", unix.AT_EMPTY_PATH|unix.AT_STATX_DONT_SYNC, unix.STATX_BASIC_STATS|unix.STATX_MNT_ID, &st)
	return st, err
}

// enterRoot makes the caller's root the worker's, and takes on the caller's identity.
// [worker.run] undoes both.
func (k *walker) enterRoot() error {
	w := k.w
	if w.changed.fs {
		return w.setCaps(k.rights)
	}
	w.changed.fs = true
	if unix.Fchdir(k.root) != nil || unix.Chroot(".") != nil {
		return errPass
	}
	return w.setCreds(k.id, k.rights)
}

// open opens a path relative to base, which may be unix.AT_FDCWD.
func (k *walker) open(base int, path string, how unix.OpenHow) (int, error) {
	if k.onHostFS {
		if err := k.enterRoot(); err != nil {
			return -1, err
		}
		at := base
		if base == unix.AT_FDCWD {
			at = k.cwd
		}
		cached := how
		cached.Resolve |= delegate.ResolveCached
		fd, err := unix.Openat2(at, path, &cached)
		if err != unix.EAGAIN && err != unix.EINTR {
			return fd, err
		}
	}
	return k.openByDelegate(base, path, how)
}

// openByDelegate is [walker.open] in a process of its own.
func (k *walker) openByDelegate(base int, path string, how unix.OpenHow) (int, error) {
	files := map[int]int{fdRoot: k.root, fdCwd: k.cwd}
	from := num(unix.AT_FDCWD)
	if base != unix.AT_FDCWD {
		files[fdDir], from = base, num(fdDir)
	}
	f, v := k.w.fetch(files, append(enterRootAndCwd(), asFileMaker(k.id, k.rights)...), program.Program{delegate.Open(from, path, how)}, "file")
	if f == nil {
		return -1, v.err()
	}
	defer f.Close()
	return unix.FcntlInt(f.Fd(), unix.F_DUPFD_CLOEXEC, 0)
}

// enterRootAndCwd enters a caller's root and working directory.
func enterRootAndCwd() program.Program {
	return program.Program{
		step("open the root", unix.SYS_FCHDIR, num(fdRoot)),
		step("enter the root", unix.SYS_CHROOT, program.Str(".")),
		step("enter the working directory", unix.SYS_FCHDIR, num(fdCwd)),
	}
}

// pathOf returns the path of an open file, relative to the caller's root.
func (k *walker) pathOf(fd int) (string, error) {
	if !k.onHostFS {
		return "", errPass
	}
	if err := k.enterRoot(); err != nil {
		return "", err
	}
	buf := make([]byte, unix.PathMax)
	n, err := unix.Readlinkat(k.w.server.proc, "thread-self/fd/"+itoa(int32(fd)), buf)
	if err == nil && (n == 0 || buf[0] != '/') {
		err = unix.ENOENT
	}
	return string(buf[:max(n, 0)]), err
}
