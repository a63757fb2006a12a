package mirror

import (
	"errors"
	"fmt"
	"os"
	"path"
	"slices"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"sysbox/runtime/sys"
	"sysbox/uidmap"
)

// Mirror is one file system of this kind.
type Mirror struct {
	uid, gid uidmap.Map
	root     *os.File // the container's root; nil before Serve
	dev      *os.File // the connection
	mount    *os.File // the mirror's own root, by which it is unmounted
	guard    *os.File // what Guard has mounted
	attached atomic.Bool

	nodes   nodes
	files   files
	buffers sync.Pool
	jobs    chan *request
	workers atomic.Int32
	// late is how many threads are in a call whose caller has been told that it took too long.
	late atomic.Int32
	// lookups are counted by the thread that reads calls.
	lookups int
	// shrinking: the kernel is being asked to forget names.
	shrinking atomic.Bool
	done      chan struct{}
}

// fsType is what /proc/self/mountinfo says of a mirror.
const fsType = "fuse.sysbox"

// New makes a mirror of a root with ids as uid and gid map them. [Mirror.Serve] gives it
// the root, [Mirror.Attach] shows it to the caller, [Mirror.Close] ends it.
func New(uid, gid uidmap.Map) (*Mirror, error) {
	m := &Mirror{uid: uid, gid: gid, jobs: make(chan *request, queued), done: make(chan struct{})}
	m.nodes.init()
	m.buffers.New = func() any { b := make([]byte, bufferSize); return &b }
	if err := m.connect(); err != nil {
		_ = m.Close() // nothing is mounted yet
		return nil, fmt.Errorf("make a FUSE file system: %w", err)
	}
	return m, nil
}

// Serve answers calls from now on, by the root, which it takes over: a mount without
// mounts below it.
func (m *Mirror) Serve(root *os.File) error {
	m.root = root
	conn, err := m.dev.SyscallConn()
	if err == nil {
		go m.serve(conn)
	}
	return err
}

func (m *Mirror) connect() error {
	dev, err := sys.Openat2(nil, "/dev/fuse", unix.OpenHow{Flags: unix.O_RDWR})
	if err != nil {
		return err
	}
	defer dev.Close()
	fs, err := sys.Fsopen("fuse")
	if err != nil {
		return err
	}
	defer fs.Close()
	if err := fs.SetString("source", "sysbox"); err != nil {
		return err
	}
	// Nobody but the host's root may enter, as it is with the folders that the caller's
	// mount lies in.
	for _, o := range [][2]string{{"subtype", "sysbox"}, {"rootmode", "40000"}, {"user_id", "0"}, {"group_id", "0"}} {
		if err := fs.SetString(o[0], o[1]); err != nil {
			return err
		}
	}
	if err := fs.SetString("fd", fmt.Sprint(dev.Fd())); err != nil {
		return err
	}
	if err := fs.Create(); err != nil {
		return err
	}
	if m.mount, err = fs.Mount(0); err != nil {
		return err
	}
	m.dev, err = sys.Pollable(dev, "/dev/fuse")
	return err
}

// Attach mounts the mirror over dir. The calling thread must be in the mount namespace of
// the caller.
func (m *Mirror) Attach(dir string) error {
	at, err := sys.Openat2(nil, dir, unix.OpenHow{Flags: unix.O_PATH | unix.O_DIRECTORY | unix.O_NOFOLLOW})
	if err != nil {
		return err
	}
	defer at.Close()
	if err := sys.MoveMount(m.mount, at); err != nil {
		return fmt.Errorf("mount over %s: %w", dir, err)
	}
	m.attached.Store(true)
	return nil
}

// Guard keeps the caller from an overlay of its own over the mirror: Docker's overlay2
// mounts one where it has been restarted, as it takes what is no overlay for nothing. While
// something is mounted on the folder that the kernel makes in the workdir, each further
// overlay with that workdir is read-only. The calling thread is as for Attach.
func (m *Mirror) Guard(workdir string) error {
	at, err := sys.Openat2(nil, path.Join(workdir, kernelsWork), unix.OpenHow{Flags: unix.O_PATH | unix.O_DIRECTORY | unix.O_NOFOLLOW})
	if err != nil {
		return err
	}
	defer at.Close()
	self, err := sys.OpenTree(at, "", false)
	if err != nil {
		return err
	}
	if err := sys.MoveMount(self, at); err != nil {
		self.Close()
		return err
	}
	m.guard = self
	return nil
}

