package trap

import (
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// capabilities by number, capabilities(7).
const (
	capDACOverride   = unix.CAP_DAC_OVERRIDE
	capDACReadSearch = unix.CAP_DAC_READ_SEARCH
	capMknod         = unix.CAP_MKNOD
	capSysAdmin      = unix.CAP_SYS_ADMIN
	capSysModule     = unix.CAP_SYS_MODULE
)

// walk resolves the caller's path to an O_PATH file, with flags such as
// unix.O_DIRECTORY. dirfd is the caller's, for relative paths.
//
// Of magic links only the caller's own are followed, /proc/self/{cwd,root,fd/N} at the
// beginning: in the container's procfs this thread has no "self", and further
// ones could lead where only this process may go. They are taken from the host's procfs,
// of which nothing else may be walked: it tells of all the host's processes.
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
	// The caller may pass folders that are closed to its ids, but only those whose
	// owners are in its user namespace (capable_wrt_inode_uidgid).
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

// numbered opens a file of the caller's by its number: EBADF if there is none.
func (w *worker) numbered(c *call, fd int32) (int, error) {
	out, err := w.openOfCaller(func() (int, error) { return c.file("fd/"+itoa(fd), unix.O_PATH) })
	if err == unix.ENOENT {
		err = unix.EBADF
	}
	return out, err
}

// ownLink cuts a path that leads through a link of its caller's own folder in /proc, as
// /proc/self/fd/3/x does, into that link, "fd/3", and what follows, "x", which does not
// begin with a slash. Another path is returned as plain; one that only passes through the
// folder, as /proc/self/../x, without that. For the folder is opened in the host's procfs,
// and a step up from it would be one there. thread tells that the link is the calling
// thread's own and not its process's.
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
				return "", false, "", path // the folder itself
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

// cutSelf cuts a path behind its caller's own folder in /proc; up is the folder above that.
func cutSelf(path string) (tail, up string, ok bool) {
	if tail, ok = strings.CutPrefix(path, "/proc/self/"); ok {
		return tail, "/proc/", true
	}
	tail, ok = strings.CutPrefix(path, threadSelf)
	return tail, "/proc/self/task/", ok
}

const threadSelf = "/proc/thread-self/"

// ownFile opens a link of the caller's, or of its process: those are its leading thread's,
// which may have another root, working directory and other files.
func (c *caller) ownFile(id *identity, thread bool, link string) (int, error) {
	if thread || id.process == c.tid {
		return c.file(link, unix.O_PATH)
	}
	fd, err := unix.Openat(c.proc, strconv.Itoa(id.process)+"/"+link, unix.O_PATH|unix.O_CLOEXEC, 0)
	// As long as the caller waits, no other process has its process's number.
	if !c.waits() {
		if err == nil {
			unix.Close(fd)
		}
		return -1, errGone
	}
	return fd, err
}

// isFolderLink tells of the links of a caller's folder that lead to a folder of the
// caller's: cwd, root and fd/N.
func isDirectoryLink(magic string) bool {
	number, isFile := strings.CutPrefix(magic, "fd/")
	_, err := strconv.ParseUint(number, 10, 31)
	return magic == "cwd" || magic == "root" || isFile && err == nil
}

// searchable checks the folders from fd up to the caller's root: each must be open to
// the caller's ids, or belong to ids of its user namespace.
func (k *walker) searchable(fd int) error {
	s := k.w.server
	how := unix.OpenHow{Flags: unix.O_PATH | unix.O_DIRECTORY | unix.O_CLOEXEC}
	at, err := k.open(fd, ".", how)
	if err == unix.ENOTDIR {
		return unix.EACCES // what is asked for are folders
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

// mapped tells whether both owners of a file are ids of the container.
func (s *Server) mapped(st *unix.Statx_t) bool {
	_, u := s.cfg.UID.ToContainer(st.Uid)
	_, g := s.cfg.GID.ToContainer(st.Gid)
	return u && g
}

// split cuts a path into folder and last part, as mknod(2) needs them. The last part is
// never "." or "..", which exist.
func split(path string) (dir, name string, e unix.Errno) {
	if trimmed := strings.TrimRight(path, "/"); trimmed != path {
		return "", "", unix.ENOENT // a folder's name, and nodes are none
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
