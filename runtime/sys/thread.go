// SPDX-License-Identifier: Apache-2.0

package sys

import (
	"fmt"
	"os"
	"runtime"
	"unsafe"

	"golang.org/x/sys/unix"
)

// Thread runs f on its own operating system thread, which exits with f: f may change
// what belongs to the thread (namespaces after [Unshare] of CLONE_FS, root, credentials)
// without restoring it. A child that has asked for a parent-death signal gets it when the
// thread exits.
func Thread(f func() error) error {
	done := make(chan error, 1)
	go func() {
		// The thread of a goroutine that ends locked exits with it. The first thread of
		// the process is an exception: the Go runtime parks it forever, and /proc/self,
		// which shows the first thread, would keep what f has changed. So it is not
		// used.
		runtime.LockOSThread()
		if unix.Gettid() == unix.Getpid() {
			done <- Thread(f)
			runtime.UnlockOSThread()
			return
		}
		finished := false
		defer func() {
			if !finished {
				done <- fmt.Errorf("a function called runtime.Goexit on its own thread")
			}
		}()
		err := f()
		finished = true
		done <- err
	}()
	return <-done
}

// Unshare gives this thread its own namespaces; CLONE_FS its own root and working
// directory, which CLONE_NEWNS requires. The thread must be locked.
func Unshare(fl int) error {
	return call(func() error { return unix.Unshare(fl) }, "unshare", "%s", flags(fl, cloneFlags...))
}

// Setns moves this thread to the namespaces fl of a process (pidfd) or to one namespace.
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

// WithoutSignals runs f on a thread that only SIGKILL and SIGSTOP interrupt. Other threads
// get the signals for the process; those for this thread wait until f returns. If the
// signals cannot be blocked it returns the error and does not run f.
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

// NoDumpable protects this process from others with the same ids: its memory, descriptors,
// executable and core. A shim calls it first.
func NoDumpable() error { return Prctl(unix.PR_SET_DUMPABLE, 0) }

const noSetuidFixup = 1 << 2 // SECBIT_NO_SETUID_FIXUP, linux/securebits.h

// AsFSID runs f on one thread with these ids for file access and ownership, and with all
// capabilities; it restores ids and securebits afterwards. An overlay with an idmapped upper
// layer must be made like this, by mapped ids, or it is read-only.
//
// Errors: those of f, or that the ids could not be set. A thread whose ids cannot be
// restored is discarded.
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
	// f may also end by a panic or by Goexit (Fatal in a test).
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
	// setfsuid returns no error, only the previous id.
	if setFSID(unix.SYS_SETFSUID, -1) != uid || setFSID(unix.SYS_SETFSGID, -1) != gid {
		return fmt.Errorf("set fsuid to %d and fsgid to %d: permission denied; this needs CAP_SETUID and CAP_SETGID, and both ids mapped in this user namespace", uid, gid)
	}
	return f()
}

// SetEffectiveIDs gives this locked thread effective ids and keeps all capabilities; for a
// thread that will be discarded.
func SetEffectiveIDs(uid, gid int) error {
	if err := Prctl(unix.PR_SET_SECUREBITS, noSetuidFixup); err != nil {
		return err
	}
	same := ^uintptr(0)
	return call(func() error {
		// Raw calls: those of package syscall set the ids of all threads.
		if _, _, e := unix.RawSyscall(unix.SYS_SETRESGID, same, uintptr(gid), same); e != 0 {
			return e
		}
		if _, _, e := unix.RawSyscall(unix.SYS_SETRESUID, same, uintptr(uid), same); e != 0 {
			return e
		}
		return nil
	}, "setresuid", "-1, %d, -1; setresgid(-1, %d, -1)", uid, gid)
}

// setFSID sets an id of this thread and returns the previous one; -1 changes nothing.
func setFSID(nr uintptr, id int) int {
	old, _, _ := unix.RawSyscall(nr, uintptr(uint32(id)), 0, 0)
	return int(uint32(old))
}

// Seccomp installs a filter of struct sock_filter instructions (8 bytes each) on this
// thread, which must be locked. It returns the listener if fl asks for one
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
