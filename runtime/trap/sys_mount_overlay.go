// SPDX-License-Identifier: Apache-2.0

package trap

import (
	"strings"

	"golang.org/x/sys/unix"

	"sysbox/runtime/program"
)

// overlay mounts an overlay with the option userxattr, for callers that do not know that they are
// in a user namespace. There, overlayfs cannot store its marks in trusted attributes: without the
// option the mount succeeds, but later the removal of a merged directory fails with EIO. Nothing
// is granted: the mount is made with the caller's rights in its own namespaces.
func (w *worker) overlay(c *call) response {
	s := w.server
	id, mounts, ok := s.mayMount(c)
	if !ok {
		return pass
	}
	defer unix.Close(mounts)
	text, err := c.mountTexts()
	if err != nil {
		return pass
	}
	options, ok := withUserXattr(text[2])
	if !ok {
		return pass
	}
	root, cwd, ok := c.rootAndCwd()
	if !ok {
		return pass
	}
	defer unix.Close(root)
	defer unix.Close(cwd)
	if !c.waits() {
		return fail(unix.EINTR)
	}
	v := w.run(map[int]int{fdUser: s.nsfile, fdMounts: mounts, fdRoot: root, fdCwd: cwd}, asCaller(id), program.Program{
		step("mount", unix.SYS_MOUNT, program.Str(text[0]), program.Str(text[1]), program.Str("overlay"), num(c.args[3]), program.Str(options)),
	})
	if v.errno == unix.ENOENT {
		// A path led through the caller's own directory in /proc, which the delegate does not
		// have. The caller does, so the kernel mounts the overlay without the option.
		return pass
	}
	return v
}

// withUserXattr adds the option, unless it is there already or there are options that the kernel
// refuses beside it (Documentation/filesystems/overlayfs.rst, "User xattr").
func withUserXattr(options string) (string, bool) {
	for o := range strings.SplitSeq(options, ",") {
		switch o {
		case "userxattr", "redirect_dir=on", "redirect_dir=follow", "metacopy=on", "nfs_export=on", "verity=on", "verity=require":
			return "", false
		}
	}
	if options == "" {
		return "userxattr", true
	}
	if options += ",userxattr"; len(options) >= pageSize || strings.HasSuffix(options, `\,userxattr`) {
		return "", false // the kernel would cut it off, or take it for a part of a path
	}
	return options, true
}
