// SPDX-License-Identifier: Apache-2.0

package trap

import (
	"errors"
	"fmt"
	"log/slog"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"

	"sysbox/runtime/delegate"
	"sysbox/runtime/plan"
	"sysbox/uidmap"
)

// Config says how the calls of one container are answered.
type Config struct {
	// UserNS is the container's first user namespace. The server keeps copies of UserNS and Proc.
	UserNS *os.File
	// UID and GID are the id maps of UserNS.
	UID, GID uidmap.Map
	// Proc is the host's procfs.
	Proc *os.File
	// Tree is the mount namespace in which the shim made the container's mounts. It belongs to
	// the host, so nothing in it is locked. The server closes it.
	Tree *os.File
	// Masked has the ids of the mounts in Tree on which the spec has masked or read-only paths. A
	// bind of one of these mounts would be made without them.
	Masked map[uint64]bool
	// Devices are the plan's devices. The container may make nodes of them.
	Devices []plan.Device
	// Modules names the kernel modules that the container may have the host load.
	Modules []string
	// FUSE says how block file systems are mounted; nil if they are not.
	FUSE *FUSE
	// Memory returns the container's memory limit and usage in bytes; a limit of 0 means none.
	// Processes returns the number of its threads, 0 if unknown.
	Memory    func() (limit, used uint64)
	Processes func() uint64
	// Join opens the files with which a process joins the container's cgroups.
	Join delegate.Join
	// Log takes warnings. It already carries the container's id.
	Log *slog.Logger
	// Received, if not nil, is called with the thread's number for each call, before the server
	// looks at the caller. It is for tests.
	Received func(tid int)
}

// Server answers the calls of one container.
type Server struct {
	cfg       Config
	userns    namespace
	nsfile    int // of userns
	bindable  map[namespace]string
	proc      int             // O_PATH of the host's procfs
	hostDevs  map[uint64]bool // st_dev of the host's file systems, on which device nodes can be opened
	workers   *workers
	slots     chan struct{}
	nodeFS    nodeFS
	detached  detachedMounts
	lastUsage atomic.Pointer[usage]

	done    chan struct{} // closed by Close
	serving sync.WaitGroup

	// freezeLock is held for reading while a call is received and answered, and for writing while
	// the container is frozen; see LockForFreeze.
	freezeLock sync.RWMutex
	freezeMu   sync.Mutex
	frozen     bool // guarded by freezeMu
	// freezeSince is when LockForFreeze began to wait for answers, in Unix nanoseconds; 0 if it
	// does not wait.
	freezeSince atomic.Int64

	mu        sync.Mutex
	listeners map[*listener]bool // guarded by mu; nil after Close
	logged    map[string]bool    // guarded by mu; sentences that are in the log
}

// maxCalls bounds how many calls of one container are handled at a time. Further callers wait,
// and can be killed while they do.
const maxCalls = 32

// New returns a server. Call it on a thread that is in cfg.Tree and has the container's root as
// its root.
func New(cfg Config) (*Server, error) {
	s := &Server{cfg: cfg, slots: make(chan struct{}, maxCalls), listeners: map[*listener]bool{}, logged: map[string]bool{}, done: make(chan struct{})}
	var err error
	if err := s.findBindable(); err != nil {
		return nil, fmt.Errorf("answer system calls: read the mount tree: %w", err)
	}
	if s.nsfile, err = unix.FcntlInt(cfg.UserNS.Fd(), unix.F_DUPFD_CLOEXEC, 0); err == nil {
		s.userns, err = namespaceOf(s.nsfile, "")
	}
	if err != nil {
		return nil, fmt.Errorf("answer system calls: %w", err)
	}
	if s.proc, err = unix.FcntlInt(cfg.Proc.Fd(), unix.F_DUPFD_CLOEXEC, 0); err != nil {
		return nil, fmt.Errorf("answer system calls: duplicate the handle of /proc: %w", err)
	}
	if cfg.FUSE != nil {
		if err := cfg.FUSE.prepare(); err != nil {
			unix.Close(s.proc)
			return nil, fmt.Errorf("answer system calls: %w", err)
		}
	}
	if s.workers, err = newWorkers(s); err != nil {
		unix.Close(s.proc)
		return nil, fmt.Errorf("answer system calls: %w", err)
	}
	return s, nil
}