// kernelsWork is what the kernel makes in an overlay's workdir.
const kernelsWork = "work"

// Detach unmounts the mirror, with what the caller has mounted over it since. Calls that
// are under way in the caller's own mount namespaces are answered on, until Close. The
// calling thread must be in the mount namespace of Attach's.
func (m *Mirror) Detach() error {
	if !m.attached.CompareAndSwap(true, false) {
		return nil
	}
	var err error
	if m.guard != nil {
		err = detach(m.guard)
	}
	return errors.Join(err, detach(m.mount))
}

// detach unmounts an open mount; it may be unmounted already, by [Remove] of another process.
func detach(mount *os.File) error {
	err := sys.Unmount(fdPath(mount), unix.MNT_DETACH)
	if errors.Is(err, unix.EINVAL) {
		return nil
	}
	return err
}

// Close detaches the mirror and ends it: who still uses it gets ENOTCONN.
func (m *Mirror) Close() error {
	err := m.Detach()
	select {
	case <-m.done:
		return err
	default:
		close(m.done)
	}
	for _, f := range []*os.File{m.guard, m.mount, m.dev, m.root} {
		if f != nil {
			f.Close()
		}
	}
	m.files.closeAll()
	return err
}

// Remove unmounts from dir what a mirror has left there whose process is dead, with what is
// mounted over that, and its guard from workdir. The calling thread must be in the mount
// namespace of Attach's. A mirror that its own process detaches meanwhile is left to it.
func Remove(dir, workdir string) error {
	if workdir != "" {
		if err := uncover(path.Join(workdir, kernelsWork), func(types []string) bool { return len(types) > 0 }); err != nil {
			return err
		}
	}
	return uncover(dir, func(types []string) bool { return slices.Contains(types, fsType) })
}

// maxCovers bounds how many mounts are taken off one directory: its mirror, and one for each
// restart of the caller.
const maxCovers = 1000

// uncover unmounts what is on top of dir for as long as more says so of the types of the file
// systems that are mounted there. What is on top is opened before it is looked what is there:
// of two that unmount at once, none takes away what lies below.
func uncover(dir string, more func(types []string) bool) error {
	for range maxCovers {
		top, err := sys.Openat2(nil, dir, unix.OpenHow{Flags: unix.O_PATH | unix.O_DIRECTORY | unix.O_NOFOLLOW})
		if errors.Is(err, unix.ENOENT) {
			return nil
		}
		if err != nil {
			return err
		}
		types, err := mountedOn(dir)
		if err == nil && more(types) {
			err = detach(top)
			top.Close()
			if err != nil {
				return err
			}
			continue
		}
		top.Close()
		return err
	}
	return fmt.Errorf("unmount what is on %s: there are more than %d mounts", dir, maxCovers)
}

// mountedOn returns the types of the file systems that are mounted on a directory.
func mountedOn(dir string) (types []string, err error) {
	for m, err := range sys.MountsOf("/proc/thread-self/mountinfo") {
		if err != nil {
			return nil, err
		}
		if m.Point == path.Clean(dir) {
			types = append(types, m.Type)
		}
	}
	return types, nil
}

// deadline is how long a caller waits for an answer, and lateDeadline how long while a thread
// is late: Docker holds the container's lock meanwhile, for all the calls of a copy. idle is
// how long a thread waits for the next call.
var (
	deadline     = time.Minute
	lateDeadline = 5 * time.Second
	idle         = 2 * time.Second
)

// threads bounds the threads of a mirror; what the container makes wait keeps one each.
// queued is how many calls may wait for a thread. With all threads late, calls fail at once:
// a caller that makes one after the other has waited a minute and a half by then.
const (
	threads = 8
	queued  = 64
)

