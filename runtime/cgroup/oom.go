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

// WatchOOM calls f each time the kernel killed processes of the container for
// want of memory, with the count of kills so far. stop ends the watch; before
// it returns it looks a last time, so that a kill that ended the container is
// reported before stop returns. f is never called twice at once, nor after stop;
// it mustn't call stop itself.
//
// A host without the memory controller has nothing to watch: errors.ErrUnsupported.
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

// OOMKills is the number of processes killed for want of memory, the highest
// seen once the cgroup is gone.
func (c *Cgroup) OOMKills() uint64 {
	var n uint64
	var err error
	if c.layout.version("memory") == 1 {
		// Linux 4.13; v1 counts no kills of sub-cgroups, and there are none.
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
	control *os.File // v1: the file that the eventfd is about
	done    chan struct{}

	mu      sync.Mutex
	told    uint64 // guarded by mu
	stopped bool   // guarded by mu
}

// watchOOM1 ties an eventfd to memory.oom_control (Documentation/admin-guide/cgroup-v1/memory.rst).
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
			w.look()
			continue
		}
		// v1 rings before it kills, so the count may rise only now. It also
		// rings for a parent's OOM that hits a sibling, and when the cgroup
		// is removed: then the count doesn't rise.
		for range 50 {
			if w.look() || w.over() || !exists(w.c.dir("memory")) {
				break
			}
			time.Sleep(2 * time.Millisecond)
		}
		if !exists(w.c.dir("memory")) {
			return
		}
	}
}

// ended says whether the inotify events tell that the file is gone.
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

// look tells of new kills, and says whether there were any.
func (w *oomWatch) look() bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	n := w.c.OOMKills()
	if n <= w.told || w.stopped {
		return false
	}
	w.told = n
	w.f(n)
	return true
}

func (w *oomWatch) over() bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.stopped
}

func (w *oomWatch) stop() {
	w.look()
	w.mu.Lock()
	w.stopped = true
	w.mu.Unlock()
	w.events.Close()
	<-w.done
	if w.control != nil {
		w.control.Close()
	}
}