// Serve answers a listener's calls in a goroutine, until the listener's last process has ended or
// the server is closed. Then it closes the listener.
func (s *Server) Serve(f *os.File) error {
	l, err := newListener(f)
	if err != nil {
		f.Close()
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.listeners == nil {
		f.Close()
		return os.ErrClosed
	}
	s.listeners[l] = true
	s.serving.Go(func() { s.serve(l) })
	return nil
}

// Close ends all work and releases what the server holds. Later calls fail with ENOSYS.
func (s *Server) Close() {
	s.mu.Lock()
	listeners := s.listeners
	s.listeners = nil
	s.mu.Unlock()
	close(s.done)
	s.UnlockAfterFreeze()
	for l := range listeners {
		// This wakes the goroutine that waits. The number stays in use until nobody needs it.
		_ = l.events.SetReadDeadline(time.Unix(1, 0))
	}
	s.serving.Wait()
	s.workers.close()
	s.nodeFS.close()
	s.detached.close()
	s.cfg.Tree.Close()
	if s.cfg.FUSE != nil {
		s.cfg.FUSE.Init.Close()
	}
	unix.Close(s.proc)
	unix.Close(s.nsfile)
}

func (s *Server) closed() bool {
	select {
	case <-s.done:
		return true
	default:
		return false
	}
}

// serve waits for calls, which costs one goroutine, and passes them to a worker.
func (s *Server) serve(l *listener) {
	defer func() {
		l.users.Wait()
		l.close()
		s.mu.Lock()
		defer s.mu.Unlock()
		delete(s.listeners, l)
	}()
	for {
		if err := l.wait(); err != nil {
			if !errors.Is(err, errEnded) && !s.closed() {
				s.logOnce(fmt.Sprintf("the shim cannot answer system calls any more: %v", err))
			}
			return
		}
		select {
		case s.slots <- struct{}{}:
		case <-s.done:
			return
		}
		t := &lease{ended: make(chan struct{})}
		l.users.Add(1)
		s.workers.run(job{
			do: func(w *worker) error { return s.answerCalls(w, l, t) },
			after: func() {
				l.users.Done()
				<-s.slots
				close(t.ended)
			},
		})
		t.wait()
	}
}

// handle answers one call. A panic in a handler fails that call, not the pod. An error means that
// the worker cannot be used again.
func (s *Server) handle(w *worker, l *listener, n *notification, h *handler) (err error) {
	v := fail(unix.ENOSYS)
	defer func() {
		if r := recover(); r != nil {
			s.logOnce(fmt.Sprintf("answer %s: the handler panicked; this is a bug: %v", h.name, r))
		}
		l.answer(n.id, v)
		err = w.restoreCreds()
	}()
	c := &call{caller: caller{tid: int(n.tid), id: n.id, listener: l, proc: s.proc, handle: &w.handle}, arch: n.arch, args: n.args}
	if s.cfg.Received != nil {
		s.cfg.Received(c.tid)
	}
	v = h.handle(w, c)
	return nil
}

// maxLogged bounds how many sentences a container can make the shim log and remember.
const maxLogged = 100

// logOnce logs a sentence unless it was logged before.
func (s *Server) logOnce(text string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.logged[text] || len(s.logged) >= maxLogged {
		return
	}
	s.logged[text] = true
	s.cfg.Log.Warn(text)
}

// call is a notification and its caller.
type call struct {
	caller
	arch uint32
	args [6]uint64
}
