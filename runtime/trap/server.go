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

// Config is what the calls of one container are judged by.
type Config struct {
	// UserNS is the container's first user namespace. The server keeps a copy, of
	// Proc, too.
	UserNS *os.File
	// UID and GID are its mapping.
	UID, GID uidmap.Map
	// Proc is the host's procfs.
	Proc *os.File
	// Tree is the mount namespace in which the container's mounts were made,
	// which is the host's: nothing is locked there. The server closes it.
	Tree *os.File
	// Guarded are the ids of the mounts in Tree on which masks and read-only paths of
	// the spec's were put: binds of these would be without them.
	Masked map[uint64]bool
	// Devices of the plan: nodes of these may be made.
	Devices []plan.Device
	// Modules are the names of kernel modules that the container may have the
	// host load.
	Modules []string
	// FUSE mounts block file systems; nil if nobody does.
	FUSE *FUSE
	// Memory returns the container's limit and use of memory, in bytes; a limit
	// of 0 is none. Processes returns the number of its threads, 0 if unknown.
	Memory    func() (limit, used uint64)
	Processes func() uint64
	// Join opens what a process joins the container's cgroups with.
	Join delegate.Join
	// Log takes warnings; it has the container's id.
	Log *slog.Logger
	// Received, if not nil, is called for each call before anything of its caller is
	// looked at, with the number of the thread: for tests.
	Received func(tid int)
}

// Server answers the calls of one container.
type Server struct {
	cfg       Config
	userns    namespace
	nsfile    int // of userns
	bindable  map[namespace]string
	proc      int             // O_PATH of the host's procfs
	hostDevs  map[uint64]bool // st_dev of the host's file systems, on which device nodes open
	workers   *workers
	slots     chan struct{}
	nodeFS    nodeFS
	detached  detachedMounts
	lastUsage atomic.Pointer[usage]

	done    chan struct{} // closed by Close
	serving sync.WaitGroup

	// gate is held for reading from before a call is received until it is answered, and for
	// writing while the container is frozen: see Hold.
	freezeLock sync.RWMutex
	freezeMu   sync.Mutex
	frozen     bool // guarded by holding
	// wanted is when Hold began to wait for answers, in Unix nanoseconds; 0 if it does not.
	freezeSince atomic.Int64

	mu        sync.Mutex
	listeners map[*listener]bool // guarded by mu; nil after Close
	logged    map[string]bool    // guarded by mu; what the log has
}

// maxCalls bounds how many calls of one container are worked on at a time; the
// callers beyond wait, and can be killed while they do.
const maxCalls = 32

// New returns a server; it must be called on a thread that is in cfg.Tree, with
// the container's root as its root.
func New(cfg Config) (*Server, error) {
	s := &Server{cfg: cfg, slots: make(chan struct{}, maxCalls), listeners: map[*listener]bool{}, logged: map[string]bool{}, done: make(chan struct{})}
	var err error
	if err := s.findBindable(); err != nil {
		return nil, fmt.Errorf("answer system calls: survey the mount tree: %w", err)
	}
	if s.nsfile, err = unix.FcntlInt(cfg.UserNS.Fd(), unix.F_DUPFD_CLOEXEC, 0); err == nil {
		s.userns, err = namespaceOf(s.nsfile, "")
	}
	if err != nil {
		return nil, fmt.Errorf("answer system calls: %w", err)
	}
	if s.proc, err = unix.FcntlInt(cfg.Proc.Fd(), unix.F_DUPFD_CLOEXEC, 0); err != nil {
		return nil, fmt.Errorf("answer system calls: the procfs: %w", err)
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

// Serve answers a listener's calls, from a goroutine of its own, until its last process
// has ended or the server is closed, and closes it then.
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

// Close ends all work and gives up what the server holds. Calls that come later fail with
// ENOSYS.
func (s *Server) Close() {
	s.mu.Lock()
	listeners := s.listeners
	s.listeners = nil
	s.mu.Unlock()
	close(s.done)
	s.UnlockAfterFreeze()
	for l := range listeners {
		// Wakes who waits; the number stays taken until nobody uses it.
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

// serve waits for calls, at the cost of a goroutine, and has a worker take them.
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
				s.logOnce(fmt.Sprintf("system calls are answered no longer: %v", err))
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

// handle answers one call. A fault of ours in a handler costs that call, not the pod. An
// error is that the worker is fit for no other.
func (s *Server) handle(w *worker, l *listener, n *notification, h *handler) (err error) {
	v := fail(unix.ENOSYS)
	defer func() {
		if r := recover(); r != nil {
			s.logOnce(fmt.Sprintf("answer %s: a fault of this program: %v", h.name, r))
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

// maxSaid bounds what a container can have this program write and keep.
const maxLogged = 100

// say logs a sentence once.
func (s *Server) logOnce(text string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.logged[text] || len(s.logged) >= maxLogged {
		return
	}
	s.logged[text] = true
	s.cfg.Log.Warn(text)
}

// call is a notification whose caller is pinned.
type call struct {
	caller
	arch uint32
	args [6]uint64
}
