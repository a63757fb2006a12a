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
	"net/url"
	"os"
	"strings"
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

func (s *IO) open(ctx context.Context, cfg Config) error {
	if err := s.openStdin(cfg); err != nil {
		return fmt.Errorf("open stdin: %w", err)
	}
	if err := s.openOutputs(ctx, cfg); err != nil {
		return fmt.Errorf("open stdout and stderr: %w", err)
	}
	if cfg.UID == 0 && cfg.GID == 0 {
		return nil
	}
	for _, f := range []*os.File{s.child.Stdin, s.child.Stdout, s.child.Stderr} {
		if f == nil {
			continue
		}
		if err := f.Chown(cfg.UID, cfg.GID); err != nil {
			return fmt.Errorf("give the pipes to io_uid and io_gid: %w", err)
		}
	}
	return nil
}

func (s *IO) openStdin(cfg Config) error {
	if cfg.Stdin == "" {
		return nil
	}
	path, err := localPath(cfg.Stdin)
	if err != nil {
		return err
	}
	s.stdin, err = os.OpenFile(path, os.O_RDONLY|unix.O_NONBLOCK, 0)
	if err != nil {
		return err
	}
	s.ours = append(s.ours, s.stdin)
	if isFIFO(s.stdin) {
		if s.stdinHold, err = os.OpenFile(path, os.O_WRONLY|unix.O_NONBLOCK, 0); err != nil {
			return err
		}
		s.ours = append(s.ours, s.stdinHold)
	}
	if cfg.Terminal {
		return nil // Started knows where it goes
	}
	r, w, err := s.pipe(func(_, w int) int { return w })
	if err != nil {
		return err
	}
	s.child.Stdin = r
	go func() {
		pump(w, s.stdin)
		w.Close()
		s.stdin.Close()
	}()
	return nil
}

func (s *IO) openOutputs(ctx context.Context, cfg Config) error {
	scheme, u := "fifo", &url.URL{Path: cfg.Stdout}
	if strings.Contains(cfg.Stdout, "://") {
		var err error
		if u, err = url.Parse(cfg.Stdout); err != nil {
			return err
		}
		scheme = u.Scheme
	}
	switch scheme {
	case "fifo":
		return s.openFIFOs(u.Path, cfg)
	case "file":
		f, err := openFile(u.Path)
		if err != nil {
			return err
		}
		s.ours = append(s.ours, f)
		return s.connect(f, f, cfg)
	case "binary", "binary-v2":
		return s.openLogger(ctx, u, cfg)
	}
	return fmt.Errorf("scheme %q is not known: give a FIFO's path, or a URI with fifo, file, binary or binary-v2", scheme)
}

func (s *IO) openFIFOs(stdout string, cfg Config) error {
	var out, errs *os.File
	var err error
	if stdout != "" {
		if out, err = openSink(stdout); err != nil {
			return err
		}
		s.ours = append(s.ours, out)
	}
	if cfg.Stderr != "" && !cfg.Terminal {
		path, err := localPath(cfg.Stderr)
		if err != nil {
			return err
		}
		if path == stdout {
			errs = out
		} else {
			if errs, err = openSink(path); err != nil {
				return err
			}
			s.ours = append(s.ours, errs)
		}
	}
	return s.connect(out, errs, cfg)
}

// connect lays a pipe to each of the sinks, or notes stdout's for the
// terminal. A nil sink is /dev/null.
func (s *IO) connect(out, errs *os.File, cfg Config) error {
	if cfg.Terminal {
		s.out = out
		return nil
	}
	left := map[*os.File]*sync.WaitGroup{}
	for _, c := range []struct {
		sink  *os.File
		child **os.File
	}{{out, &s.child.Stdout}, {errs, &s.child.Stderr}} {
		if c.sink == nil {
			continue
		}
		r, w, err := s.pipe(func(r, _ int) int { return r })
		if err != nil {
			return err
		}
		*c.child = w
		if left[c.sink] == nil {
			left[c.sink] = new(sync.WaitGroup)
		}
		users := left[c.sink]
		users.Add(1)
		s.pumps.Add(1)
		go func() {
			defer s.pumps.Done()
			pump(c.sink, r)
			r.Close()
			users.Done()
		}()
	}
	// A reader of the FIFO learns of the end by the last writer's leaving.
	for sink, users := range left {
		go func() {
			users.Wait()
			sink.Close()
		}()
	}
	return nil
}

func (s *IO) openLogger(ctx context.Context, u *url.URL, cfg Config) error {
	l, out, errs, err := startLogger(ctx, u, cfg.ID, cfg.Namespace)
	if err != nil {
		return err
	}
	s.logger = l
	if cfg.Terminal {
		errs.Close()
		s.out = out
		s.ours = append(s.ours, out)
		return nil
	}
	// The process writes to the logger's pipes; nothing is copied.
	s.child.Stdout, s.child.Stderr = out, errs
	return nil
}

// pipe makes a pipe whose one end, chosen by ours, is for Go's poller. The
// other is the process's and must block, as programs expect of their stdio.
func (s *IO) pipe(ours func(r, w int) int) (r, w *os.File, err error) {
	var p [2]int
	if err := unix.Pipe2(p[:], unix.O_CLOEXEC); err != nil {
		return nil, nil, os.NewSyscallError("pipe2", err)
	}
	err = unix.SetNonblock(ours(p[0], p[1]), true)
	r, w = os.NewFile(uintptr(p[0]), "pipe"), os.NewFile(uintptr(p[1]), "pipe")
	s.ours = append(s.ours, r, w)
	return r, w, err
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
