// SPDX-License-Identifier: Apache-2.0

// Package delegate makes system calls in a container's cgroups, by a process of its own. The
// kernel memory that the calls use is accounted to the container, and the process ends with it.
// So a delegate may touch file systems that the container has mounted and that may never answer.
// A thread of the shim that waited for one would keep the shim from ending.
//
// What does not belong here: which calls are made and with whose rights (package trap and other
// callers).
package delegate

import (
	"encoding/binary"
	"errors"
	"os"
	"time"

	"golang.org/x/sys/unix"

	"sysbox/runtime/program"
)

// Numbers of open files. Those from First to ReplySocket belong to the calls.
const (
	First       = 10
	ReplySocket = 19 // the socket of [Fetch], which has the other end

	// The files from cgroups on are closed after they have been used. Those from tasks on belong
	// to version 1.
	cgroups = ReplySocket + 1
	tasks   = cgroups + 1
)

// Join opens the files with which a process joins the container's cgroups: the tasks files of
// version 1, and the directory of version 2, nil on a host without it. The caller closes them.
type Join func() (tasks []*os.File, unified *os.File, err error)

// ErrNotMade: the calls were not made, or it is unknown whether they were.
var ErrNotMade = errors.New("no delegate process could act for the container")

// Deadline bounds the calls, because the container's file systems may never answer. killGrace is
// how long to wait for the end of a killed process.
const (
	Deadline  = 10 * time.Second
	killGrace = time.Second
)

func num[T ~int | ~uint32 | ~uint64](n T) program.Arg { return program.Int(int64(n)) }

// Fetch is [Run] for calls that open a file. It returns the file of the call with the label file.
// If reply is not empty, the calls write exactly that many bytes to [ReplySocket].
func Fetch(join Join, files map[int]int, setup, calls program.Program, file string, reply []byte) (*os.File, error) {
	pair, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_SEQPACKET|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, err
	}
	ours := os.NewFile(uintptr(pair[0]), "socket")
	defer ours.Close()
	defer unix.Close(pair[1])
	files[ReplySocket] = pair[1]
	calls = append(calls, program.SendFile("give the file to the shim", ReplySocket, "the file", program.Result(file)))
	if err := Run(join, files, setup, calls); err != nil {
		return nil, err
	}
	if len(reply) > 0 {
		if n, _, err := unix.Recvfrom(pair[0], reply, unix.MSG_DONTWAIT); err != nil || n != len(reply) {
			return nil, ErrNotMade
		}
	}
	fd, err := program.ReceiveFile(ours)
	if err != nil || fd < 0 {
		return nil, ErrNotMade
	}
	return os.NewFile(uintptr(fd), "file for a container"), nil
}

// Run makes calls. An error other than [ErrNotMade] comes from the calls; it has an errno. setup
// gives the process the rights that the calls need; with nil it stays the host's root. files are
// open files by the numbers that the calls use. The process inherits from the calling thread,
// which must be locked, and dies with it.
func Run(join Join, files map[int]int, setup, calls program.Program) error {
	version1, unified, err := join()
	if err != nil {
		return ErrNotMade // the container is being removed
	}
	passed := make([]program.File, 0, len(files)+len(version1)+2)
	defer func() {
		for _, f := range passed {
			f.Close()
		}
	}()
	for i, f := range version1 {
		passed = append(passed, program.File{File: f, At: tasks + i})
	}
	if unified != nil {
		passed = append(passed, program.File{File: unified, At: cgroups})
	}
	for at, fd := range files {
		own, err := unix.FcntlInt(uintptr(fd), unix.F_DUPFD_CLOEXEC, 0)
		if err != nil {
			return err
		}
		passed = append(passed, program.File{File: os.NewFile(uintptr(own), ""), At: at})
	}
	cgroup := -1
	if unified != nil {
		cgroup = cgroups
	}
	p := append(program.InCgroups(os.Getpid(), cgroup, tasks, len(version1)), setup...)
	first := len(p)
	return runStages(append(append(p, calls...), program.Exit(0)), first, program.Options{Files: passed})
}

// runStages runs a program. Its calls for the container begin at the index first.
func runStages(p program.Program, first int, o program.Options) error {
	deadline := time.Now().Add(Deadline)
	stages, err := program.StartStages(p, o, program.InCgroupsTag, Deadline)
	if err != nil {
		return err
	}
	defer stages.Close()
	stage2, err := stages.Stage2()
	if err == nil {
		status, late := stages.Finish(stage2, deadline, killGrace)
		if late != nil { // it waits for an answer from the container, and somebody there waits for us
			return ErrNotMade
		}
		if status.ExitCode() == 0 {
			return nil
		}
	}
	switch stopped := stages.Failed(); {
	case stopped == nil || stopped.Before:
	case stopped.Index >= first:
		return stopped
	case stopped.Errno == unix.EAGAIN: // the clone failed: the container may have no more processes
		return unix.ENOMEM
	}
	return ErrNotMade
}

// ResolveCached is RESOLVE_CACHED (Linux 5.12): openat2(2) fails with EAGAIN if the kernel would
// have to ask a file system, because it does not have the whole path in memory.
const ResolveCached = 0x20

// Open is the call openat2(2) with the label "file".
func Open(dir program.Arg, path string, how unix.OpenHow) program.Call {
	arg := binary.LittleEndian.AppendUint64(nil, how.Flags)
	arg = binary.LittleEndian.AppendUint64(arg, how.Mode)
	arg = binary.LittleEndian.AppendUint64(arg, how.Resolve)
	return program.Call{
		Name: "open", Nr: unix.SYS_OPENAT2, Label: "file",
		Args: []program.Arg{dir, program.Str(path), program.Bytes(arg), num(len(arg))},
	}
}
