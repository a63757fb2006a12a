// SPDX-License-Identifier: Apache-2.0

package trap

import (
	"sync/atomic"
	"time"
)

const (
	// nextCallTimeout is how long a worker waits for the next call after it has answered one, in
	// milliseconds. Calls come in bursts, and waking a thread costs more than most calls.
	nextCallTimeout = 10
	// leaseInterval is how often a lease is checked. A worker that has handled one call for a
	// whole interval loses its lease: the container's own file systems may answer slowly or
	// never, and other calls must not wait for them.
	leaseInterval = time.Millisecond
)

// lease gives one worker a listener: the worker answers one call after another, and no other
// worker receives, until a call takes too long.
type lease struct {
	// counter counts begun and ended calls, so it is odd while a call is handled. With leaseEnded
	// set, that call is the worker's last.
	counter atomic.Uint64
	ended   chan struct{}
}

const leaseEnded = 1 << 63

// wait returns when the lease has ended. (A timer for each call would cost as much as the call.)
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

// answerCalls answers calls for as long as they come and the lease lasts.
func (s *Server) answerCalls(w *worker, l *listener, t *lease) error {
	defer w.handle.close()
	for timeout := 0; !s.closed(); timeout = nextCallTimeout {
		if more, err := s.answerNext(w, l, t, timeout); !more {
			return err
		}
	}
	return nil
}

// answerNext answers a call that comes within timeout milliseconds. more reports whether the
// worker may take another.
func (s *Server) answerNext(w *worker, l *listener, t *lease, timeout int) (more bool, err error) {
	s.freezeLock.RLock()
	defer s.freezeLock.RUnlock()
	var n notification
	ready, err := l.next(&n, timeout)
	if !ready || err != nil {
		return false, nil // serve will see the error, too
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
