// SPDX-License-Identifier: Apache-2.0

package stdio

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

func (s *IO) open(ctx context.Context, cfg Config) error {
	if err := s.layStdin(cfg); err != nil {
		return fmt.Errorf("open stdin: %w", err)
	}
	if !cfg.StdinLater {
		if err := s.OpenStdin(); err != nil {
			return err
		}
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
			return fmt.Errorf("change the owner of the pipes to io_uid and io_gid: %w", err)
		}
	}
	return nil
}

// layStdin makes the pipe that will be the stdin of the process, and checks that its
// source exists: an error belongs in the answer to Create.
func (s *IO) layStdin(cfg Config) error {
	if cfg.Stdin == "" {
		return nil
	}
	path, err := localPath(cfg.Stdin)
	if err != nil {
		return err
	}
	if _, err := os.Stat(path); err != nil {
		return err
	}
	if cfg.Terminal {
		return nil // stdin is the terminal
	}
	s.child.Stdin, s.stdinTo, err = s.pipe(func(_, w int) int { return w })
	return err
}

// openStdin opens the FIFO. The caller holds mu.
func (s *IO) openStdin() error {
	path, err := localPath(s.cfg.Stdin)
	if err != nil {
		return err
	}
	in, err := os.OpenFile(path, os.O_RDONLY|unix.O_NONBLOCK, 0)
	if err != nil {
		return err
	}
	if isFIFO(in) && !s.stdinClosed {
		// A client that waits in its open counts as a writer, so closing stdin before the
		// client writes does not cut off its input.
		if s.stdinHold, err = os.OpenFile(path, os.O_WRONLY|unix.O_NONBLOCK, 0); err != nil {
			in.Close()
			return err
		}
		s.ours = append(s.ours, s.stdinHold)
	}
	s.stdin = in
	s.ours = append(s.ours, in)
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
	return fmt.Errorf("unknown scheme %q; use the path of a FIFO or a URI with fifo, file, binary or binary-v2", scheme)
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

// connect makes a pipe to each of the sinks or, with a terminal, keeps the sink of
// stdout for it. A nil sink is /dev/null.
func (s *IO) connect(out, errs *os.File, cfg Config) error {
	if cfg.Terminal {
		s.out = out
		return nil
	}
	if err := s.lay(out, &s.child.Stdout); err != nil {
		return err
	}
	if errs == out {
		// One pipe to one file keeps the order of the two streams.
		s.child.Stderr = s.child.Stdout
		return nil
	}
	return s.lay(errs, &s.child.Stderr)
}

// lay makes a pipe to sink and starts its pump. The reader of a FIFO sees the end of
// file when the pump closes the FIFO.
func (s *IO) lay(sink *os.File, child **os.File) error {
	if sink == nil {
		return nil
	}
	r, w, err := s.pipe(func(r, _ int) int { return r })
	if err != nil {
		return err
	}
	*child = w
	s.pumps.Add(1)
	go func() {
		defer s.pumps.Done()
		pump(sink, r)
		r.Close()
		sink.Close()
	}()
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
	// The process writes to the logger's pipes directly; the shim copies nothing.
	s.child.Stdout, s.child.Stderr = out, errs
	return nil
}

// pipe makes a pipe; ours chooses the end that is in Go's poller. The other end
// belongs to the process and must block, as programs expect of their stdio.
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

// localPath returns the path of a FIFO, given as a path or as fifo:///path.
func localPath(s string) (string, error) {
	if !strings.Contains(s, "://") {
		return s, nil
	}
	u, err := url.Parse(s)
	if err != nil {
		return "", err
	}
	if u.Scheme != "fifo" && u.Scheme != "file" {
		return "", fmt.Errorf("scheme %q is valid for stdout only; use the path of a FIFO", u.Scheme)
	}
	return u.Path, nil
}

func isFIFO(f *os.File) bool {
	st, err := f.Stat()
	return err == nil && st.Mode()&os.ModeNamedPipe != 0
}

// readerTimeout is how long an open waits for the reader of a FIFO.
const readerTimeout = 3 * time.Second

// openSink opens an existing FIFO or other file for output.
//
// It opens a FIFO for reading too, fifo(7): then the open does not wait for a
// reader, and the stream outlives readers that come and go.
func openSink(path string) (*os.File, error) {
	st, err := os.Stat(path)
	if err != nil {
		return nil, err
	}
	if st.Mode()&os.ModeNamedPipe != 0 {
		// A client opens its end in the background. If a short process wrote its
		// output and the FIFO were closed before that, the output would be lost and
		// the client would wait forever. If the client is gone, the wait ends at
		// readerTimeout.
		deadline := time.Now().Add(readerTimeout)
		for {
			w, err := os.OpenFile(path, os.O_WRONLY|unix.O_NONBLOCK, 0)
			if err == nil {
				// Kept until ours is open, or the reader would see an end of file.
				defer w.Close()
				break
			}
			if !errors.Is(err, unix.ENXIO) || time.Now().After(deadline) {
				break
			}
			time.Sleep(time.Millisecond)
		}
		return os.OpenFile(path, os.O_RDWR|unix.O_NONBLOCK, 0)
	}
	return os.OpenFile(path, os.O_WRONLY|os.O_APPEND|unix.O_NONBLOCK, 0)
}

// openFile opens the log file of a file:// URI and creates it if it is missing.
func openFile(path string) (*os.File, error) {
	if !filepath.IsAbs(path) {
		return nil, fmt.Errorf("file:// URI has the path %q; it must be absolute", path)
	}
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return nil, err
	}
	return os.OpenFile(path, os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o644)
}
