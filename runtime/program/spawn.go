// SPDX-License-Identifier: Apache-2.0

package program

import (
	"errors"
	"fmt"
	"os"
	"runtime"
	"slices"
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"
)

// Pipe is os.Pipe for programs: both ends are blocking. (Whether a read waits is a property of
// the open file, not of the number. With an end of os.Pipe, the program's read would fail with
// EAGAIN.)
func Pipe() (r, w *os.File, err error) {
	var fds [2]int
	if err := unix.Pipe2(fds[:], unix.O_CLOEXEC); err != nil {
		return nil, nil, os.NewSyscallError("pipe2", err)
	}
	return os.NewFile(uintptr(fds[0]), "|0"), os.NewFile(uintptr(fds[1]), "|1"), nil
}

// File is an open file that a program gets under another number. See [Pipe].
type File struct {
	*os.File
	// At is the number. It must not be ReportFD.
	At int
}

// Options say what a program starts with, apart from its calls.
type Options struct {
	// Files are the only files that the program has open, apart from [ReportFD].
	Files []File
	// Inherit also leaves files open that have no close-on-exec flag in the starting process. To
	// close them takes Linux 5.11, and feature probes must run on older kernels as well.
	Inherit bool
	// Name is the process's argv[0]. Empty: "sysbox-init".
	Name string
}

// Child is a started program. Several goroutines may use its methods, but only one may use Next.
type Child struct {
	// Process executes the program from its first call on. It must be waited for, or it stays a
	// zombie.
	*Process
	report  *os.File
	program Program
}

// Close closes the report pipe and the pidfd. It kills nothing.
func (c *Child) Close() error { return errors.Join(c.report.Close(), c.Process.Close()) }

type cloneArgs struct {
	flags, pidfd, childTid, parentTid, exitSignal, stack, stackSize, tls, setTid, setTidSize, cgroup uint64
}

// spawn and interpAddr are in interp_*.s.
//
//go:noescape
func spawn(args *cloneArgs, size uintptr, steps unsafe.Pointer) (r uintptr)

func interpAddr() uintptr

//go:linkname beforeFork syscall.runtime_BeforeFork
func beforeFork()

//go:linkname afterFork syscall.runtime_AfterFork
func afterFork()

// Start runs the program in a new process. On a locked thread, the process inherits that thread's
// namespaces, root and working directory. Its signal mask is empty, its signals have their
// default actions, and its environment is empty.
//
// The kernel sends a parent-death signal when the *thread* that called Start ends. So call Start
// from a locked thread that outlives the process, or see [Prelude].
//
// syscall.ForkLock is not taken: it keeps descriptors that are not yet close-on-exec from being
// inherited, and this child inherits only its own.
func Start(p Program, o Options) (*Child, error) {
	image, err := p.Compile(runtime.GOARCH)
	if err != nil {
		return nil, err
	}
	memfd, err := seal(image)
	if err != nil {
		return nil, err
	}
	defer unix.Close(memfd)
	var pipe [2]int
	if err := unix.Pipe2(pipe[:], unix.O_CLOEXEC); err != nil {
		return nil, os.NewSyscallError("pipe2", err)
	}
	defer unix.Close(pipe[1])
	if err := unix.SetNonblock(pipe[0], true); err != nil {
		unix.Close(pipe[0])
		return nil, os.NewSyscallError("fcntl", err)
	}
	c := &Child{report: os.NewFile(uintptr(pipe[0]), "report pipe"), program: p}

	calls, err := launchCalls(o, memfd, pipe[1])
	if err == nil {
		c.Process, err = launch(calls)
	}
	runtime.KeepAlive(o.Files)
	if err != nil {
		c.report.Close()
		return nil, fmt.Errorf("start a program: %w", err)
	}
	return c, nil
}

// lastSignal is _NSIG, which includes real-time signals.
const lastSignal = unix.Signal(64)

