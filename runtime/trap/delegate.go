// SPDX-License-Identifier: Apache-2.0

package trap

import (
	"encoding/binary"
	"errors"
	"os"

	"golang.org/x/sys/unix"

	"sysbox/runtime/delegate"
	"sysbox/runtime/program"
)

// Numbers of the files that a program has when it acts for a caller.
const (
	fdUser   = delegate.First + iota // the container's first user namespace
	fdMounts                         // the caller's mount namespace
	fdRoot
	fdCwd
	fdFrom // the mount namespace of the mount that is cloned
	fdTree // a mount
	fdDir  // a directory, or the mount point
)

func step(name string, nr uintptr, args ...program.Arg) program.Call {
	return program.Call{Name: name, Nr: nr, Args: args}
}

func num[T ~int | ~uint32 | ~uint64](n T) program.Arg { return program.Int(int64(n)) }

// setNonDumpable follows each change of ids.
var setNonDumpable = step("refuse tracing", unix.SYS_PRCTL, num(unix.PR_SET_DUMPABLE), num(0))

// asCaller continues as a caller in the container's first user namespace would: with its ids,
// groups and capabilities, and in its mount namespace, root and working directory. The process
// stays in the host's pid namespace, where the container cannot name it.
func asCaller(id *identity) program.Program {
	return append(program.Program{
		step("keep capabilities", unix.SYS_PRCTL, num(unix.PR_SET_SECUREBITS), num(program.NoSetuidFixup)),
		setGroupsCall(id),
		step("set the gid", unix.SYS_SETRESGID, num(id.egid), num(id.egid), num(id.egid)),
		step("set the uid", unix.SYS_SETRESUID, num(id.euid), num(id.euid), num(id.euid)),
		step("set the file system gid", unix.SYS_SETFSGID, num(id.fsgid)),
		step("set the file system uid", unix.SYS_SETFSUID, num(id.fsuid)),
		setNonDumpable,
		step("join the user namespace", unix.SYS_SETNS, num(fdUser), num(unix.CLONE_NEWUSER)),
		setNonDumpable,
		program.ParentDeath(unix.SIGKILL),
		step("join the mount namespace", unix.SYS_SETNS, num(fdMounts), num(unix.CLONE_NEWNS)),
		step("open the root", unix.SYS_FCHDIR, num(fdRoot)),
		step("enter the root", unix.SYS_CHROOT, program.Str(".")),
		step("enter the working directory", unix.SYS_FCHDIR, num(fdCwd)),
	}, setCapabilities(id.effective)...)
}

// asFileMaker continues with what the kernel checks when a process makes a file: the caller's
// ids, groups and umask, and the given capabilities of the host.
func asFileMaker(id *identity, capabilities uint64) program.Program {
	return append(program.Program{
		setGroupsCall(id),
		step("set the file system gid", unix.SYS_SETFSGID, num(id.fsgid)),
		step("set the file system uid", unix.SYS_SETFSUID, num(id.fsuid)),
		setNonDumpable,
		program.ParentDeath(unix.SIGKILL),
		step("set the umask", unix.SYS_UMASK, num(id.umask)),
	}, setCapabilities(capabilities)...)
}

func setGroupsCall(id *identity) program.Call {
	groups := make([]byte, 0, 4*len(id.groups)+4)
	for _, g := range id.groups {
		groups = binary.LittleEndian.AppendUint32(groups, g)
	}
	groups = append(groups, 0, 0, 0, 0) // must not be empty
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
		setNonDumpable,
	}
}

// cloneMount makes a detached copy of a mount in the namespace fdFrom. The path is relative to
// dir. The copy has the label "tree".
func cloneMount(dir program.Arg, path string) program.Program {
	clone := step("copy the mount", unix.SYS_OPEN_TREE, dir, program.Str(path), num(unix.OPEN_TREE_CLONE|unix.OPEN_TREE_CLOEXEC))
	clone.Label = "tree"
	return program.Program{step("join the namespace of the mount", unix.SYS_SETNS, num(fdFrom), num(unix.CLONE_NEWNS)), clone}
}

// attachMount attaches a detached mount to fdDir, in the caller's mount namespace.
func attachMount(tree program.Arg) program.Program {
	return program.Program{
		step("join the mount namespace", unix.SYS_SETNS, num(fdMounts), num(unix.CLONE_NEWNS)),
		step("attach the mount", unix.SYS_MOVE_MOUNT, tree, program.Str(""), num(fdDir), program.Str(""), num(unix.MOVE_MOUNT_F_EMPTY_PATH|unix.MOVE_MOUNT_T_EMPTY_PATH)),
	}
}

// fetch is [worker.run] for calls that open a file. It returns the file of the call with the
// label file.
func (w *worker) fetch(files map[int]int, setup, calls program.Program, file string) (*os.File, response) {
	return w.fetchWithReply(files, setup, calls, file, nil)
}

// fetchWithReply is [worker.fetch] for calls that also send a reply, which is read into reply.
func (w *worker) fetchWithReply(files map[int]int, setup, calls program.Program, file string, reply []byte) (*os.File, response) {
	if err := w.restoreCreds(); err != nil { // the process inherits from this thread
		return nil, failure(err)
	}
	f, err := delegate.Fetch(w.server.cfg.Join, files, setup, calls, file, reply)
	return f, delegateResponse(err)
}

// run makes calls for a caller, and returns the response to them. setup gives the process what
// the calls need; with nil it stays the host's root. Afterwards the thread has its own
// credentials again. The process dies with the thread.
func (w *worker) run(files map[int]int, setup, calls program.Program) response {
	if err := w.restoreCreds(); err != nil {
		return failure(err)
	}
	return delegateResponse(delegate.Run(w.server.cfg.Join, files, setup, calls))
}

// delegateResponse is the response for calls that another process made.
func delegateResponse(err error) response {
	switch {
	case err == nil:
		return response{}
	case errors.Is(err, delegate.ErrNotMade):
		return pass // the kernel answers
	}
	return failure(err)
}
