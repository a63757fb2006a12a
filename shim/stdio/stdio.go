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
	// StdinLater: Open leaves the FIFO of stdin to OpenStdin.
	StdinLater bool
}

// IO is the streams of one process. Its methods may be called concurrently, except Open and
// Close, which the caller keeps apart.
//
// A caller's wish about a stream (CloseStdin, Resize) belongs to the process, not to a moment
// of its life: what is asked for before there is a stream holds as soon as there is one.
type IO struct {
	cfg    Config
	pumps  sync.WaitGroup // outputs only: what Drain waits for
	logger *logger

	mu sync.Mutex
	// child are the container's ends, until Started. Guarded by mu.
	child runtime.Stdio
	// ours are all files to close in the end. Guarded by mu.
	ours []*os.File
	// stdinHold keeps the FIFO of stdin from ending when a client leaves;
	// closed by CloseStdin. Guarded by mu.
	stdinHold *os.File
	// stdinClosed: CloseStdin was called, perhaps before there was a FIFO to
	// hold. Guarded by mu.
	stdinClosed bool
	stdin       *os.File // guarded by mu; the FIFO's reading end
	stdinTo     *os.File // the writing end of the process's stdin, unless it is a terminal
	out         *os.File // where a terminal's output goes; nil: nowhere
	console     *console // guarded by mu
	size        *unix.Winsize
	exited      bool // guarded by mu
	closed      bool // guarded by mu
}

// New returns the streams that cfg names. They're not open yet.
func New(cfg Config) *IO { return &IO{cfg: cfg} }

// Open opens the streams. Afterwards the caller starts a process with Child's
// files, calls Started, and in the end Close. It is called once.
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

// CloseStdin lets the process's stdin end once the clients have left it and
// what they wrote was read.
func (s *IO) CloseStdin() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.stdinClosed = true
	if s.stdinHold != nil {
		s.stdinHold.Close()
	}
}

// OpenStdin opens the FIFO of stdin, which lets its client write. A second one
// does nothing.
//
// Init's comes with its start and not before: ctr learns by the answer to Create
// how to say that its input has ended, and says nothing of an end that it sees
// sooner. With the FIFO open it would have written all by then, and the process
// would wait for more without an end.
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

// feed begins to hand on stdin as soon as there are both it and where it goes
// to. The caller holds mu.
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
			to.Close() // a terminal goes on without input
		}
		in.Close()
	}()
}

// Resize sets the terminal's size in characters. Without a terminal yet the
// size is kept for it.
func (s *IO) Resize(width, height uint32) error {
	if width > 0xffff || height > 0xffff {
		return fmt.Errorf("terminal size is %d by %d; give at most 65535 columns and rows", width, height)
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

// Close ends all streams, whatever is left in them, and the logging binary. A
// second one does nothing.
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