// serve reads calls until the connection ends.
func (m *Mirror) serve(conn syscall.RawConn) {
	for {
		var r *request
		var failed error
		err := conn.Read(func(fd uintptr) bool {
			// No buffer is held while there is nothing to read.
			b := m.buffers.Get().(*[]byte)
			n, e := unix.Read(int(fd), *b)
			if e == nil {
				r = &request{m: m, buffer: b, data: (*b)[:n]}
				return true
			}
			m.buffers.Put(b)
			if e == unix.EAGAIN {
				return false
			}
			failed = e
			return true
		})
		switch {
		case err != nil: // closed
			return
		case failed == unix.EINTR || failed == unix.ENOENT: // the caller has given the call up
		case failed != nil: // ENODEV: unmounted everywhere
			return
		default:
			m.take(r)
		}
	}
}

// take has a call answered. What needs no file is answered here.
func (m *Mirror) take(r *request) {
	if !r.parse() {
		r.free()
		return
	}
	switch r.opcode {
	case opForget, opBatchForget:
		m.forget(r)
		r.free()
		return
	case opInterrupt:
		r.free()
		return
	case opInit:
		r.answer(initReply(r))
		r.free()
		return
	}
	if r.opcode == opLookup {
		// Not by the call's number: of a caller that makes the same few calls over and over,
		// those with a round number may be others each time.
		if m.lookups++; m.lookups%512 == 0 && m.nodes.count() > many {
			go m.shrink()
		}
	}
	if m.late.Load() >= threads {
		r.refuse()
		return
	}
	wait := deadline
	if m.late.Load() > 0 {
		wait = lateDeadline
	}
	r.timer = time.AfterFunc(wait, r.expire)
	select {
	case m.jobs <- r:
	default:
		r.refuse()
		return
	}
	for n := m.workers.Load(); n < threads; n = m.workers.Load() {
		// One thread for each call that waits.
		if len(m.jobs) == 0 {
			return
		}
		if m.workers.CompareAndSwap(n, n+1) {
			go m.work()
			return
		}
	}
}

// work answers calls on a thread that has the ids of the container's root: others may
// make no files in an overlay whose upper layer is shifted.
func (m *Mirror) work() {
	defer m.workers.Add(-1)
	uid, _ := m.uid.ToHost(0)
	gid, _ := m.gid.ToHost(0)
	// An error leaves the calls to other threads, or to their deadline.
	_ = sys.Thread(func() error {
		if err := sys.Unshare(unix.CLONE_FS); err != nil {
			return err
		}
		unix.Umask(0) // the kernel has applied the caller's
		return sys.AsFSID(int(uid), int(gid), func() error {
			wait := time.NewTimer(idle)
			defer wait.Stop()
			for {
				select {
				case r := <-m.jobs:
					r.work()
					m.files.releaseLeft()
					wait.Reset(idle)
				case <-wait.C:
					if m.nodes.count() > few {
						m.shrink()
					}
					return nil
				case <-m.done:
					return nil
				}
			}
		})
	})
}

// many is how many names the kernel may know before it is asked to forget those that
// nobody uses, few how many it may go on to know when there are no more calls. It keeps
// each until it is short of memory: a million after a copy of a million files.
const (
	many = 16384
	few  = 64
)

// shrink has the kernel forget the names that nobody uses: a remount that changes nothing
// does that.
func (m *Mirror) shrink() {
	if !m.shrinking.CompareAndSwap(false, true) {
		return
	}
	defer m.shrinking.Store(false)
	_ = lend(m.mount, func(fd int) error {
		fs, err := unix.Fspick(fd, "", unix.FSPICK_EMPTY_PATH|unix.FSPICK_CLOEXEC)
		if err != nil {
			return err
		}
		defer unix.Close(fs)
		return unix.FsconfigReconfigure(fs)
	})
}

func fdPath(f *os.File) string { return numberPath(int(f.Fd())) }

func numberPath(fd int) string { return fmt.Sprintf("/proc/thread-self/fd/%d", fd) }
