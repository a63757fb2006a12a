// Package stdio connects the first three files of a container's process to
// what the caller named: FIFOs, files, logging binaries, a terminal, or
// nothing.
//
// A reader that is slow, dead or not there yet holds back the process that
// writes, never the shim: each stream has a goroutine of its own that waits
// in Go's poller, without a thread and mostly without a buffer.
//
// What does not belong here: processes and their states (package task), and
// the making of pipes' users and of terminals (package runtime).
package stdio

import (
	"context"
	"errors"
	"fmt"
	"os"
	"sync"

	"golang.org/x/sys/unix"

	"sysbox/runtime"
)

// Config is what a process's streams are to be.
type Config struct {
	// ID and Namespace of the container, told to logging binaries.
	ID, Namespace string
	// Stdin, Stdout and Stderr are paths of FIFOs or, for Stdout, a URI:
	// fifo:///path, file:///path, binary:///path?args, binary-v2:///path?args.
	// Empty is /dev/null.
	Stdin, Stdout, Stderr string
	// Terminal: there is one stream out, Stdout, and the process has a
	// pseudo-terminal, given to Started.
	Terminal bool
	// UID and GID are the host's ids that shall own the pipes; 0: the
	// runtime decides.
	UID, GID int
}

// IO is the streams of one process. Its methods may be called concurrently.
type IO struct {
	terminal bool
	pumps    sync.WaitGroup // outputs only: what Drain waits for
	logger   *logger

	mu sync.Mutex
	// child are the container's ends, until Started. Guarded by mu.
	child runtime.Stdio
	// ours are all files to close in the end. Guarded by mu.
	ours []*os.File
	// stdinHold keeps the FIFO of stdin from ending when a client leaves;
	// closed by CloseStdin. Guarded by mu.
	stdinHold *os.File
	stdin     *os.File // guarded by mu; the FIFO's reading end
	out       *os.File // where a terminal's output goes; nil: nowhere
	console   *console // guarded by mu
	size      *unix.Winsize
	exited    bool // guarded by mu
	closed    bool // guarded by mu
}

// Open opens what cfg names. Afterwards the caller starts a process with
// Child's files, calls Started, and in the end Close.
func Open(ctx context.Context, cfg Config) (*IO, error) {
	s := &IO{terminal: cfg.Terminal}
	if err := s.open(ctx, cfg); err != nil {
		s.Close()
		return nil, err
	}
	return s, nil
}

// Child returns the files for the process. They belong to s.
func (s *IO) Child() runtime.Stdio {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.child
}

// Started closes the shim's copies of the process's files and, with a
// terminal, takes over its master side.
func (s *IO) Started(master *os.File) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.closeChild()
	if master == nil {
		return nil
	}
	if s.closed {
		master.Close()
		return nil
	}
	c, err := newConsole(master)
	if err != nil {
		return err
	}
	s.console = c
	if s.size != nil {
		// The client's terminal had its size before the process had one.
		_ = c.resize(s.size)
	}
	s.pumps.Add(1)
	go func() {
		defer s.pumps.Done()
		c.output(s.out)
		if s.out != nil {
			s.out.Close()
		}
	}()
	if s.stdin != nil {
		go func() {
			pump(c.file, s.stdin)
			s.stdin.Close()
		}()
	}
	return nil
}

func (s *IO) closeChild() {
	for _, f := range []*os.File{s.child.Stdin, s.child.Stdout, s.child.Stderr} {
		if f != nil {
			f.Close()
		}
	}
	s.child = runtime.Stdio{}
}

// CloseStdin lets the process's stdin end once the clients have left it and
// what they wrote was read.
func (s *IO) CloseStdin() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.stdinHold != nil {
		s.stdinHold.Close()
	}
}

// Resize sets the terminal's size in characters. Without a terminal yet the
// size is kept for it.
func (s *IO) Resize(width, height uint32) error {
	if width > 0xffff || height > 0xffff {
		return fmt.Errorf("terminal size is %d by %d; give at most 65535 columns and rows", width, height)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.terminal {
		return nil
	}
	s.size = &unix.Winsize{Col: uint16(width), Row: uint16(height)}
	if s.console == nil {
		return nil
	}
	if err := s.console.resize(s.size); err != nil && !errors.Is(err, os.ErrClosed) {
		return err
	}
	return nil
}

// Exited tells that the process has ended: nobody reads its stdin any more,
// and its terminal ends when all others have left it.
func (s *IO) Exited() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.exited = true
	if s.stdin != nil {
		s.stdin.Close()
	}
	if s.stdinHold != nil {
		s.stdinHold.Close()
	}
	if s.console != nil {
		s.console.end()
	}
}

// Drain waits until all output has been handed on, or ctx ends.
func (s *IO) Drain(ctx context.Context) {
	done := make(chan struct{})
	go func() {
		s.pumps.Wait()
		close(done)
	}()
	select {
	case <-done:
	case <-ctx.Done():
	}
}

// Close ends all streams, whatever is left in them, and the logging binary.
func (s *IO) Close() {
	s.mu.Lock()
	s.closed = true
	s.closeChild()
	for _, f := range s.ours {
		f.Close()
	}
	if s.console != nil {
		s.console.end()
		s.console.file.Close()
	}
	s.mu.Unlock()
	if s.logger != nil {
		s.logger.close()
	}
}
