// SPDX-License-Identifier: Apache-2.0

package trap

import (
	"golang.org/x/sys/unix"

	"sysbox/runtime/program"
)

// mount answers mount(2) for binds of [bindablePaths], for overlays, and for block file systems
// that are mounted through FUSE.
func mount(w *worker, c *call) response {
	if c.args[3]&unix.MS_BIND != 0 {
		return w.bind(c)
	}
	if c.args[2] == 0 {
		return pass
	}
	if c.equals(c.args[2], "overlay") {
		return w.overlay(c)
	}
	if server := w.server.fuseServer(c, c.args[2]); server != nil {
		return w.fuse(c, server)
	}
	return pass
}

// mayMount reports whether the caller may mount in its mount namespace. It returns the caller's
// identity and an open file of that namespace.
func (s *Server) mayMount(c *call) (*identity, int, bool) {
	if !s.inContainerUserns(c) {
		return nil, -1, false
	}
	id, err := c.identity()
	if err != nil || !id.has(capSysAdmin) {
		return nil, -1, false
	}
	ns, ok := s.ownMounts(c)
	return id, ns, ok
}

// bind makes a bind of one of the [bindablePaths] without the mounts below it. The kernel refuses
// such a bind with EINVAL, because locked mounts could hide something. In Tree, of which the
// container's mounts are a copy, they are not locked.
func (w *worker) bind(c *call) response {
	id, mounts, ok := w.server.mayMount(c)
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
	k, ok := w.walker(c, id, 0)
	if !ok {
		return pass
	}
	defer k.close()
	dir, ok := k.bindable(unix.AT_FDCWD, source)
	if !ok {
		return pass
	}
	at, err := k.walk(unix.AT_FDCWD, target, 0)
	if err != nil {
		return pathFailure(err)
	}
	defer unix.Close(at)
	if !c.waits() {
		return fail(unix.EINTR)
	}
	calls := append(cloneMount(num(unix.AT_FDCWD), dir), attachMount(program.Result("tree"))...)
	bound, v := w.fetch(map[int]int{fdFrom: int(w.server.cfg.Tree.Fd()), fdMounts: mounts, fdDir: at}, nil, calls, "tree")
	if bound == nil {
		return v
	}
	defer bound.Close()
	return w.attachedResponse(c, mounts, bound)
}

// bindable returns which of the [bindablePaths] a caller's path leads to.
func (k *walker) bindable(dirfd int32, path string) (string, bool) {
	fd, err := k.walk(dirfd, path, 0)
	if err != nil {
		return "", false
	}
	defer unix.Close(fd)
	ns, err := namespaceOf(fd, "")
	if err != nil {
		return "", false
	}
	dir, ok := k.w.server.bindable[ns]
	return dir, ok
}

// mountTexts returns the source, the target and the options of a mount(2), "" for those that the
// caller leaves out.
func (c *call) mountTexts() (text [3]string, err error) {
	for i, arg := range []int{0, 1, 4} {
		if c.args[arg] == 0 {
			continue
		}
		if text[i], err = c.text(c.args[arg], pageSize, unix.EINVAL); err != nil {
			return text, err
		}
	}
	return text, nil
}
