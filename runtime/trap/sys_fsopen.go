// SPDX-License-Identifier: Apache-2.0

package trap

import (
	"golang.org/x/sys/unix"

	"sysbox/runtime/program"
)

// fsopen answers fsopen(2) for overlay, as [worker.overlay] answers mount(2): with a context that
// has the option userxattr. A process with the caller's rights and namespaces makes it. The
// kernel answers the calls that follow.
//
// For block file systems that [worker.fuse] mounts, it answers as if the kernel had no such call,
// so that mount(8) falls back to mount(2).
func fsopen(w *worker, c *call) response {
	if w.server.fuseServer(c, c.args[0]) != nil {
		id, mounts, ok := w.server.mayMount(c)
		if !ok {
			return pass
		}
		unix.Close(mounts)
		if _, ok := w.server.processLikeInit(c, id); !ok {
			return pass
		}
		return fail(unix.ENOSYS)
	}
	if !c.equals(c.args[0], "overlay") || c.args[1]&^unix.FSOPEN_CLOEXEC != 0 {
		return pass
	}
	id, mounts, ok := w.server.mayMount(c)
	if !ok {
		return pass
	}
	defer unix.Close(mounts)
	root, cwd, ok := c.rootAndCwd()
	if !ok {
		return pass
	}
	defer unix.Close(root)
	defer unix.Close(cwd)
	if !c.waits() {
		return fail(unix.EINTR)
	}
	open := step("fsopen", unix.SYS_FSOPEN, program.Str("overlay"), num(unix.FSOPEN_CLOEXEC))
	open.Label = "context"
	context, v := w.fetch(map[int]int{fdUser: w.server.nsfile, fdMounts: mounts, fdRoot: root, fdCwd: cwd}, asCaller(id), program.Program{
		open,
		step("set userxattr", unix.SYS_FSCONFIG, program.Result("context"), num(unix.FSCONFIG_SET_FLAG), program.Str("userxattr"), num(0), num(0)),
	}, "context")
	if context == nil {
		return v
	}
	return response{file: context, closeOnExec: c.args[1]&unix.FSOPEN_CLOEXEC != 0}
}
