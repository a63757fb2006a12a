// SPDX-License-Identifier: Apache-2.0

// Package stdio connects the standard files of a container's process to what
// the caller named: FIFOs, files, logging binaries, a terminal, or nothing.
//
// A reader that is slow, dead or not there yet holds up the process that
// writes, never the shim: each stream has its own goroutine that waits in Go's
// poller, without a thread and mostly without a buffer.
//
// What does not belong here: processes and their states (package task), and
// the making of processes and of terminals (package runtime).
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

// Config describes the streams of a process.
type Config struct {
	// ID and Namespace of the container, passed to logging binaries.
	ID, Namespace string
	// Stdin, Stdout and Stderr are paths of FIFOs or, for Stdout, a URI:
	// fifo:///path, file:///path, binary:///path?args, binary-v2:///path?args.
	// Empty is /dev/null.
	Stdin, Stdout, Stderr string
	// Terminal: the only output stream is Stdout, and the process has a
	// pseudo-terminal, passed to Started.
	Terminal bool
	// UID and GID are the ids on the host that own the pipes; 0: the runtime
	// decides.
	UID, GID int
	// StdinLater: Open leaves the FIFO of stdin to OpenStdin.
	StdinLater bool
}

// IO holds the streams of one process. Its methods may be called concurrently, except Open and
// Close, which the caller keeps apart.
//
// CloseStdin and Resize may be called at any time: what is asked for before a stream exists
// takes effect as soon as it does.
type IO struct {
	cfg    Config
	pumps  sync.WaitGroup // outputs only: what Drain waits for
	logger *logger

	mu sync.Mutex
	// child are the container's ends, until Started. Guarded by mu.
	child runtime.Stdio
	// ours are all files to close at the end. Guarded by mu.
	ours []*os.File
	// stdinHold keeps the FIFO of stdin from ending when a client leaves;
	// CloseStdin closes it. Guarded by mu.
	stdinHold *os.File
	// stdinClosed: CloseStdin was called, perhaps before the FIFO was open.
	// Guarded by mu.
	stdinClosed bool
	stdin       *os.File // guarded by mu; the FIFO's reading end
	stdinTo     *os.File // the writing end of the process's stdin, unless it is a terminal
	out         *os.File // where a terminal's output goes; nil: nowhere
	console     *console // guarded by mu
	size        *unix.Winsize
	exited      bool // guarded by mu
	closed      bool // guarded by mu
}

// New returns the streams that cfg describes. They are not open yet.
func New(cfg Config) *IO { return &IO{cfg: cfg} }

// Open opens the streams. Afterwards the caller starts a process with the files of
// Child, calls Started, and finally Close. It is called once.
func (s *IO) Open(ctx context.Context) error {
	if err := s.open(ctx, s.cfg); err != nil {
		s.Close()
		return err
	}
	return nil
}

// Child returns the files for the process. They belong to s.
func (s *IO) Child() runtime.Stdio {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.child
}

// Started closes the shim's copies of the process's files and, with a
// terminal, takes ownership of its master side.
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
		// The client may have set the size before the terminal existed.
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
	s.feed()
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

// CloseStdin lets the stdin of the process end once all clients have closed it and
// the process has read what they wrote.
func (s *IO) CloseStdin() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.stdinClosed = true
	if s.stdinHold != nil {
		s.stdinHold.Close()
	}
}

// OpenStdin opens the FIFO of stdin, which lets its client write. A second call
// does nothing.
//
// The stdin of init opens at Start and not before: ctr learns only from the answer
// to Create how to report that its input has ended, and does not report an end that
// it sees earlier. If the FIFO were open during Create, ctr could write everything
// by then, and the process would wait for more input indefinitely.
func (s *IO) OpenStdin() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.cfg.Stdin == "" || s.stdin != nil || s.exited || s.closed {
		return nil
	}
	if err := s.openStdin(); err != nil {
		return fmt.Errorf("open stdin: %w", err)
	}
	s.feed()
	return nil
}

// feed starts to copy stdin as soon as both its source and its destination are
// open. The caller holds mu.
func (s *IO) feed() {
	in, to := s.stdin, s.stdinTo
	if s.console != nil {
		to = s.console.file
	}
	if in == nil || to == nil {
		return
	}
	go func() {
		pump(to, in)
		if !s.cfg.Terminal {
			to.Close() // a terminal does without input
		}
		in.Close()
	}()
}

// Resize sets the size of the terminal in characters. If there is no terminal yet,
// the size is kept for it.
func (s *IO) Resize(width, height uint32) error {
	if width > 0xffff || height > 0xffff {
		return fmt.Errorf("terminal size is %d by %d; the limit is 65535 columns and rows", width, height)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.cfg.Terminal {
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

// Exited says that the process has exited: nothing reads its stdin any more,
// and its terminal ends when all others have closed it.
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

// Drain waits until all output has been copied, or ctx ends.
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

// Close ends all streams, even with data left in them, and the logging binary. A
// second call does nothing.
func (s *IO) Close() {
	s.mu.Lock()
	if s.closed {
		s.mu.Unlock()
		return
	}
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
