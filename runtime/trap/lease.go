package trap

import (
	"sync/atomic"
	"time"
)

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
