package trap

import (
	"errors"
	"io"
	"os"
	"time"

	"golang.org/x/sys/unix"

	"sysbox/runtime/program"
)

// Files of a program that acts as a caller. Those from fdCgroups on are closed when they
// have been used; fdTasks and what follows are version 1 cgroups.
const (
	fdUser = 10 + iota
	fdMounts
	fdRoot
	fdCwd
	fdSocket
	fdCgroups
	fdTasks

	fdUnified = fdCgroups
)

const secondLeg = "second leg"

// asCaller is how a program begins that makes calls as a caller in the container's
// first user namespace would: with its ids, groups and capabilities, in its mount
// namespace, root and working directory. The process stays in the host's pid
// namespace, where the container has no name for it.
//
// It is a process of the container's cgroups: what the calls take of memory counts there,
// and so does the process, which nobody can kill while it waits for a file system of the
// container's that never answers.
func asCaller(id *identity, tasks int, unified bool) program.Program {
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
	cgroup := -1
	if unified {
		cgroup = fdUnified
	}
	shim := os.Getpid()
	// The second leg is born in its cgroup, when no memory is shared with the shim any more:
	// the kernel's search for memory kills all who share.
	p := append(program.Prelude(shim),
		program.Fork("pid", secondLeg, 0, cgroup),
		program.Report("report the pid", 0, "pid"),
		program.Exit(0),
	)
	again := program.Prelude(shim) // what a fork forgets is among it
	again[0].Label = secondLeg
	p = append(p, again...)
	for i := range tasks {
		p = append(p, program.Call{
			Name: "join a cgroup", Nr: unix.SYS_WRITE, Args: []program.Arg{num(uint64(fdTasks + i)), program.Str("0"), num(1)}, Want: program.Equals(1),
		})
	}
	return append(p,
		c("close the cgroups", unix.SYS_CLOSE_RANGE, num(fdCgroups), num(1<<32-1), num(0)),
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
}

// runDeadline bounds a call that is made for a caller: file systems of the
// container's may never answer. killGrace is how long its end is waited for then.
const (
	runDeadline = 10 * time.Second
	killGrace   = time.Second
)

// actAs makes calls as a caller; the verdict is theirs. files are those of [asCaller], but
// for fdUser and the cgroups. The process dies with the thread that has started it, a
// worker's.
func (s *Server) actAs(id *identity, files map[int]int, calls ...program.Call) verdict {
	tasks, unified, err := s.cfg.Join()
	if err != nil {
		return pass // the container is being removed
	}
	given := make([]program.File, 0, len(files)+len(tasks)+2)
	defer func() {
		for _, f := range given {
			f.Close()
		}
	}()
	for i, f := range tasks {
		given = append(given, program.File{File: f, At: fdTasks + i})
	}
	if unified != nil {
		given = append(given, program.File{File: unified, At: fdUnified})
	}
	files[fdUser] = s.nsfile
	for at, fd := range files {
		own, err := unix.FcntlInt(uintptr(fd), unix.F_DUPFD_CLOEXEC, 0)
		if err != nil {
			return failed(err)
		}
		given = append(given, program.File{File: os.NewFile(uintptr(own), ""), At: at})
	}
	p := asCaller(id, len(tasks), unified != nil)
	first := len(p)
	child, err := program.Start(append(append(p, calls...), program.Exit(0)), program.Options{Files: given})
	if err != nil {
		return failed(err)
	}
	defer child.Close()
	return await(child, first)
}

// await waits for the end of a program of [asCaller], whose calls for the caller begin
// with that index.
func await(child *program.Child, first int) verdict {
	deadline := time.Now().Add(runDeadline)
	var acting *program.Process
	var step *program.StepError
	for {
		got, err := child.Next(deadline)
		if err == nil {
			if acting, err = program.Adopt(int(got.Value)); err == nil {
				_, err = child.WaitUntil(deadline)
			}
			if err == nil {
				continue
			}
		}
		if errors.As(err, &step) {
			continue
		}
		if err != io.EOF {
			_ = child.Process.Signal(unix.SIGKILL)
			if acting != nil {
				_ = acting.Signal(unix.SIGKILL)
			}
		}
		break
	}
	_, _ = child.WaitUntil(deadline.Add(killGrace))
	if acting != nil {
		status, err := acting.WaitUntil(deadline.Add(killGrace))
		if err != nil { // it waits for an answer from the container: so does somebody here
			go func() {
				_, _ = acting.Wait()
				acting.Close()
			}()
			return pass
		}
		acting.Close()
		if status.ExitCode() == 0 {
			return verdict{}
		}
	}
	switch {
	case step == nil || step.Before:
	case step.Index >= first:
		return failed(step)
	case step.Errno == unix.EAGAIN: // of the clone: the container may have no more processes
		return fail(unix.ENOMEM)
	}
	return pass // the kernel's own answer, then
}
