package trap

import (
	"encoding/binary"
	"errors"
	"io"
	"os"
	"time"

	"golang.org/x/sys/unix"

	"sysbox/runtime/program"
)

// Files of a program that does something for a caller. Those from fdCgroups on are closed
// when they have been used; fdTasks and what follows are version 1 cgroups.
const (
	fdUser   = 10 + iota // the container's first user namespace
	fdMounts             // the caller's mount namespace
	fdRoot
	fdCwd
	fdFrom // the mount namespace of what is cloned
	fdTree // a mount
	fdDir  // a folder, or what is mounted on
	fdSocket
	fdCgroups
	fdTasks

	fdUnified = fdCgroups
)

func step(name string, nr uintptr, args ...program.Arg) program.Call {
	return program.Call{Name: name, Nr: nr, Args: args}
}

func num[T ~int | ~uint32 | ~uint64](n T) program.Arg { return program.Int(int64(n)) }

// hide goes after each change of ids.
var hide = step("refuse to be traced", unix.SYS_PRCTL, num(unix.PR_SET_DUMPABLE), num(0))

// inCgroups is how each program begins: as a process of the container's cgroups. What it
// takes of the kernel's memory counts there, nodes and mounts for instance, of which one
// bind can make thousands where mounts are shared; and so does the process, which nobody
// can kill while it waits for a file system of the container's that never answers.
func inCgroups(tasks int, unified bool) program.Program {
	cgroup := -1
	if unified {
		cgroup = fdUnified
	}
	return program.InCgroups(os.Getpid(), cgroup, fdTasks, tasks)
}

// asCaller goes on as a caller in the container's first user namespace would: with its
// ids, groups and capabilities, in its mount namespace, root and working directory. The
// process stays in the host's pid namespace, where the container has no name for it.
func asCaller(id *identity) program.Program {
	return append(program.Program{
		step("keep capabilities", unix.SYS_PRCTL, num(unix.PR_SET_SECUREBITS), num(program.NoSetuidFixup)),
		setGroupsCall(id),
		step("set the group", unix.SYS_SETRESGID, num(id.egid), num(id.egid), num(id.egid)),
		step("set the user", unix.SYS_SETRESUID, num(id.euid), num(id.euid), num(id.euid)),
		step("set the group for files", unix.SYS_SETFSGID, num(id.fsgid)),
		step("set the user for files", unix.SYS_SETFSUID, num(id.fsuid)),
		hide,
		step("join the user namespace", unix.SYS_SETNS, num(fdUser), num(unix.CLONE_NEWUSER)),
		hide,
		program.ParentDeath(unix.SIGKILL),
		step("join the mount namespace", unix.SYS_SETNS, num(fdMounts), num(unix.CLONE_NEWNS)),
		step("go to the root", unix.SYS_FCHDIR, num(fdRoot)),
		step("enter the root", unix.SYS_CHROOT, program.Str(".")),
		step("go to the working directory", unix.SYS_FCHDIR, num(fdCwd)),
	}, setCapabilities(id.effective)...)
}

// forFiles goes on with what the kernel asks of who makes a file: a caller's ids, groups
// and umask, and these of the host's capabilities.
func forFiles(id *identity, capabilities uint64) program.Program {
	return append(program.Program{
		setGroupsCall(id),
		step("set the group for files", unix.SYS_SETFSGID, num(id.fsgid)),
		step("set the user for files", unix.SYS_SETFSUID, num(id.fsuid)),
		hide,
		program.ParentDeath(unix.SIGKILL),
		step("set the umask", unix.SYS_UMASK, num(id.umask)),
	}, setCapabilities(capabilities)...)
}

func setGroupsCall(id *identity) program.Call {
	groups := make([]byte, 0, 4*len(id.groups)+4)
	for _, g := range id.groups {
		groups = binary.LittleEndian.AppendUint32(groups, g)
	}
	groups = append(groups, 0, 0, 0, 0) // not empty
	return step("set the groups", unix.SYS_SETGROUPS, num(len(id.groups)), program.Bytes(groups))
}