// launchCalls are the calls that the child makes in the parent's memory, before it executes the
// program.
func launchCalls(o Options, memfd, report int) (Program, error) {
	type move struct{ from, to int }
	moves := []move{{report, ReportFD}}
	for _, f := range o.Files {
		// Fd would set the file to blocking mode, SyscallConn does not.
		from := -1
		conn, err := f.SyscallConn()
		if err == nil {
			err = conn.Control(func(fd uintptr) { from = int(fd) })
		}
		if err != nil {
			return nil, fmt.Errorf("pass a file as number %d: %w", f.At, err)
		}
		moves = append(moves, move{from, f.At})
	}
	slices.SortFunc(moves, func(a, b move) int { return a.to - b.to })
	for i, m := range moves {
		if m.to < 0 || i > 0 && m.to == moves[i-1].to {
			return nil, fmt.Errorf("pass files: the number %d is used twice or negative (%d is the report pipe)", m.to, ReportFD)
		}
	}
	p := make(Program, 0, 48+4*len(moves))
	// First, all are copied out of the way: a source may be another's destination.
	above := Int(moves[len(moves)-1].to + 1)
	copyOf := func(fd int, label string) {
		p = append(p, Call{
			Name: "copy a file to be passed", Nr: unix.SYS_FCNTL, Label: label,
			Args: []Arg{Int(fd), Sym{"F_DUPFD_CLOEXEC", unix.F_DUPFD_CLOEXEC}, above},
		})
	}
	copyOf(memfd, "image")
	for _, m := range moves {
		copyOf(m.from, fmt.Sprint("file", m.to))
	}
	next := 0
	cloexec := func(last int) {
		if next <= last && !o.Inherit {
			p = append(p, Call{
				Name: "mark other files close-on-exec", Nr: unix.SYS_CLOSE_RANGE,
				Args: []Arg{Int(next), Int(last), Sym{"CLOSE_RANGE_CLOEXEC", unix.CLOSE_RANGE_CLOEXEC}},
			})
		}
	}
	for _, m := range moves {
		p = append(p, Call{Name: "pass a file", Nr: unix.SYS_DUP3, Args: []Arg{Result(fmt.Sprint("file", m.to)), Int(m.to), Int(0)}})
		cloexec(m.to - 1)
		next = m.to + 1
	}
	cloexec(1<<31 - 1)
	// CLONE_CLEAR_SIGHAND leaves ignored signals ignored; so does execve.
	action := &Blob{Name: "SIG_DFL", Data: make([]byte, 32), Named: true}
	for sig := unix.SIGHUP; sig <= lastSignal; sig++ {
		if sig != unix.SIGKILL && sig != unix.SIGSTOP {
			p = append(p, Call{
				Name: "reset a signal", Nr: unix.SYS_RT_SIGACTION,
				Args: []Arg{Int(sig), action, Int(0), Int(8)},
			})
		}
	}
	name := o.Name
	if name == "" {
		name = "sysbox-init"
	}
	return append(p,
		Call{
			Name: "unblock all signals", Nr: unix.SYS_RT_SIGPROCMASK,
			Args: []Arg{Sym{"SIG_SETMASK", 2}, Bytes(make([]byte, 8)), Int(0), Int(8)},
		},
		Call{
			Name: "execute the program", Nr: unix.SYS_EXECVEAT,
			Args: []Arg{Result("image"), Str(""), Strs{name}, Strs{}, Sym{"AT_EMPTY_PATH", unix.AT_EMPTY_PATH}},
		}), nil
}

// launch runs calls in a child that shares this process's memory. It returns when the child has
// executed something else.
func launch(calls Program) (*Process, error) {
	// The child writes no record (report number -1): the results are in the shared memory.
	var words []uint64
	var pin runtime.Pinner
	defer pin.Unpin()
	for size := 16 << 10; ; size *= 2 {
		words = make([]uint64, size/8)
		pin.Pin(&words[0])
		placed, err := calls.assemble(runtime.GOARCH, uint64(uintptr(unsafe.Pointer(&words[0]))), kindLaunchFail, -1)
		if err != nil {
			return nil, err
		}
		if copy(unsafe.Slice((*byte)(unsafe.Pointer(&words[0])), size), placed) == len(placed) {
			break
		}
	}

	pidfd := int32(-1)
	pin.Pin(&pidfd)
	args := &cloneArgs{
		flags:      unix.CLONE_VM | unix.CLONE_VFORK | unix.CLONE_PIDFD | unix.CLONE_CLEAR_SIGHAND,
		pidfd:      uint64(uintptr(unsafe.Pointer(&pidfd))),
		exitSignal: uint64(unix.SIGCHLD),
	}
	r := vfork(args, unsafe.Pointer(&words[0]))
	if pid := int(r); pid < 0 {
		return nil, os.NewSyscallError("clone3", syscall.Errno(-pid))
	}
	proc, err := newProcess(int(r), int(pidfd))
	if err != nil {
		return nil, err
	}
	// The last call's result is still 0 if execveat succeeded, or if the child was killed before
	// it. Wait and the end of the report pipe show which.
	for i := range calls {
		result := int64(words[(i*stepSize+offRet)/8])
		if result < 0 {
			_, _ = proc.Wait()
			proc.Close()
			return nil, failBefore(calls, i, result)
		}
	}
	return proc, nil
}

// vfork holds all that must happen between the runtime's two hooks: no stack growth,
// no preemption, no allocation.
//
//go:norace
//go:noinline
func vfork(args *cloneArgs, steps unsafe.Pointer) uintptr {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	beforeFork()
	r := spawn(args, unsafe.Sizeof(*args), steps)
	afterFork()
	return r
}

// seal returns a memfd with the image, which is executable and cannot be changed.
func seal(image []byte) (int, error) {
	fd, err := unix.MemfdCreate("sysbox-init", unix.MFD_CLOEXEC|unix.MFD_ALLOW_SEALING|unix.MFD_EXEC)
	if err == unix.EINVAL { // before Linux 6.3 every memfd is executable
		fd, err = unix.MemfdCreate("sysbox-init", unix.MFD_CLOEXEC|unix.MFD_ALLOW_SEALING)
	}
	if err != nil {
		return -1, os.NewSyscallError("memfd_create", err)
	}
	n, err := unix.Write(fd, image)
	if err == nil && n != len(image) {
		err = unix.EIO
	}
	if err == nil {
		const seals = unix.F_SEAL_SEAL | unix.F_SEAL_SHRINK | unix.F_SEAL_GROW | unix.F_SEAL_WRITE
		if _, err = unix.FcntlInt(uintptr(fd), unix.F_ADD_SEALS, seals|unix.F_SEAL_EXEC); err == unix.EINVAL {
			_, err = unix.FcntlInt(uintptr(fd), unix.F_ADD_SEALS, seals) // before Linux 6.3
		}
	}
	if err != nil {
		unix.Close(fd)
		return -1, fmt.Errorf("write and seal the program's image (%d bytes): %w", len(image), err)
	}
	return fd, nil
}
