// SPDX-License-Identifier: Apache-2.0

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

// Mirror is one such file system.
type Mirror struct {
	uid, gid uidmap.Map
	root     *os.File // the root of the container; nil before Serve
	dev      *os.File // the connection
	mount    *os.File // the root of the mirror, for unmounting it
	guard    *os.File // the mount of Guard
	attached atomic.Bool

	nodes   nodes
	files   files
	buffers sync.Pool
	jobs    chan *request
	workers atomic.Int32
	// late counts threads in a call whose caller has already got ETIMEDOUT.
	late atomic.Int32
	// lookups is counted by the thread that reads calls.
	lookups int
	// shrinking: the kernel is asked to forget names right now.
	shrinking atomic.Bool
	done      chan struct{}
}

// fsType is the type of a mirror in /proc/self/mountinfo.
const fsType = "fuse.sysbox"

// New makes a mirror of a root with ids translated by uid and gid. [Mirror.Serve] gives it
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

// Serve answers calls from the root, which it takes ownership of: a mount without mounts
// below it.
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
	// Only root of the host may enter, as with the directories around the mount of the
	// caller.
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

// Attach mounts the mirror over dir. The calling thread must be in the mount namespace of the
// caller.
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

// Guard prevents the caller from mounting another overlay over the mirror: after a restart
// the overlay2 driver of Docker does, since it does not see an overlay there. While something
// is mounted on the directory that the kernel makes in the workdir, any other overlay with that
// workdir is read-only. The calling thread must be as for Attach.
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

// kernelsWork is the directory that the kernel makes in the workdir of an overlay.
const kernelsWork = "work"

// Detach unmounts the mirror, together with what the caller has mounted over it since. Calls
// that are running in mount namespaces of the caller are still answered, until Close. The
// calling thread must be in the mount namespace of Attach.
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

// detach unmounts an open mount; [Remove] of another process may have unmounted it already.
func detach(mount *os.File) error {
	err := sys.Unmount(fdPath(mount), unix.MNT_DETACH)
	if errors.Is(err, unix.EINVAL) {
		return nil
	}
	return err
}

// Close detaches the mirror and ends it: processes that still use it get ENOTCONN.
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

// Remove unmounts the mirror of a dead process from dir, with what is mounted over it, and its
// guard from workdir. The calling thread must be in the mount namespace of Attach. It leaves
// a mirror alone that its own process is detaching.
func Remove(dir, workdir string) error {
	if workdir != "" {
		if err := uncover(path.Join(workdir, kernelsWork), func(types []string) bool { return len(types) > 0 }); err != nil {
			return err
		}
	}
	return uncover(dir, func(types []string) bool { return slices.Contains(types, fsType) })
}

// maxCovers bounds how many mounts are removed from one directory: its mirror, and one for each
// restart of the caller.
const maxCovers = 1000

// uncover unmounts the top mount on dir as long as more, which gets the types of the file
// systems mounted there, returns true. It opens the top mount before it reads the types: if two
// processes unmount at once, neither removes what lies below.
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
	return fmt.Errorf("unmount everything on %s: more than %d mounts", dir, maxCovers)
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
// is late: Docker meanwhile holds the lock of the container, during all calls of a copy. idle
// is how long a thread waits for the next call.
var (
	deadline     = time.Minute
	lateDeadline = 5 * time.Second
	idle         = 2 * time.Second
)

// threads bounds the threads of a mirror; each call that the container delays occupies one.
// queued is how many calls may wait for a thread. If all threads are late, calls fail at once:
// a caller that makes one call after the other has waited a minute and a half by then.
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
			// Hold no buffer while there is nothing to read.
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
		case failed == unix.EINTR || failed == unix.ENOENT: // the caller has cancelled the call
		case failed != nil: // ENODEV: unmounted everywhere
			return
		default:
			m.take(r)
		}
	}
}

// take queues a call for a thread. It answers calls that need no file itself.
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
		// Not by the number of the call: if a caller repeats the same few calls, those with a
		// round number may always be others.
		if m.lookups++; m.lookups%512 == 0 && m.nodes.count() > maxNames {
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
		// One thread for each waiting call.
		if len(m.jobs) == 0 {
			return
		}
		if m.workers.CompareAndSwap(n, n+1) {
			go m.work()
			return
		}
	}
}

// work answers calls on a thread with the ids of the container's root: other ids cannot
// make files in an overlay with a shifted upper layer.
func (m *Mirror) work() {
	defer m.workers.Add(-1)
	uid, _ := m.uid.ToHost(0)
	gid, _ := m.gid.ToHost(0)
	// After an error the calls stay with other threads, or time out.
	_ = sys.Thread(func() error {
		if err := sys.Unshare(unix.CLONE_FS); err != nil {
			return err
		}
		unix.Umask(0) // the kernel has applied the umask of the caller
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
					if m.nodes.count() > idleNames {
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

// maxNames is how many names the kernel may keep before the mirror asks it to forget the unused
// ones, and idleNames how many it may keep when there are no more calls. The kernel keeps each
// name until memory is short: a million after a copy of a million files.
const (
	maxNames  = 16384
	idleNames = 64
)

// shrink makes the kernel forget the names that are not in use: a remount without changes does
// that.
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
