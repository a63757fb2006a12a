// SPDX-License-Identifier: Apache-2.0

package trap

import (
	"context"
	"fmt"
	"time"

	"sysbox/runtime/delegate"
)

// LockForFreeze waits until all received calls are answered, and keeps further ones from being
// received until UnlockAfterFreeze. The kernel cannot freeze a caller that waits for its answer,
// and a process that acts for the caller would be frozen with the container.
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

// freezeWaits reports whether LockForFreeze has waited for [delegate.Deadline]. A call that may
// take longer than that must end then.
func (s *Server) freezeWaits() bool {
	wanted := s.freezeSince.Load()
	return wanted != 0 && time.Since(time.Unix(0, wanted)) > delegate.Deadline
}

// UnlockAfterFreeze undoes LockForFreeze, if it succeeded.
func (s *Server) UnlockAfterFreeze() {
	s.freezeMu.Lock()
	defer s.freezeMu.Unlock()
	if s.frozen {
		s.frozen = false
		s.freezeLock.Unlock()
	}
}
