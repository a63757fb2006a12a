package trap

import (
	"os"

	"golang.org/x/sys/unix"

	"sysbox/runtime/sys"
)

// mount answers mount(2): plain binds of [shown], and overlays.
func mount(w *worker, c *call) verdict {
	if c.args[3]&unix.MS_BIND != 0 {
		return w.bind(c)
	}
	if c.args[2] == 0 {
		return pass
	}
	if !c.equals(c.args[2], "overlay") {
		return pass
	}
	return w.overlay(c)
}

// mounter tells whether the caller may mount in the mount namespace that it is in, of
// which it returns an open file, and who it is.
func (s *Server) mounter(c *call) (*identity, int, bool) {
	if !s.first(c) {
		return nil, -1, false
	}
	id, err := c.identity()
	if err != nil || !id.has(capSysAdmin) {
		return nil, -1, false
	}
	ns, ok := s.mounts(c)
	return id, ns, ok
}

// bind makes a bind of a folder of [shown] without what is mounted below it. The
// kernel refuses it (EINVAL), as mounts there are locked and could be hiding
// something; in the tree of the host's from which the container's was copied they
// are not.
func (w *worker) bind(c *call) verdict {
	id, mounts, ok := w.server.mounter(c)
	if !ok {
		return pass
	}
	defer unix.Close(mounts)
	source, err := c.path(c.args[0])
	if err != nil {
		return pass
	}
	target, err := c.path(c.args[1])
	if err != nil {
		return pass
	}
	if w.enter(c) != nil || w.become(id, 0) != nil {
		return pass
	}
	dir, ok := w.shown(c, id, unix.AT_FDCWD, source)
	if !ok {
		return pass
	}
	at, err := w.walk(c, id, unix.AT_FDCWD, target, 0)
	if err != nil {
		return failed(err)
	}
	defer unix.Close(at)
	if err := w.capable(^uint64(0)); err != nil {
		return failed(err)
	}
	clone, ok := w.clone(dir)
	if !ok {
		return pass
	}
	defer clone.Close()
	if !c.waits() {
		return fail(unix.EINTR)
	}
	if err := w.join(mounts); err != nil {
		return failed(err)
	}
	if err := attach(clone, at); err != nil {
		return failed(err)
	}
	return w.attached(c, clone)
}

// shown finds the folder of [shown] that a caller's path leads to.
func (w *worker) shown(c *call, id *identity, dirfd int32, path string) (string, bool) {
	fd, err := w.walk(c, id, dirfd, path, 0)
	if err != nil {
		return "", false
	}
	defer unix.Close(fd)
	ns, err := namespaceOf(fd, "")
	if err != nil {
		return "", false
	}
	dir, ok := w.server.roots[ns]
	return dir, ok
}

// clone copies one mount of the host's tree, unless it is read-only: the copy's flags
// are not locked, and the container could take that one away.
func (w *worker) clone(dir string) (*os.File, bool) {
	if err := w.join(int(w.server.cfg.Tree.Fd())); err != nil {
		return nil, false
	}
	clone, err := sys.OpenTree(nil, dir, false)
	if err != nil {
		return nil, false
	}
	var st unix.Statfs_t
	if err := unix.Fstatfs(int(clone.Fd()), &st); err != nil || st.Flags&unix.ST_RDONLY != 0 {
		clone.Close()
		return nil, false
	}
	return clone, true
}
