// SPDX-License-Identifier: Apache-2.0

package contract

import (
	"bytes"
	"io"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"sysbox/tests/pace"
)

func (r *rig) fifo(name string) string {
	r.t.Helper()
	path := filepath.Join(r.dir, name)
	r.must(unix.Mkfifo(path, 0o600))
	return path
}

// A sink is a client's end of an output: it waits for the shim in its open, and reads.
type sink struct {
	path string
	done chan struct{}
	mu   sync.Mutex
	buf  bytes.Buffer
}

func (r *rig) sink(name string) *sink {
	r.t.Helper()
	return r.attach(r.fifo(name))
}

// attach reads a FIFO that is there.
func (r *rig) attach(path string) *sink {
	s := &sink{path: path, done: make(chan struct{})}
	go func() {
		defer close(s.done)
		f, err := os.OpenFile(path, os.O_RDONLY, 0)
		if err != nil {
			return
		}
		defer f.Close()
		_, _ = io.Copy(s, f)
	}()
	r.t.Cleanup(func() {
		// One that nobody writes to is set free.
		if f, err := os.OpenFile(path, os.O_WRONLY|unix.O_NONBLOCK, 0); err == nil {
			f.Close()
		}
		<-s.done
	})
	return s
}

func (s *sink) Write(b []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.buf.Write(b)
}

func (s *sink) String() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.buf.String()
}

// all is what came until the end; an end that does not come is told.
func (s *sink) all() string {
	select {
	case <-s.done:
		return s.String()
	case <-time.After(30 * time.Second * pace.Patience()):
		return s.String() + " (without an end)"
	}
}

// await waits for a text in the output.
func (s *sink) await(text string) bool {
	return eventually(func() bool { return strings.Contains(s.String(), text) })
}

// idle is a client's end of an output that is open and not read.
func (r *rig) idle(name string) (string, *os.File) {
	r.t.Helper()
	path := r.fifo(name)
	fd, err := unix.Open(path, unix.O_RDONLY|unix.O_NONBLOCK|unix.O_CLOEXEC, 0)
	r.must(err)
	r.must(unix.SetNonblock(fd, false)) // reads wait
	f := os.NewFile(uintptr(fd), path)
	r.t.Cleanup(func() { f.Close() })
	return path, f
}

// stdin is a client's end of an input.
type stdin struct {
	r    *rig
	path string
	f    *os.File
}

func (r *rig) newStdin(name string) *stdin {
	r.t.Helper()
	return &stdin{r: r, path: r.fifo(name)}
}

func (s *stdin) write(text string) {
	s.r.t.Helper()
	if s.f == nil {
		// Without a reader a blocking open would wait without an end.
		var fd int
		var err error
		eventually(func() bool {
			fd, err = unix.Open(s.path, unix.O_WRONLY|unix.O_NONBLOCK|unix.O_CLOEXEC, 0)
			return err != unix.ENXIO
		})
		if err != nil {
			s.r.t.Errorf("open %s, of which a shim was to read: %v", s.path, err)
			return
		}
		s.f = os.NewFile(uintptr(fd), s.path)
	}
	_, err := io.WriteString(s.f, text)
	s.r.must(err)
}

func (s *stdin) leave() {
	s.f.Close() // none if there was no reader
	s.f = nil
}
