package trap

import (
	"context"
	"fmt"
	"sysbox/runtime/delegate"
	"time"
)

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