func setCapabilities(set uint64) program.Program {
	header := []byte{0x22, 0x05, 0x08, 0x20, 0, 0, 0, 0} // _LINUX_CAPABILITY_VERSION_3
	var data []byte
	for _, half := range []uint32{uint32(set), uint32(set >> 32)} {
		for _, word := range []uint32{half, half, 0} { // effective, permitted, inheritable
			data = binary.LittleEndian.AppendUint32(data, word)
		}
	}
	return program.Program{
		step("set the capabilities", unix.SYS_CAPSET, program.Bytes(header), program.Bytes(data)),
		hide,
	}
}

// cloneMount makes a detached copy of a mount of the namespace fdFrom, by the path below
// dir, labelled "tree".
func cloneMount(dir program.Arg, path string) program.Program {
	clone := step("copy the mount", unix.SYS_OPEN_TREE, dir, program.Str(path), num(unix.OPEN_TREE_CLONE|unix.OPEN_TREE_CLOEXEC))
	clone.Label = "tree"
	return program.Program{step("join the mount's namespace", unix.SYS_SETNS, num(fdFrom), num(unix.CLONE_NEWNS)), clone}
}

// attachMount puts a detached mount on fdDir, in the caller's mount namespace.
func attachMount(tree program.Arg) program.Program {
	return program.Program{
		step("join the mount namespace", unix.SYS_SETNS, num(fdMounts), num(unix.CLONE_NEWNS)),
		step("attach the mount", unix.SYS_MOVE_MOUNT, tree, program.Str(""), num(fdDir), program.Str(""), num(unix.MOVE_MOUNT_F_EMPTY_PATH|unix.MOVE_MOUNT_T_EMPTY_PATH)),
	}
}

// runDeadline bounds a call that is made for a caller: file systems of the
// container's may never answer. killGrace is how long its end is waited for then.
const (
	runDeadline = 10 * time.Second
	killGrace   = time.Second
)

// fetch is run of calls that open a file, by the label file, which it returns.
func (w *worker) fetch(files map[int]int, setup, calls program.Program, file string) (*os.File, verdict) {
	pair, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_SEQPACKET|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, failed(err)
	}
	ours := os.NewFile(uintptr(pair[0]), "socket")
	defer ours.Close()
	defer unix.Close(pair[1])
	files[fdSocket] = pair[1]
	if v := w.run(files, setup, append(calls, program.SendFile("give the file to the shim", fdSocket, "the file", program.Result(file)))); !v.done() {
		return nil, v
	}
	fd, err := program.ReceiveFile(ours)
	if err != nil || fd < 0 {
		return nil, pass
	}
	return os.NewFile(uintptr(fd), "file for a caller"), verdict{}
}

// run makes calls for a caller; the verdict is theirs. setup is how the process becomes
// what they need, nil for the host's root. The thread is what it was at first afterwards,
// and the process dies with it.
func (w *worker) run(files map[int]int, setup, calls program.Program) verdict {
	if err := w.restore(); err != nil { // the process takes after this thread
		return failed(err)
	}
	tasks, unified, err := w.server.cfg.Join()
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
	for at, fd := range files {
		own, err := unix.FcntlInt(uintptr(fd), unix.F_DUPFD_CLOEXEC, 0)
		if err != nil {
			return failed(err)
		}
		given = append(given, program.File{File: os.NewFile(uintptr(own), ""), At: at})
	}
	p := append(inCgroups(len(tasks), unified != nil), setup...)
	first := len(p)
	child, err := program.Start(append(append(p, calls...), program.Exit(0)), program.Options{Files: given})
	if err != nil {
		return failed(err)
	}
	defer child.Close()
	return await(child, first)
}

// await waits for the end of a program whose calls for the caller begin with that index.
func await(child *program.Child, first int) verdict {
	deadline := time.Now().Add(runDeadline)
	var acting *program.Process
	var stopped *program.StepError
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
		if errors.As(err, &stopped) {
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
	case stopped == nil || stopped.Before:
	case stopped.Index >= first:
		return failed(stopped)
	case stopped.Errno == unix.EAGAIN: // of the clone: the container may have no more processes
		return fail(unix.ENOMEM)
	}
	return pass // the kernel's own answer, then
}
