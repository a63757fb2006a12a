// SPDX-License-Identifier: Apache-2.0

package trap

import (
	"cmp"
	"errors"
	"strconv"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"

	"sysbox/runtime/sys"
)

// worker is a thread that has its own root, working directory, umask and mount namespace. For one
// job at a time it takes on those of a caller. If it cannot restore its own, the thread ends.
type worker struct {
	pool    *workers
	server  *Server
	changed struct{ creds, fs, mounts bool }
	handle  procHandle // of the last caller
	// effective is what setCaps has set.
	effective uint64
}

// workers lends out such threads. A thread that is idle for a while ends.
type workers struct {
	server *Server
	jobs   chan job
	root   int // O_PATH of this process's root
	mounts int // its mount namespace
	groups []int
}

type job struct {
	// An error of do ends the thread.
	do func(*worker) error
	// after is called at the end, and also if no thread could be started.
	after func()
}

// idle is how long a thread without a job is kept.
const idle = 2 * time.Second

func newWorkers(s *Server) (*workers, error) {
	p := &workers{server: s, jobs: make(chan job), root: -1, mounts: -1}
	var err error
	if p.groups, err = unix.Getgroups(); err != nil {
		return nil, err
	}
	// This takes the root and namespace of the process, not of the current thread.
	pid := strconv.Itoa(unix.Getpid())
	if p.root, err = unix.Openat(s.proc, pid+"/root", unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0); err != nil {
		return nil, err
	}
	if p.mounts, err = unix.Openat(s.proc, pid+"/ns/mnt", unix.O_RDONLY|unix.O_CLOEXEC, 0); err != nil {
		unix.Close(p.root)
		return nil, err
	}
	return p, nil
}

// close closes the handles. No job may be running.
func (p *workers) close() {
	close(p.jobs)
	unix.Close(p.root)
	unix.Close(p.mounts)
}

// run runs a job on one of the threads.
func (p *workers) run(j job) {
	select {
	case p.jobs <- j:
	default:
		go func() {
			if err := sys.Thread(func() error { return p.serve(j) }); err != nil {
				p.server.logOnce("answer system calls: " + err.Error())
			}
		}()
	}
}

func (p *workers) serve(j job) error {
	if err := sys.Unshare(unix.CLONE_FS); err != nil {
		j.after()
		return err
	}
	w := &worker{pool: p, server: p.server}
	for {
		err := j.do(w)
		j.after()
		if err != nil {
			return nil // the thread ends, and with it whatever it could not restore
		}
		select {
		case next, more := <-p.jobs:
			if !more {
				return nil
			}
			j = next
		case <-time.After(idle):
			return nil
		}
	}
}

// setCreds takes on an identity's file system ids, groups and umask. It leaves the thread only
// the given capabilities.
func (w *worker) setCreds(id *identity, capabilities uint64) error {
	w.changed.creds = true
	if err := setGroups(id.groups); err != nil {
		return err
	}
	setFSID(unix.SYS_SETFSGID, id.fsgid)
	setFSID(unix.SYS_SETFSUID, id.fsuid)
	if setFSID(unix.SYS_SETFSUID, ^uint32(0)) != id.fsuid || setFSID(unix.SYS_SETFSGID, ^uint32(0)) != id.fsgid {
		return unix.EPERM
	}
	unix.Umask(id.umask)
	return w.setCaps(capabilities)
}

// setCaps sets the thread's effective capabilities.
func (w *worker) setCaps(effective uint64) error {
	w.changed.creds = true
	w.effective = effective
	h := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
	var d [2]unix.CapUserData
	if err := unix.Capget(&h, &d[0]); err != nil {
		return err
	}
	d[0].Effective, d[1].Effective = uint32(effective)&d[0].Permitted, uint32(effective>>32)&d[1].Permitted
	return unix.Capset(&h, &d[0])
}

// withPtrace lets look read from the caller while the thread has the caller's identity. That
// identity alone does not suffice, as the caller is in another user namespace.
func (w *worker) withPtrace(look func() error) error { return w.withCaps(1<<unix.CAP_SYS_PTRACE, look) }

// withCaps calls do with additional capabilities. A thread with its own credentials has all.
func (w *worker) withCaps(capabilities uint64, do func() error) error {
	if !w.changed.creds {
		return do()
	}
	before := w.effective
	if err := w.setCaps(before | capabilities); err != nil {
		return err
	}
	err := do()
	return cmp.Or(w.setCaps(before), err)
}

// openOfCaller opens one of the caller's files in procfs, with the capabilities that this takes.
// If the caller is not dumpable, as after setfsuid(2), its fd directory belongs to another user
// and is closed to the caller. The target of a link is not opened, so the caller gains no right.
func (w *worker) openOfCaller(open func() (int, error)) (fd int, err error) {
	fd = -1
	err = w.withCaps(1<<unix.CAP_SYS_PTRACE|1<<capDACReadSearch, func() (err error) {
		fd, err = open()
		return err
	})
	if err != nil && fd >= 0 {
		unix.Close(fd)
		fd = -1
	}
	return fd, err
}

// joinMounts enters a mount namespace.
func (w *worker) joinMounts(mounts int) error {
	w.changed.mounts = true
	return unix.Setns(mounts, unix.CLONE_NEWNS)
}

// restoreCreds gives the thread its own credentials, root and mount namespace back.
func (w *worker) restoreCreds() error {
	if w.changed.creds {
		err := w.setCaps(^uint64(0))
		setFSID(unix.SYS_SETFSUID, 0)
		setFSID(unix.SYS_SETFSGID, 0)
		unix.Umask(0o022)
		groups := make([]uint32, len(w.pool.groups))
		for i, g := range w.pool.groups {
			groups[i] = uint32(g)
		}
		// A change of ids may have made this process's memory readable (fs.suid_dumpable).
		err = errors.Join(err, setGroups(groups), w.setCaps(^uint64(0)), sys.NoDumpable())
		if err != nil {
			return err
		}
		if setFSID(unix.SYS_SETFSUID, ^uint32(0)) != 0 || setFSID(unix.SYS_SETFSGID, ^uint32(0)) != 0 {
			return unix.EPERM
		}
	}
	if w.changed.mounts { // setns also changes the root and the working directory
		if err := unix.Setns(w.pool.mounts, unix.CLONE_NEWNS); err != nil {
			return err
		}
	}
	if w.changed.fs || w.changed.mounts {
		if err := unix.Fchdir(w.pool.root); err != nil {
			return err
		}
		if err := unix.Chroot("."); err != nil {
			return err
		}
	}
	w.changed = struct{ creds, fs, mounts bool }{}
	return nil
}

// setGroups sets the groups of this thread only; package unix would set those of all threads.
func setGroups(groups []uint32) error {
	first := unsafe.SliceData(append(groups[:len(groups):len(groups)], 0)) // not nil
	_, _, e := unix.RawSyscall(unix.SYS_SETGROUPS, uintptr(len(groups)), uintptr(unsafe.Pointer(first)), 0)
	if e != 0 {
		return e
	}
	return nil
}

// setFSID sets this thread's file system id and returns the previous one. -1 changes nothing.
func setFSID(nr uintptr, id uint32) uint32 {
	old, _, _ := unix.RawSyscall(nr, uintptr(id), 0, 0)
	return uint32(old)
}
