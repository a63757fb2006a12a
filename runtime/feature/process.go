// SPDX-License-Identifier: Apache-2.0

package feature

import (
	"errors"
	"fmt"
	"io"
	"os"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"

	"sysbox/runtime/program"
	"sysbox/runtime/sys"
)

// pidfdPoll waits by poll for the exit of a process.
func pidfdPoll() error {
	// The program does not exit before its standard input ends.
	r, w, err := sys.Pipe()
	if err != nil {
		return err
	}
	defer r.Close()
	defer w.Close()
	p, err := program.Start(program.Program{
		{Nr: unix.SYS_READ, Args: []program.Arg{program.Int(0), &program.Buffer{N: 1}, program.Int(1)}},
		program.Exit(0),
	}, program.Options{Files: []program.File{{File: r, At: 0}}, Inherit: true})
	if err != nil {
		return err
	}
	defer p.Close()
	ready := func(timeout int) (bool, error) {
		fds := []unix.PollFd{{Fd: int32(p.PidFD.Fd()), Events: unix.POLLIN}}
		for {
			n, err := unix.Poll(fds, timeout)
			if err != unix.EINTR {
				return n == 1 && fds[0].Revents&unix.POLLIN != 0, os.NewSyscallError("poll", err)
			}
		}
	}
	early, err1 := ready(0)
	w.Close()
	ended, err2 := ready(10_000)
	_, err3 := p.Wait()
	if err := errors.Join(err1, err2, err3); err != nil {
		return err
	}
	if early || !ended {
		return fmt.Errorf("poll of a pidfd: reported exited for a living process: %v, for an exited process: %v", early, ended)
	}
	return nil
}

func timeNamespace() error {
	return sys.Thread(func() error {
		const children = "/proc/thread-self/ns/time_for_children"
		before, err := os.Readlink(children)
		if err != nil {
			return err
		}
		if err := sys.Unshare(unix.CLONE_NEWTIME); err != nil {
			return err
		}
		after, err := os.Readlink(children)
		if err == nil && before == after {
			err = fmt.Errorf("unshare of the time namespace had no effect: it is still %s", after)
		}
		return err
	})
}

// OwnBinfmt mounts a binfmt_misc that belongs to a new user namespace.
func OwnBinfmt() error {
	p, err := program.Start(program.Program{
		{Nr: unix.SYS_UNSHARE, Args: []program.Arg{program.Int(unix.CLONE_NEWUSER | unix.CLONE_NEWNS)}},
		{Nr: unix.SYS_FSOPEN, Label: "fs", Args: []program.Arg{program.Str("binfmt_misc"), program.Int(unix.FSOPEN_CLOEXEC)}},
		{Nr: unix.SYS_FSCONFIG, Args: []program.Arg{program.Result("fs"), program.Int(unix.FSCONFIG_CMD_CREATE), program.Int(0), program.Int(0), program.Int(0)}},
		program.Exit(0),
	}, program.Options{Inherit: true})
	if err != nil {
		return err
	}
	defer p.Close()
	_, err = p.Next(time.Now().Add(10 * time.Second))
	if _, waited := p.Wait(); waited != nil {
		return waited
	}
	if err == io.EOF {
		return nil
	}
	return err
}

func openat2() error {
	f, err := sys.Openat2(nil, "/", unix.OpenHow{Flags: unix.O_PATH, Resolve: unix.RESOLVE_NO_MAGICLINKS})
	if err != nil {
		return err
	}
	return f.Close()
}

// cloneIntoCgroup asks for a child in a directory that is not a cgroup: a kernel that knows
// the flag returns EBADF, others E2BIG or EINVAL. No child is made.
func cloneIntoCgroup() error {
	args := struct {
		flags, pidfd, childTid, parentTid, exitSignal, stack, stackSize, tls, setTid, setTidSize, cgroup uint64
	}{flags: unix.CLONE_INTO_CGROUP, cgroup: 1<<31 - 1}
	_, _, e := unix.RawSyscall(unix.SYS_CLONE3, uintptr(unsafe.Pointer(&args)), unsafe.Sizeof(args), 0)
	if e != unix.EBADF {
		return os.NewSyscallError("clone3(CLONE_INTO_CGROUP)", e)
	}
	return nil
}

