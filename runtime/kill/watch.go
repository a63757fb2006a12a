// SPDX-License-Identifier: Apache-2.0

package kill

import (
	"sync"
	"time"
)

// Watch looks after the end of a container that was killed: its caller may wait for the exit
// before it calls Delete, as containerd does.
type Watch struct {
	target Target
	// exited is closed when init has ended.
	exited <-chan struct{}

	mu sync.Mutex
	// until is when the looking ends; guarded by mu.
	until time.Time
	// next is the next look; nil while none is to come. Guarded by mu.
	next *time.Timer
	// looks are those since the kill; guarded by mu.
	looks int
	// off: Delete looks itself. Guarded by mu.
	off bool
	// looking is held during a look.
	looking sync.Mutex
}

// NewWatch watches a container; exited is closed when its init has ended.
func NewWatch(t Target, exited <-chan struct{}) *Watch { return &Watch{target: t, exited: exited} }

// Killed is called whenever init or all processes were sent SIGKILL.
func (w *Watch) Killed() {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.off {
		return
	}
	w.until = time.Now().Add(deadline)
	if w.next == nil {
		w.looks = 0
		w.next = time.AfterFunc(stuckAfter, w.lookAfter)
	}
}

// lookAfter looks once, and again later unless the container is over.
func (w *Watch) lookAfter() {
	w.looking.Lock()
	defer w.looking.Unlock()
	w.mu.Lock()
	off, look := w.off, w.looks
	w.mu.Unlock()
	over := off || w.Over()
	if !over {
		// Again, as some may have been born or frozen meanwhile. An error is for Delete to tell.
		_ = w.target.Cgroup.Kill()
		w.target.look(look)
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	w.looks++
	if over || w.off || time.Now().After(w.until) {
		w.next = nil
		return
	}
	w.next = time.AfterFunc(lookPause, w.lookAfter)
}

// Over tells whether all of the container has ended. Its init may wait for others of its pid
// namespace when it has left its cgroup.
func (w *Watch) Over() bool {
	if left, err := w.target.Cgroup.Populated(); left || err != nil {
		return false
	}
	select {
	case <-w.exited:
		return true
	default:
		return false
	}
}

// Stop ends the looking, until Start allows it again. No look is under way any more when it
// returns: the cgroup may soon be another container's.
func (w *Watch) Stop() {
	w.mu.Lock()
	w.off = true
	if w.next != nil && w.next.Stop() {
		w.next = nil
	}
	w.mu.Unlock()
	w.looking.Lock()
	defer w.looking.Unlock()
}

// Start allows the looking again.
func (w *Watch) Start() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.off = false
}
