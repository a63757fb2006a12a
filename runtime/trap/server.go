package trap

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"sysbox/runtime/delegate"
	"sysbox/runtime/plan"
	"sysbox/runtime/seccomp"
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

// Hold answers what has been received, and receives no more until Release: the kernel does
// not freeze a caller that waits for its answer, and what would act for it would be frozen
// with the container.
func (s *Server) LockForFreeze(ctx context.Context) error {
	s.freezeMu.Lock()
	defer s.freezeMu.Unlock()
	if s.frozen {
		return nil
	}
	s.freezeSince.Store(time.Now().UnixNano())
	defer s.freezeSince.Store(0)
	locked := make(chan struct{})
	go func() {
		s.freezeLock.Lock()
		close(locked)
	}()
	select {
	case <-locked:
		s.frozen = true
		return nil
	case <-ctx.Done():
		go func() {
			<-locked
			s.freezeLock.Unlock()
		}()
		return fmt.Errorf("wait for the answers of system calls: %w", context.Cause(ctx))
	}
}

// heldUp tells a call that may take longer than others that it has kept Hold waiting for as
// long as those may.
func (s *Server) freezeWaits() bool {
	wanted := s.freezeSince.Load()
	return wanted != 0 && time.Since(time.Unix(0, wanted)) > delegate.Deadline
}

// Release ends what Hold began, if it did.
func (s *Server) UnlockAfterFreeze() {
	s.freezeMu.Lock()
	defer s.freezeMu.Unlock()
	if s.frozen {
		s.frozen = false
		s.freezeLock.Unlock()
	}
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

const (
	// burst is how long a worker waits for the next call after one, in milliseconds:
	// calls come in bursts, and to wake a thread for each costs more than most of them.
	nextCallTimeout = 10
	// patience is how long others wait, at least, for one that is worked on slowly: file
	// systems that answer slowly or never may be the container's own.
	leaseInterval = time.Millisecond
)

// turn is a worker's turn at a listener: it takes one call after another, and nobody else
// does, until it has worked on one for too long.
type lease struct {
	// calls are those begun and those ended, so odd while one is worked on; with over,
	// that one is the last.
	counter atomic.Uint64
	ended   chan struct{}
}

const leaseEnded = 1 << 63

// wait returns when the turn is over. (A timer for each call would cost as much as the call.)
func (t *lease) wait() {
	tick := time.NewTicker(leaseInterval)
	defer tick.Stop()
	for last := uint64(0); ; {
		select {
		case <-t.ended:
			return
		case <-tick.C:
		}
		now := t.counter.Load()
		if now == last && now%2 == 1 && t.counter.CompareAndSwap(now, now|leaseEnded) {
			return
		}
		last = now
	}
}

// take works on one call after another, for as long as they come and its turn is not over.
func (s *Server) answerCalls(w *worker, l *listener, t *lease) error {
	defer w.handle.close()
	for timeout := 0; !s.closed(); timeout = nextCallTimeout {
		if more, err := s.answerNext(w, l, t, timeout); !more {
			return err
		}
	}
	return nil
}

// takeOne works on a call that comes within a time; more tells whether the worker may take
// another.
func (s *Server) answerNext(w *worker, l *listener, t *lease, timeout int) (more bool, err error) {
	s.freezeLock.RLock()
	defer s.freezeLock.RUnlock()
	var n notification
	ready, err := l.next(&n, timeout)
	if !ready || err != nil {
		return false, nil // serve will see it, too
	}
	h := find(&n)
	if h == nil {
		l.answer(n.id, pass)
		return true, nil
	}
	t.counter.Add(1)
	err = s.handle(w, l, &n, h)
	return t.counter.Add(1)&leaseEnded == 0 && err == nil, err
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

// handler answers one system call.
type handler struct {
	name string
	// when are alternatives of conditions on the arguments.
	when   [][]specs.LinuxSeccompArg
	handle func(*worker, *call) response
}

// numbers finds handlers by architecture and number.
var handlersByNumber = sync.OnceValue(func() map[seccomp.Number]*handler {
	byName := map[string]*handler{}
	var names []string
	for i := range handlers {
		byName[handlers[i].name] = &handlers[i]
		names = append(names, handlers[i].name)
	}
	out := map[seccomp.Number]*handler{}
	for nr, name := range seccomp.Numbers(names...) {
		out[nr] = byName[name]
	}
	return out
})

func find(n *notification) *handler {
	return handlersByNumber()[seccomp.Number{Arch: n.arch, Nr: uint32(n.nr)}]
}

// granted tells whether a device is one of the plan's.
func (s *Server) granted(kind string, major, minor int64) bool {
	return slices.ContainsFunc(s.cfg.Devices, func(d plan.Device) bool {
		return d.Type == kind && int64(d.Major) == major && int64(d.Minor) == minor
	})
}