// closeRange marks file descriptors that do not exist.
func closeRange() error {
	return os.NewSyscallError("close_range", unix.CloseRange(1<<30, 1<<30, unix.CLOSE_RANGE_CLOEXEC))
}

func memfdExec() error {
	fd, err := unix.MemfdCreate("sysbox-probe", unix.MFD_CLOEXEC|unix.MFD_ALLOW_SEALING|unix.MFD_EXEC)
	if err != nil {
		return os.NewSyscallError("memfd_create(MFD_EXEC)", err)
	}
	defer unix.Close(fd)
	if _, err := unix.FcntlInt(uintptr(fd), unix.F_ADD_SEALS, unix.F_SEAL_EXEC); err != nil {
		return os.NewSyscallError("fcntl(F_ADD_SEALS, F_SEAL_EXEC)", err)
	}
	if err := unix.Fchmod(fd, 0o600); err != unix.EPERM {
		return fmt.Errorf("chmod of a memfd whose executability is sealed: %v, not EPERM", err)
	}
	return nil
}

// seccompFlags checks that the kernel knows the flags of a filter. There is no filter, so a
// kernel that knows them returns EFAULT.
func seccompFlags(fl uintptr) error {
	_, _, e := unix.Syscall(unix.SYS_SECCOMP, unix.SECCOMP_SET_MODE_FILTER, fl, 0)
	if e != unix.EFAULT {
		return os.NewSyscallError(fmt.Sprintf("seccomp(SECCOMP_SET_MODE_FILTER, %#x)", fl), e)
	}
	return nil
}

// SeccompWaitKillable checks that filters can have SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV
// (Linux 5.19).
func SeccompWaitKillable() error {
	return seccompFlags(unix.SECCOMP_FILTER_FLAG_NEW_LISTENER | unix.SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV)
}

// withListener lends the listener of a filter that allows everything, on a thread that exits
// afterwards.
func withListener(use func(fd uintptr) error) error {
	return sys.Thread(func() error {
		// struct sock_filter: BPF_RET|BPF_K SECCOMP_RET_ALLOW
		allow := []byte{0x06, 0, 0, 0, 0, 0, 0xff, 0x7f}
		l, err := sys.Seccomp(allow, unix.SECCOMP_FILTER_FLAG_NEW_LISTENER)
		if errors.Is(err, unix.EBUSY) {
			return fmt.Errorf("%w: this process already has a seccomp listener", err)
		}
		if err != nil {
			return err
		}
		defer l.Close()
		return use(l.Fd())
	})
}

func seccompSyncWakeUp() error {
	return withListener(func(fd uintptr) error {
		_, _, e := unix.Syscall(unix.SYS_IOCTL, fd, unix.SECCOMP_IOCTL_NOTIF_SET_FLAGS, unix.SECCOMP_USER_NOTIF_FD_SYNC_WAKE_UP)
		if e != 0 {
			return os.NewSyscallError("ioctl(SECCOMP_IOCTL_NOTIF_SET_FLAGS)", e)
		}
		return nil
	})
}

// seccompAddFD answers a notification that does not exist with a file: a kernel that knows the
// flag returns ENOENT, others EINVAL.
func seccompAddFD() error {
	return withListener(func(fd uintptr) error {
		// struct seccomp_notif_addfd
		addfd := struct {
			id                             uint64
			flags, srcfd, newfd, newfdFlag uint32
		}{id: 1<<64 - 1, flags: unix.SECCOMP_ADDFD_FLAG_SEND, srcfd: uint32(fd)}
		_, _, e := unix.Syscall(unix.SYS_IOCTL, fd, unix.SECCOMP_IOCTL_NOTIF_ADDFD, uintptr(unsafe.Pointer(&addfd)))
		if e != unix.ENOENT {
			return os.NewSyscallError("ioctl(SECCOMP_IOCTL_NOTIF_ADDFD, SECCOMP_ADDFD_FLAG_SEND)", e)
		}
		return nil
	})
}
