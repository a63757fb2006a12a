package sys

import (
	"fmt"
	"os"
	"runtime"
	"unsafe"

	"golang.org/x/sys/unix"
)

// Thread runs f on an operating system thread of its own, which ends with f: f may
// change what belongs to the thread (namespaces after [Unshare] of CLONE_FS, root,
// credentials) and need restore nothing. Children that have asked for a parent-death
// signal get it when the thread ends.
func Thread(f func() error) error {
	done := make(chan error, 1)
	go func() {
		// A goroutine that ends locked takes its thread with it. That holds for all
		// but the process's first thread, which the runtime parks for ever: what f did
		// to it is then gone from the program as well, but not from /proc/self, which
		// is the first thread's. So that one is not used.
		runtime.LockOSThread()
		if unix.Gettid() == unix.Getpid() {
			done <- Thread(f)
			runtime.UnlockOSThread()
			return
		}
		finished := false
		defer func() {
			if !finished {
				done <- fmt.Errorf("the function that runs on a thread of its own has called runtime.Goexit")
			}
		}()
		err := f()
		finished = true
		done <- err
	}()
	return <-done
}

// Unshare gives this thread its own namespaces; CLONE_FS its own root and working
// directory, which CLONE_NEWNS demands. The thread must be locked.
func Unshare(fl int) error {
	return call(func() error { return unix.Unshare(fl) }, "unshare", "%s", flags(fl, cloneFlags...))
}

// Setns joins this thread to the namespaces fl of a process (pidfd) or to one namespace.
// The thread must be locked.
func Setns(ns *os.File, fl int) error {
	return control(ns, func(fd int) error {
		return call(func() error { return unix.Setns(fd, fl) }, "setns", "%s, %s", name(ns), flags(fl, cloneFlags...))
	})
}

var cloneFlags = []flagName{
	{unix.CLONE_FS, "CLONE_FS"},
	{unix.CLONE_FILES, "CLONE_FILES"},
	{unix.CLONE_NEWNS, "CLONE_NEWNS"},
	{unix.CLONE_NEWCGROUP, "CLONE_NEWCGROUP"},
	{unix.CLONE_NEWUTS, "CLONE_NEWUTS"},
	{unix.CLONE_NEWIPC, "CLONE_NEWIPC"},
	{unix.CLONE_NEWUSER, "CLONE_NEWUSER"},
	{unix.CLONE_NEWPID, "CLONE_NEWPID"},
	{unix.CLONE_NEWNET, "CLONE_NEWNET"},
	{unix.CLONE_NEWTIME, "CLONE_NEWTIME"},
}

// WithoutSignals runs f on a thread that no signal interrupts but SIGKILL and SIGSTOP; those
// that come for the process go to other threads, those for this one wait for f's end. Where
// they could not be blocked f is not run, and that is the error.
func WithoutSignals(f func()) error {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	var all, before unix.Sigset_t
	for i := range all.Val {
		all.Val[i] = ^uint64(0)
	}
	block := func(set, old *unix.Sigset_t) error {
		return call(func() error { return unix.PthreadSigmask(unix.SIG_SETMASK, set, old) }, "rt_sigprocmask", "SIG_SETMASK")
	}
	if err := block(&all, &before); err != nil {
		return err
	}
	f()
	return block(&before, nil)
}

// Prctl is prctl(2) for options without a result.
func Prctl(option int, args ...uintptr) error {
	var a [4]uintptr
	copy(a[:], args)
	return call(func() error { return unix.Prctl(option, a[0], a[1], a[2], a[3]) }, "prctl", "%d, %v", option, args)
}

// NoDumpable keeps others of the same ids out of this process: its memory, its
// descriptors, its executable, its core. A shim calls it first of all.
func NoDumpable() error { return Prctl(unix.PR_SET_DUMPABLE, 0) }

const noSetuidFixup = 1 << 2 // SECBIT_NO_SETUID_FIXUP, linux/securebits.h

