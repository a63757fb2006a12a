// SPDX-License-Identifier: Apache-2.0

package stdio

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/url"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

const (
	// loggerReady bounds the wait for a logger to become ready.
	loggerReady = 30 * time.Second
	// loggerEOF is how long a logger may run after the end of its input; then it
	// gets SIGTERM, and after loggerTerm SIGKILL.
	loggerEOF  = 2 * time.Second
	loggerTerm = 12 * time.Second
)

// logger is a logging binary: it reads the process's stdout on fd 3 and its
// stderr on fd 4, and writes a byte to fd 5, or closes it, when it is ready.
type logger struct {
	cmd  *exec.Cmd
	done chan struct{} // closed when it has exited
}

// startLogger returns the logger and the ends of its pipes for the process.
func startLogger(ctx context.Context, u *url.URL, id, namespace string) (l *logger, out, errs *os.File, err error) {
	var files []*os.File
	defer func() {
		for _, f := range files {
			f.Close()
		}
	}()
	pipe := func(flags int) (r, w *os.File) {
		var p [2]int
		if err == nil {
			err = os.NewSyscallError("pipe2", unix.Pipe2(p[:], unix.O_CLOEXEC|flags))
		}
		if err == nil {
			r, w = os.NewFile(uintptr(p[0]), "pipe"), os.NewFile(uintptr(p[1]), "pipe")
			files = append(files, r, w)
		}
		return r, w
	}
	// The ends of the process and the logger must block; only the shim's does not.
	outR, outW := pipe(0)
	errR, errW := pipe(0)
	readyR, readyW := pipe(unix.O_NONBLOCK)
	if err != nil {
		return nil, nil, nil, err
	}
	args, err := loggerArgs(u.RawQuery)
	if err != nil {
		return nil, nil, nil, fmt.Errorf("arguments of the logging binary %s: %w", u.Path, err)
	}
	cmd := exec.Command(u.Path, args...)
	cmd.Env = []string{"CONTAINER_ID=" + id, "CONTAINER_NAMESPACE=" + namespace}
	cmd.ExtraFiles = []*os.File{outR, errR, readyW}
	if err := cmd.Start(); err != nil {
		return nil, nil, nil, fmt.Errorf("start the logging binary %s: %w", u.Path, err)
	}
	l = &logger{cmd: cmd, done: make(chan struct{})}
	go func() {
		_ = cmd.Wait() // its status does not matter to the container
		close(l.done)
	}()
	readyW.Close()
	if err := awaitReady(ctx, readyR, u.Scheme == "binary-v2"); err != nil {
		_ = cmd.Process.Kill()
		<-l.done
		return nil, nil, nil, fmt.Errorf("logging binary %s: %w", u.Path, err)
	}
	outR.Close()
	errR.Close()
	files = []*os.File{readyR}
	return l, outW, errW, nil
}

// awaitReady waits for a byte or, if byteRequired is false, for the end of file.
func awaitReady(ctx context.Context, r *os.File, byteRequired bool) error {
	ctx, cancel := context.WithTimeout(ctx, loggerReady)
	defer cancel()
	stop := context.AfterFunc(ctx, func() { _ = r.SetReadDeadline(time.Unix(1, 0)) })
	defer stop()
	_, err := r.Read(make([]byte, 1))
	switch {
	case err == nil:
		return nil
	case ctx.Err() != nil:
		return fmt.Errorf("not ready: %w", ctx.Err())
	case errors.Is(err, io.EOF) && byteRequired:
		return errors.New("it closed fd 5 without writing a byte; binary-v2 requires that byte to signal readiness")
	case errors.Is(err, io.EOF):
		return nil
	}
	return err
}

// loggerArgs turns a query into arguments in the order of the query: key, value, key, value.
func loggerArgs(query string) ([]string, error) {
	var args []string
	for _, pair := range strings.Split(query, "&") {
		if pair == "" {
			continue
		}
		key, value, _ := strings.Cut(pair, "=")
		for _, s := range []string{key, value} {
			s, err := url.QueryUnescape(s)
			if err != nil {
				return nil, err
			}
			args = append(args, s)
		}
	}
	return args, nil
}

// close waits until the logger exits, and kills it if need be. Its input has ended, so
// most loggers have exited already.
func (l *logger) close() {
	if l.ended(loggerEOF) {
		return
	}
	_ = l.cmd.Process.Signal(syscall.SIGTERM)
	if l.ended(loggerTerm) {
		return
	}
	_ = l.cmd.Process.Kill()
	<-l.done
}

func (l *logger) ended(within time.Duration) bool {
	t := time.NewTimer(within)
	defer t.Stop()
	select {
	case <-l.done:
		return true
	case <-t.C:
		return false
	}
}
