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

// worker is a thread that has a root, a working directory, a umask and a mount
// namespace of its own. For one job at a time it takes on those of a caller; what cannot
// be taken back ends the thread.
type worker struct {
	pool    *workers
	server  *Server
	changed struct{ creds, fs, mounts bool }
	handle  procHandle // of who called last
	// effective are the capabilities that capable has set.
	effective uint64
}

// workers lends out such threads. Idle ones end after a while.
type workers struct {
	server *Server
	jobs   chan job
	root   int // O_PATH of this process's root
	mounts int // its mount namespace
	groups []int
}

type job struct {
	// do's error ends the thread.
	do func(*worker) error
	// after is called at the end, or if there was no thread to be had.
	after func()
}

// idle is how long a thread waits for the next job.
const idle = 2 * time.Second

func newWorkers(s *Server) (*workers, error) {
	p := &workers{server: s, jobs: make(chan job), root: -1, mounts: -1}
	var err error
	if p.groups, err = unix.Getgroups(); err != nil {
		return nil, err
	}
	// The process's own, not those of the thread that this is called on.
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

// close gives up the handles; no job may be running.
func (p *workers) close() {
	close(p.jobs)
	unix.Close(p.root)
	unix.Close(p.mounts)
}

// run has one of the threads do a job.
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
			return nil // the thread goes, and with it what it could not give back
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

// become takes on an identity's ids for files, its groups and umask, and leaves the
// thread these capabilities of this process's only.
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

// capable changes the thread's effective capabilities.
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

// peek looks at the caller, also while the thread has the caller's identity: by that it may
// not, as the caller is a process of another user namespace.
func (w *worker) withPtrace(look func() error) error { return w.withCaps(1<<unix.CAP_SYS_PTRACE, look) }

// with does something with further capabilities. A thread with an identity of its own has all.
func (w *worker) withCaps(capabilities uint64, do func() error) error {
	if !w.changed.creds {
		return do()
	}
	kept := w.effective
	if err := w.setCaps(kept | capabilities); err != nil {
		return err
	}
	err := do()
	return cmp.Or(w.setCaps(kept), err)
}

// callers opens one of the caller's files in procfs, by open, as peek. The folder of files
// there belongs to another than the caller, and is closed to it, where the caller is not
// dumpable, as after setfsuid(2). What a link leads to is not opened: the caller gets no
// right by this that it has not.
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

// join enters a mount namespace.
func (w *worker) joinMounts(mounts int) error {
	w.changed.mounts = true
	return unix.Setns(mounts, unix.CLONE_NEWNS)
}

// restore gives the thread back what it had.
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
		// A change of ids may have made this process's memory readable
		// (fs.suid_dumpable).
		err = errors.Join(err, setGroups(groups), w.setCaps(^uint64(0)), sys.NoDumpable())
		if err != nil {
			return err
		}
		if setFSID(unix.SYS_SETFSUID, ^uint32(0)) != 0 || setFSID(unix.SYS_SETFSGID, ^uint32(0)) != 0 {
			return unix.EPERM
		}
	}
	if w.changed.mounts { // changes root and working directory as well
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

// setGroups sets this thread's groups; package unix would set all threads'.
func setGroups(groups []uint32) error {
	first := unsafe.SliceData(append(groups[:len(groups):len(groups)], 0)) // not nil
	_, _, e := unix.RawSyscall(unix.SYS_SETGROUPS, uintptr(len(groups)), uintptr(unsafe.Pointer(first)), 0)
	if e != 0 {
		return e
	}
	return nil
}

// setFSID sets this thread's id for files, -1 being none, and returns the one before.
func setFSID(nr uintptr, id uint32) uint32 {
	old, _, _ := unix.RawSyscall(nr, uintptr(id), 0, 0)
	return uint32(old)
}
