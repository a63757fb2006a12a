// SPDX-License-Identifier: Apache-2.0

package trap

import (
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// Capabilities by number, capabilities(7).
const (
	capDACOverride   = unix.CAP_DAC_OVERRIDE
	capDACReadSearch = unix.CAP_DAC_READ_SEARCH
	capMknod         = unix.CAP_MKNOD
	capSysAdmin      = unix.CAP_SYS_ADMIN
	capSysModule     = unix.CAP_SYS_MODULE
)

// walk resolves the caller's path to an O_PATH file; flags are those of open, such as
// unix.O_DIRECTORY. Relative paths start at dirfd, a file of the caller.
//
// Only the caller's own magic links are followed, and only at the beginning of a path:
// /proc/self/{cwd,root,fd/N}. In the container's procfs this thread has no "self", and other
// magic links could lead where only the shim may go. The links are read in the host's procfs.
// Nothing else may be walked there, because it shows all processes of the host.
func (k *walker) walk(dirfd int32, path string, flags int) (int, error) {
	w, c, id := k.w, k.c, k.id
	how := unix.OpenHow{Flags: uint64(unix.O_PATH | unix.O_CLOEXEC | flags), Resolve: unix.RESOLVE_NO_MAGICLINKS}
	base := unix.AT_FDCWD
	magic, thread, rest, plain := ownLink(path)
	if magic != "" {
		if !isDirectoryLink(magic) {
			return -1, unix.ENOENT // nothing can be made or mounted there
		}
		fd, err := w.openOfCaller(func() (int, error) { return c.ownFile(id, thread, magic) })
		if err != nil {
			return -1, err
		}
		if rest == "" {
			return fd, nil
		}
		defer unix.Close(fd)
		base, path = fd, rest
	} else if path = plain; dirfd != unix.AT_FDCWD && !strings.HasPrefix(path, "/") {
		fd, err := w.numbered(c, dirfd)
		if err != nil {
			return -1, err
		}
		defer unix.Close(fd)
		base = fd
	}
	fd, err := k.open(base, path, how)
	if err != unix.EACCES || !id.has(capDACOverride) && !id.has(capDACReadSearch) {
		return fd, err
	}
	// The caller may pass directories that are closed to its ids, but only if their owners are in
	// its user namespace (capable_wrt_inode_uidgid).
	defer func(rights uint64) { k.rights = rights }(k.rights)
	k.rights = 1<<capDACReadSearch | 1<<capMknod
	if fd, err = k.open(base, path, how); err != nil {
		return -1, err
	}
	if err := k.searchable(fd); err != nil {
		unix.Close(fd)
		return -1, err
	}
	return fd, nil
}

// numbered opens a file of the caller by its number. It fails with EBADF if there is none.
func (w *worker) numbered(c *call, fd int32) (int, error) {
	out, err := w.openOfCaller(func() (int, error) { return c.file("fd/"+itoa(fd), unix.O_PATH) })
	if err == unix.ENOENT {
		err = unix.EBADF
	}
	return out, err
}

// ownLink splits a path that leads through a link in its caller's own /proc directory:
// /proc/self/fd/3/x becomes the link "fd/3" and the rest "x", which never begins with a slash.
// Any other path is returned as plain. If it only passes through the directory, as
// /proc/self/../x does, plain leaves that part out: the directory is opened in the host's procfs,
// where ".." would lead into the host's /proc. thread reports that the link belongs to the
// calling thread and not to its process.
func ownLink(path string) (magic string, thread bool, rest, plain string) {
	for {
		tail, up, ok := cutSelf(path)
		if !ok {
			return "", false, "", path
		}
		var own []string
		left := false
		for !left {
			if n := len(own); n == 2 || n == 1 && own[0] != "fd" && own[0] != "task" || tail == "" && n > 0 {
				return strings.Join(own, "/"), strings.HasPrefix(path, threadSelf), strings.TrimLeft(tail, "/"), ""
			}
			if tail == "" {
				return "", false, "", path // the directory itself
			}
			var part string
			part, tail, _ = strings.Cut(tail, "/")
			switch {
			case part == "" || part == ".":
			case part != "..":
				own = append(own, part)
			case len(own) > 0:
				own = own[:len(own)-1]
			default:
				path, left = up+tail, true
			}
		}
	}
}

// cutSelf cuts a path after its caller's own directory in /proc; up is the directory above.
func cutSelf(path string) (tail, up string, ok bool) {
	if tail, ok = strings.CutPrefix(path, "/proc/self/"); ok {
		return tail, "/proc/", true
	}
	tail, ok = strings.CutPrefix(path, threadSelf)
	return tail, "/proc/self/task/", ok
}

const threadSelf = "/proc/thread-self/"

// ownFile opens a link of the caller, or of its process. The links of a process are those of its
// leading thread, which may have another root, working directory and other files.
func (c *caller) ownFile(id *identity, thread bool, link string) (int, error) {
	if thread || id.process == c.tid {
		return c.file(link, unix.O_PATH)
	}
	fd, err := unix.Openat(c.proc, strconv.Itoa(id.process)+"/"+link, unix.O_PATH|unix.O_CLOEXEC, 0)
	// While the caller waits, no other process can have the number of its process.
	if !c.waits() {
		if err == nil {
			unix.Close(fd)
		}
		return -1, errGone
	}
	return fd, err
}

// isDirectoryLink reports whether a link in the caller's procfs directory may lead to one of the
// caller's directories: cwd, root and fd/N.
func isDirectoryLink(magic string) bool {
	number, isFile := strings.CutPrefix(magic, "fd/")
	_, err := strconv.ParseUint(number, 10, 31)
	return magic == "cwd" || magic == "root" || isFile && err == nil
}

// searchable checks the directories from fd up to the caller's root. Each must be open to the
// caller's ids, or belong to ids of its user namespace.
func (k *walker) searchable(fd int) error {
	s := k.w.server
	how := unix.OpenHow{Flags: unix.O_PATH | unix.O_DIRECTORY | unix.O_CLOEXEC}
	at, err := k.open(fd, ".", how)
	if err == unix.ENOTDIR {
		return unix.EACCES // only directories are asked for
	}
	for err == nil {
		var st, up unix.Statx_t
		if st, err = cachedStat(at); err != nil {
			break
		}
		if !s.mapped(&st) && st.Mode&0o001 == 0 {
			err = unix.EACCES
			break
		}
		var parent int
		if parent, err = k.open(at, "..", how); err != nil {
			break
		}
		unix.Close(at)
		at = parent
		if up, err = cachedStat(at); err != nil {
			break
		}
		if up.Dev_major == st.Dev_major && up.Dev_minor == st.Dev_minor && up.Ino == st.Ino { // the root
			break
		}
	}
	if at >= 0 {
		unix.Close(at)
	}
	return err
}

// mapped reports whether both owners of a file are ids of the container.
func (s *Server) mapped(st *unix.Statx_t) bool {
	_, u := s.cfg.UID.ToContainer(st.Uid)
	_, g := s.cfg.GID.ToContainer(st.Gid)
	return u && g
}

// split cuts a path into directory and last part, as mknod(2) needs them. The last part is never
// "." or "..", because these exist.
func split(path string) (dir, name string, e unix.Errno) {
	if trimmed := strings.TrimRight(path, "/"); trimmed != path {
		return "", "", unix.ENOENT // the name of a directory, which a node cannot have
	}
	dir, name = ".", path
	if i := strings.LastIndexByte(path, '/'); i >= 0 {
		dir, name = path[:i+1], path[i+1:]
	}
	switch {
	case name == "." || name == "..":
		return "", "", unix.EEXIST
	case len(name) > unix.NAME_MAX:
		return "", "", unix.ENAMETOOLONG
	}
	return dir, name, 0
}
