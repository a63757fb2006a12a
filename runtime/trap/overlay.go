package trap

import (
	"cmp"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"sysbox/runtime/program"
)

// overlay mounts an overlay with the option userxattr for a caller that does not know
// that it lives in a user namespace, where overlayfs cannot keep its marks in trusted
// attributes: without the option such a mount succeeds, and then answers EIO to the
// removal of a merged folder. Nothing is granted: the mount is made with the
// caller's own rights, in its own namespaces.
func (w *worker) overlay(c *call) verdict {
	s := w.server
	id, mounts, ok := s.mounter(c)
	if !ok {
		return pass
	}
	defer unix.Close(mounts)
	var text [3]string // source, target, options
	for i, arg := range []int{0, 1, 4} {
		if c.args[arg] == 0 {
			continue
		}
		var err error
		if text[i], err = c.text(c.args[arg], pageSize, unix.EINVAL); err != nil {
			return pass
		}
	}
	options, ok := withUserXattr(text[2])
	if !ok {
		return pass
	}
	root, cwd, ok := c.places()
	if !ok {
		return pass
	}
	defer unix.Close(root)
	defer unix.Close(cwd)
	if !c.waits() {
		return fail(unix.EINTR)
	}
	call := program.Call{Name: "mount", Nr: unix.SYS_MOUNT, Args: []program.Arg{
		program.Str(text[0]), program.Str(text[1]), program.Str("overlay"), program.Int(int64(c.args[3])), program.Str(options),
	}}
	p := asCaller(id, call)
	files := map[int]int{fdUser: s.nsfile, fdMounts: mounts, fdRoot: root, fdCwd: cwd}
	w.slow()
	v := run(p, files)
	if v.errno == unix.ENOENT {
		// A path through the caller's own folder in /proc, which the process that acts for
		// it does not have: the caller itself does. Then it is without the option.
		return pass
	}
	return v
}

// withUserXattr adds the option, unless there are options that the kernel refuses
// beside it (Documentation/filesystems/overlayfs.rst, "User xattr"), or it is there.
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
		return "", false // the kernel would cut it, or take it for a part of a path
	}
	return options, true
}

// Files of a program that acts as a caller.
const (
	fdUser = 10 + iota
	fdMounts
	fdRoot
	fdCwd
	fdSocket
)

// asCaller is the program that makes calls as a caller in the container's
// first user namespace would: with its ids, groups and capabilities, in its mount
// namespace, root and working directory. The process stays in the host's pid
// namespace, where the container has no name for it.
func asCaller(id *identity, calls ...program.Call) program.Program {
	c := func(name string, nr uintptr, args ...program.Arg) program.Call {
		return program.Call{Name: name, Nr: nr, Args: args}
	}
	num := func(n uint64) program.Arg { return program.Int(int64(n)) }
	groups := make([]byte, 0, 4*len(id.groups)+4)
	for _, g := range id.groups {
		groups = append(groups, byte(g), byte(g>>8), byte(g>>16), byte(g>>24))
	}
	groups = append(groups, 0, 0, 0, 0) // not empty
	const noSetuidFixup = 1 << 2        // SECBIT_NO_SETUID_FIXUP
	hide := c("refuse to be traced", unix.SYS_PRCTL, num(unix.PR_SET_DUMPABLE), num(0))
	header := []byte{0x22, 0x05, 0x08, 0x20, 0, 0, 0, 0} // _LINUX_CAPABILITY_VERSION_3
	var caps []byte
	for _, half := range []uint32{uint32(id.effective), uint32(id.effective >> 32)} {
		le := []byte{byte(half), byte(half >> 8), byte(half >> 16), byte(half >> 24)}
		caps = append(append(append(caps, le...), le...), 0, 0, 0, 0) // effective, permitted, inheritable
	}
	p := append(program.Prelude(os.Getpid()),
		c("keep capabilities", unix.SYS_PRCTL, num(unix.PR_SET_SECUREBITS), num(noSetuidFixup)),
		c("set the groups", unix.SYS_SETGROUPS, num(uint64(len(id.groups))), program.Bytes(groups)),
		c("set the group", unix.SYS_SETRESGID, num(uint64(id.egid)), num(uint64(id.egid)), num(uint64(id.egid))),
		c("set the user", unix.SYS_SETRESUID, num(uint64(id.euid)), num(uint64(id.euid)), num(uint64(id.euid))),
		c("set the group for files", unix.SYS_SETFSGID, num(uint64(id.fsgid))),
		c("set the user for files", unix.SYS_SETFSUID, num(uint64(id.fsuid))),
		hide,
		c("join the user namespace", unix.SYS_SETNS, num(fdUser), num(unix.CLONE_NEWUSER)),
		hide,
		program.ParentDeath(unix.SIGKILL),
		c("join the mount namespace", unix.SYS_SETNS, num(fdMounts), num(unix.CLONE_NEWNS)),
		c("go to the root", unix.SYS_FCHDIR, num(fdRoot)),
		c("enter the root", unix.SYS_CHROOT, program.Str(".")),
		c("go to the working directory", unix.SYS_FCHDIR, num(fdCwd)),
		c("set the capabilities", unix.SYS_CAPSET, program.Bytes(header), program.Bytes(caps)),
		hide,
	)
	for i := range calls {
		calls[i].Label = cmp.Or(calls[i].Label, fmt.Sprintf("call %d", i))
	}
	return append(p, calls...)
}

// runDeadline bounds a call that is made for a caller: file systems of the
// container's may never answer.
const runDeadline = 10 * time.Second

// run runs a program of [asCaller]; the verdict is its last calls'. The program dies with the thread that
// has started it, a worker's.
func run(p program.Program, fds map[int]int) verdict {
	var files []program.File
	for at, fd := range fds {
		own, err := unix.FcntlInt(uintptr(fd), unix.F_DUPFD_CLOEXEC, 0)
		if err != nil {
			return failed(err)
		}
		f := os.NewFile(uintptr(own), "")
		defer f.Close()
		files = append(files, program.File{File: f, At: at})
	}
	child, err := program.Start(p, program.Options{Files: files})
	if err != nil {
		return failed(err)
	}
	defer child.Close()
	deadline := time.Now().Add(runDeadline)
	_, err = child.Next(deadline)
	if errors.Is(err, os.ErrDeadlineExceeded) {
		_ = child.Process.Signal(unix.SIGKILL)
	}
	if _, e := child.WaitUntil(deadline.Add(runDeadline)); e != nil && err == io.EOF {
		err = e
	}
	var step *program.StepError
	switch {
	case errors.Is(err, io.EOF):
		return verdict{}
	case errors.As(err, &step) && p[step.Index].Label != "" && !step.Before:
		return failed(err)
	}
	return pass // the kernel's own answer, then
}
