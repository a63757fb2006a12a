// SPDX-License-Identifier: Apache-2.0

package trap

import (
	"errors"
	"os"
	"sync"
	"unsafe"

	"golang.org/x/sys/unix"

	"sysbox/runtime/sys"
)

// notification is struct seccomp_notif, seccomp_unotify(2).
type notification struct {
	id    uint64
	tid   uint32 // the calling thread's, in this process's pid namespace
	flags uint32
	nr    int32
	arch  uint32 // AUDIT_ARCH_*
	ip    uint64
	args  [6]uint64
}

// notifyResponse is struct seccomp_notif_resp.
type notifyResponse struct {
	id    uint64
	value int64
	errno int32 // negative
	flags uint32
}

// syncWakeUp is SECCOMP_USER_NOTIF_FD_SYNC_WAKE_UP (Linux 6.6): as soon as it is answered, the
// caller runs on this thread's processor.
const syncWakeUp = 1

// listener receives the notifications of one filter.
type listener struct {
	file *os.File
	fd   int // file's
	// events is an epoll instance that watches file, once for each arm. If Go's poller watched
	// file directly, each call would wake one of the poller's threads in addition to the worker
	// that waits for calls.
	events *os.File
	epoll  int // events's
	// users counts the workers that use fd. file is closed after the last one.
	users sync.WaitGroup
}

func newListener(f *os.File) (*listener, error) {
	l := &listener{file: f, fd: int(f.Fd())}
	// Before Linux 6.6 the answer is EINVAL, and wake-ups are slower.
	for unix.IoctlSetInt(l.fd, unix.SECCOMP_IOCTL_NOTIF_SET_FLAGS, syncWakeUp) == unix.EINTR {
	}
	var err error
	if l.epoll, err = unix.EpollCreate1(unix.EPOLL_CLOEXEC); err != nil {
		return nil, err
	}
	err = unix.EpollCtl(l.epoll, unix.EPOLL_CTL_ADD, l.fd, &unix.EpollEvent{Events: unix.EPOLLONESHOT})
	if err == nil {
		err = unix.SetNonblock(l.epoll, true) // otherwise Go's poller does not accept it
	}
	if err != nil {
		unix.Close(l.epoll)
		return nil, err
	}
	l.events = os.NewFile(uintptr(l.epoll), "events of a seccomp listener")
	return l, nil
}

func (l *listener) close() {
	l.events.Close()
	l.file.Close()
}

// errEnded: no process is left that could call.
var errEnded = errors.New("the last process with this filter has ended")

// wait returns when a call is there, or with errEnded.
func (l *listener) wait() error {
	conn, err := l.events.SyscallConn()
	if err != nil {
		return err
	}
	if err := l.arm(); err != nil {
		return err
	}
	var failed error
	err = conn.Read(func(uintptr) bool {
		for {
			var event [1]unix.EpollEvent
			n, err := unix.EpollWait(l.epoll, event[:], 0) // this disarms events
			if err == unix.EINTR {
				continue
			}
			if n == 0 || err != nil {
				failed = err
				return err != nil
			}
			var ready bool
			if ready, failed = l.ready(0); ready || failed != nil {
				return true
			}
			if failed = l.arm(); failed != nil { // the caller was killed in the meantime
				return true
			}
		}
	})
	return errors.Join(err, failed)
}

// arm makes events report the next call, or the end.
func (l *listener) arm() error {
	return unix.EpollCtl(l.epoll, unix.EPOLL_CTL_MOD, l.fd, &unix.EpollEvent{Events: unix.EPOLLIN | unix.EPOLLONESHOT})
}

// ready waits up to timeout milliseconds for a call.
func (l *listener) ready(timeout int) (bool, error) {
	for {
		p := []unix.PollFd{{Fd: int32(l.fd), Events: unix.POLLIN}}
		_, err := unix.Poll(p, timeout)
		switch {
		case err == unix.EINTR:
			continue
		case err != nil:
			return false, err
		case p[0].Revents&unix.POLLIN != 0:
			return true, nil
		case p[0].Revents&unix.POLLHUP != 0:
			return false, errEnded
		case p[0].Revents&unix.POLLERR != 0:
			// A signal came while the kernel waited for the filter's lock (seccomp_notify_poll in
			// kernel/seccomp.c). It says nothing about calls.
			continue
		case p[0].Revents != 0:
			return false, unix.EBADF
		}
		return false, nil
	}
}

// next receives a notification that comes within timeout milliseconds. It polls first: a receive
// would block without end if the announced call has gone, and before Linux 6.12 also if the last
// process has ended.
func (l *listener) next(n *notification, timeout int) (bool, error) {
	for {
		if ready, err := l.ready(timeout); !ready {
			return false, err
		}
		*n = notification{}
		_, _, e := unix.Syscall(unix.SYS_IOCTL, uintptr(l.fd), unix.SECCOMP_IOCTL_NOTIF_RECV, uintptr(unsafe.Pointer(n)))
		switch e {
		case 0:
			return true, nil
		case unix.ENOENT, unix.EINTR: // the caller was killed in the meantime
			continue
		}
		return false, e
	}
}

// valid reports whether the caller still waits. If it does, everything opened by its number
// before belongs to it.
func (l *listener) valid(id uint64) bool {
	return l.ioctl(unix.SECCOMP_IOCTL_NOTIF_ID_VALID, unsafe.Pointer(&id)) == 0
}

// answer wakes the caller, if it still waits.
func (l *listener) answer(id uint64, v response) {
	if v.file != nil {
		e := l.give(id, v)
		v.file.Close()
		if v.onClose != nil {
			v.onClose()
		}
		if e == 0 {
			return
		}
		v = fail(e) // for example, the caller has reached its limit of open files
	}
	r := notifyResponse{id: id, value: v.value, errno: -int32(v.errno)}
	if v.pass {
		r = notifyResponse{id: id, flags: unix.SECCOMP_USER_NOTIF_FLAG_CONTINUE}
	}
	_ = l.ioctl(unix.SECCOMP_IOCTL_NOTIF_SEND, unsafe.Pointer(&r)) // ENOENT: the caller was killed
}

// ioctl makes a request that waits only for the filter's lock, and repeats it when a signal of
// Go's scheduler interrupts that wait. The callers take the lock as well, and they may get little
// processor time (SCHED_IDLE) or be throttled (memory.high). So this uses a system call that the
// scheduler knows of: a raw one would keep other goroutines waiting.
func (l *listener) ioctl(request uintptr, arg unsafe.Pointer) unix.Errno {
	for {
		_, _, e := unix.Syscall(unix.SYS_IOCTL, uintptr(l.fd), request, uintptr(arg))
		if e != unix.EINTR {
			return e
		}
	}
}

// give answers with a file. No signal may interrupt the wait for the caller to take it: by then
// the kernel has marked the call as answered, and it would withdraw the file.
func (l *listener) give(id uint64, v response) (e unix.Errno) {
	add := struct {
		id                          uint64
		flags, from, to, newFDFlags uint32
	}{id: id, flags: unix.SECCOMP_ADDFD_FLAG_SEND, from: uint32(v.file.Fd())}
	if v.closeOnExec {
		add.newFDFlags = unix.O_CLOEXEC
	}
	err := sys.WithoutSignals(func() {
		_, _, e = unix.Syscall(unix.SYS_IOCTL, uintptr(l.fd), unix.SECCOMP_IOCTL_NOTIF_ADDFD, uintptr(unsafe.Pointer(&add)))
	})
	if e == 0 && err != nil {
		return unix.EAGAIN
	}
	return e
}
