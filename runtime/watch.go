package runtime

import (
	"sync"
	"time"
)

// watch looks after the end of a container that was killed: its caller may wait for the exit
// before it calls Delete, as containerd does.
type watch struct {
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

// killed is called whenever init or all processes were sent SIGKILL.
func (c *Container) killed() {
	w := &c.watch
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.off || c.cgroup == nil {
		return
	}
	w.until = time.Now().Add(endDeadline)
	if w.next == nil {
		w.looks = 0
		w.next = time.AfterFunc(stuckAfter, c.lookAfter)
	}
}

// lookAfter looks once, and again later unless the container is over.
func (c *Container) lookAfter() {
	w := &c.watch
	w.looking.Lock()
	defer w.looking.Unlock()
	w.mu.Lock()
	off, look := w.off, w.looks
	w.mu.Unlock()
	over := off || c.over()
	if !over {
		// Again, as some may have been born or frozen meanwhile. An error is for Delete to tell.
		_ = c.cgroup.Kill()
		c.grip().look(look)
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	w.looks++
	if over || w.off || time.Now().After(w.until) {
		w.next = nil
		return
	}
	w.next = time.AfterFunc(lookPause, c.lookAfter)
}

// over tells whether all of the container has ended. Its init may wait for others of its pid
// namespace when it has left its cgroup.
func (c *Container) over() bool {
	if left, err := c.cgroup.Populated(); left || err != nil {
		return false
	}
	select {
	case <-c.init.done:
		return true
	default:
		return false
	}
}

// stop ends the looking, until start allows it again. No look is under way any more when it
// returns: the cgroup may soon be another container's.
func (w *watch) stop() {
	w.mu.Lock()
	w.off = true
	if w.next != nil && w.next.Stop() {
		w.next = nil
	}
	w.mu.Unlock()
	w.looking.Lock()
	defer w.looking.Unlock()
}

func (w *watch) start() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.off = false
}
