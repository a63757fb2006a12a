// SPDX-License-Identifier: Apache-2.0

package cgroup

import (
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

// WatchOOM calls f each time the kernel has killed processes of the container because memory
// ran out, with the count of kills so far. stop ends the watch; before it returns it checks
// once more, so that a kill that ended the container is reported before stop returns. f is
// never called concurrently, nor after stop; it must not call stop
// itself.
//
// A host without the memory controller cannot watch: errors.ErrUnsupported.
func (c *Cgroup) WatchOOM(f func(kills uint64)) (stop func(), err error) {
	w := &oomWatch{c: c, f: f, done: make(chan struct{})}
	switch c.layout.version("memory") {
	case 1:
		w.events, w.control, err = c.watchOOM1()
	case 2:
		w.events, err = c.watchOOM2()
	default:
		err = errors.ErrUnsupported
	}
	if err != nil {
		return nil, fmt.Errorf("watch for OOM kills: %w", err)
	}
	go w.loop()
	return sync.OnceFunc(w.stop), nil
}

// OOMKills is the number of processes that the kernel has killed because memory ran out; once
// the cgroup is gone, the highest number seen.
func (c *Cgroup) OOMKills() uint64 {
	var n uint64
	var err error
	if c.layout.version("memory") == 1 {
		// Linux 4.13; v1 does not count kills in sub-cgroups, and there are none.
		n, err = keyValue(c.dir("memory")+"/memory.oom_control", "oom_kill")
	} else {
		n, err = keyValue(c.layout.Unified+c.path+"/memory.events", "oom_kill")
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if err == nil {
		c.oomKills = max(c.oomKills, n)
	}
	return c.oomKills
}

type oomWatch struct {
	c       *Cgroup
	f       func(uint64)
	events  *os.File // eventfd or inotify, in the netpoller
	control *os.File // v1: the file that the eventfd reports on
	done    chan struct{}

	mu       sync.Mutex
	reported uint64 // guarded by mu
	stopped  bool   // guarded by mu
}

// watchOOM1 attaches an eventfd to memory.oom_control (Documentation/admin-guide/cgroup-v1/memory.rst).
func (c *Cgroup) watchOOM1() (events, control *os.File, err error) {
	dir := c.dir("memory")
	name := dir + "/memory.oom_control"
	fd, err := openat(name, unix.O_RDONLY)
	if err != nil {
		return nil, nil, err
	}
	efd, err := unix.Eventfd(0, unix.EFD_CLOEXEC|unix.EFD_NONBLOCK)
	if err == nil {
		if err = writeFile(dir+"/cgroup.event_control", fmt.Sprintf("%d %d", efd, fd)); err == nil {
			return os.NewFile(uintptr(efd), "eventfd of "+name), os.NewFile(uintptr(fd), name), nil
		}
		unix.Close(efd)
	}
	unix.Close(fd)
	return nil, nil, err
}

func (c *Cgroup) watchOOM2() (*os.File, error) {
	fd, err := unix.InotifyInit1(unix.IN_CLOEXEC | unix.IN_NONBLOCK)
	if err != nil {
		return nil, err
	}
	name := c.layout.Unified + c.path + "/memory.events"
	if _, err := unix.InotifyAddWatch(fd, name, unix.IN_MODIFY|unix.IN_DELETE_SELF); err != nil {
		unix.Close(fd)
		return nil, &os.PathError{Op: "inotify_add_watch", Path: name, Err: err}
	}
	return os.NewFile(uintptr(fd), "inotify of "+name), nil
}

func (w *oomWatch) loop() {
	defer close(w.done)
	var buf [4096]byte
	for {
		n, err := w.events.Read(buf[:])
		if err != nil {
			return // closed by stop
		}
		if w.control == nil {
			if ended(buf[:n]) {
				return
			}
			w.check()
			continue
		}
		// v1 notifies before it kills, so the count may rise only now. It also notifies
		// for an OOM of a parent that hits a sibling, and when the cgroup is removed:
		// then the count does not rise.
		for range 50 {
			if w.check() || w.isStopped() || !exists(w.c.dir("memory")) {
				break
			}
			time.Sleep(2 * time.Millisecond)
		}
		if !exists(w.c.dir("memory")) {
			return
		}
	}
}

// ended reports whether the inotify events say that the file is gone.
func ended(b []byte) bool {
	for len(b) >= unix.SizeofInotifyEvent {
		mask, size := binary.NativeEndian.Uint32(b[4:]), binary.NativeEndian.Uint32(b[12:])
		if mask&(unix.IN_DELETE_SELF|unix.IN_IGNORED) != 0 {
			return true
		}
		b = b[min(len(b), unix.SizeofInotifyEvent+int(size)):]
	}
	return false
}

// check reports new kills to f, and returns whether there were any.
func (w *oomWatch) check() bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	n := w.c.OOMKills()
	if n <= w.reported || w.stopped {
		return false
	}
	w.reported = n
	w.f(n)
	return true
}

func (w *oomWatch) isStopped() bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.stopped
}

func (w *oomWatch) stop() {
	w.check()
	w.mu.Lock()
	w.stopped = true
	w.mu.Unlock()
	w.events.Close()
	<-w.done
	if w.control != nil {
		w.control.Close()
	}
}