// AsFSID runs f with these ids for file access and ownership, all capabilities kept,
// on one thread; it restores ids and securebits after. An overlay whose upper layer is
// idmapped must be made so, by ids that are mapped, or it is read-only.
//
// Errors: those of f, or that the ids could not be set. A thread whose ids cannot be
// restored is thrown away.
func AsFSID(uid, gid int, f func() error) (err error) {
	runtime.LockOSThread()
	unlock := true
	defer func() {
		if unlock {
			runtime.UnlockOSThread()
		}
	}()
	bits, err := unix.PrctlRetInt(unix.PR_GET_SECUREBITS, 0, 0, 0, 0)
	if err != nil {
		return &Error{Call: "prctl", Args: "PR_GET_SECUREBITS", Err: err}
	}
	if err := Prctl(unix.PR_SET_SECUREBITS, uintptr(bits|noSetuidFixup)); err != nil {
		return err
	}
	oldGID, oldUID := setFSID(unix.SYS_SETFSGID, gid), setFSID(unix.SYS_SETFSUID, uid)
	// f may be left by a panic or by Goexit (a test's Fatal), too.
	defer func() {
		setFSID(unix.SYS_SETFSUID, oldUID)
		setFSID(unix.SYS_SETFSGID, oldGID)
		restored := setFSID(unix.SYS_SETFSUID, -1) == oldUID && setFSID(unix.SYS_SETFSGID, -1) == oldGID
		e := Prctl(unix.PR_SET_SECUREBITS, uintptr(bits))
		if e == nil && !restored {
			e = unix.EPERM
		}
		if e != nil {
			unlock = false
			if err == nil {
				err = fmt.Errorf("restore fsuid %d, fsgid %d and securebits %#x of a thread: %w", oldUID, oldGID, bits, e)
			}
		}
	}()
	// setfsuid tells no error, but the id that was in force before.
	if setFSID(unix.SYS_SETFSUID, -1) != uid || setFSID(unix.SYS_SETFSGID, -1) != gid {
		return fmt.Errorf("set fsuid to %d and fsgid to %d: the kernel refused; CAP_SETUID and CAP_SETGID are needed, and both ids mapped in this user namespace", uid, gid)
	}
	return f()
}

// SetEffectiveIDs gives this locked thread effective ids, all capabilities
// kept; for a thread that is thrown away.
func SetEffectiveIDs(uid, gid int) error {
	if err := Prctl(unix.PR_SET_SECUREBITS, noSetuidFixup); err != nil {
		return err
	}
	same := ^uintptr(0)
	return call(func() error {
		// The raw calls, as Go's own set the ids of all threads.
		if _, _, e := unix.RawSyscall(unix.SYS_SETRESGID, same, uintptr(gid), same); e != 0 {
			return e
		}
		if _, _, e := unix.RawSyscall(unix.SYS_SETRESUID, same, uintptr(uid), same); e != 0 {
			return e
		}
		return nil
	}, "setresuid", "-1, %d, -1; setresgid(-1, %d, -1)", uid, gid)
}

// setFSID sets this thread's id, -1 being no id, and returns the one before.
func setFSID(nr uintptr, id int) int {
	old, _, _ := unix.RawSyscall(nr, uintptr(uint32(id)), 0, 0)
	return int(uint32(old))
}

// Seccomp installs a filter of struct sock_filter instructions (8 bytes each) on this
// thread, which must be locked, and returns the listener where fl asks for one
// (SECCOMP_FILTER_FLAG_NEW_LISTENER), otherwise nil.
func Seccomp(insns []byte, fl uint64) (*os.File, error) {
	if len(insns) == 0 || len(insns)%8 != 0 || len(insns)/8 > 4096 {
		return nil, fmt.Errorf("a seccomp filter of %d bytes: it must be 1 to 4096 instructions of 8 bytes", len(insns))
	}
	prog := struct {
		n     uint16
		insns *byte
	}{uint16(len(insns) / 8), &insns[0]}
	f, err := open(func() (int, error) {
		r, _, e := unix.Syscall(unix.SYS_SECCOMP, unix.SECCOMP_SET_MODE_FILTER, uintptr(fl), uintptr(unsafe.Pointer(&prog)))
		if e != 0 {
			return -1, e
		}
		return int(r), nil
	}, "seccomp listener", "seccomp", "SECCOMP_SET_MODE_FILTER, %#x, %d instructions", fl, prog.n)
	if err != nil || fl&unix.SECCOMP_FILTER_FLAG_NEW_LISTENER != 0 {
		return f, err
	}
	return nil, nil
}
