// SPDX-License-Identifier: Apache-2.0

// Package hooks runs the hooks of the OCI runtime spec (config.md, "POSIX-platform
// Hooks"): programs that the author of the spec wants to run at six points in the life
// of a container.
//
// Where each kind runs, and where its path is looked up:
//
//	prestart         host namespaces       host path       deprecated; before createRuntime
//	createRuntime    host namespaces       host path       namespaces made, root not yet pivoted
//	createContainer  container namespaces  host path       after createRuntime, before the pivot
//	startContainer   container namespaces  container path  after start, before the process is executed
//	poststart        host namespaces       host path       after the process was executed
//	poststop         host namespaces       host path       after the container was deleted
//
// [Run] runs those in the namespaces of the host. A process inside the container
// executes the two others; it takes [Argv], [Env] and
// [Encode] from here.
//
// If a hook of the first four kinds fails, the container is not started and is
// removed; after a failed poststart hook it is stopped. A failed poststop hook
// changes nothing, and the others still run.
//
// What does not belong here: when in the life of a container a kind runs, and
// entering namespaces.
package hooks

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"syscall"
	"time"

	"github.com/opencontainers/runtime-spec/specs-go"

	"sysbox/runtime/text"
)

// Kind is a point in the life of a container, by its name in the spec.
type Kind string

// The kinds, in the order in which they run.
const (
	Prestart        Kind = "prestart"
	CreateRuntime   Kind = "createRuntime"
	CreateContainer Kind = "createContainer"
	StartContainer  Kind = "startContainer"
	Poststart       Kind = "poststart"
	Poststop        Kind = "poststop"
)

// Of returns the hooks of one kind, none for a spec without hooks.
func Of(h *specs.Hooks, kind Kind) []specs.Hook {
	if h == nil {
		return nil
	}
	switch kind {
	case Prestart:
		return h.Prestart //nolint:staticcheck // deprecated in the spec, but still run
	case CreateRuntime:
		return h.CreateRuntime
	case CreateContainer:
		return h.CreateContainer
	case StartContainer:
		return h.StartContainer
	case Poststart:
		return h.Poststart
	case Poststop:
		return h.Poststop
	}
	return nil
}

// RunAll runs hooks of one kind in order. It stops at the first that fails, except for
// poststop: there it runs all of them and returns all errors. An error
// reads "hook #1 of createRuntime /path: exit status 3: what it wrote".
func RunAll(ctx context.Context, kind Kind, list []specs.Hook, state *specs.State, dir string) error {
	var errs []error
	for i, h := range list {
		err := Run(ctx, h, state, dir)
		if err == nil {
			continue
		}
		errs = append(errs, Name(kind, i, h, err))
		if kind != Poststop && kind != Poststart {
			break
		}
	}
	return errors.Join(errs...)
}

// Name adds to an error which hook it is about; i counts from 0.
func Name(kind Kind, i int, h specs.Hook, err error) error {
	return fmt.Errorf("hook #%d of %s %s: %w", i+1, kind, h.Path, err)
}

// Run executes one hook in the namespaces of the caller, with dir as its working
// directory and the state on its standard input; it discards its standard output. If a hook
// exceeds its timeout, or ctx ends, it is killed with its whole process group. A hook may
// leave processes behind; what these write to standard error after the hook has exited
// is lost.
func Run(ctx context.Context, h specs.Hook, state *specs.State, dir string) error {
	input, err := Encode(state)
	if err != nil {
		return err
	}
	ctx, cancel := Limit(ctx, h)
	defer cancel()
	// The pipes are ours, since os/exec would wait until all copies of an end are closed, and
	// background processes of a hook have copies.
	inR, inW, err := os.Pipe()
	if err != nil {
		return err
	}
	defer inW.Close()
	errR, errW, err := os.Pipe()
	if err != nil {
		inR.Close()
		return err
	}
	defer errR.Close()

	cmd := exec.CommandContext(ctx, h.Path)
	cmd.Path, cmd.Err = h.Path, nil // exactly this file, without a search in PATH
	cmd.Args, cmd.Env, cmd.Dir = Argv(h), Env(h), dir
	cmd.Stdin, cmd.Stderr = inR, errW
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	cmd.Cancel = func() error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) }
	err = cmd.Start()
	inR.Close()
	errW.Close()
	if err != nil {
		return err
	}
	go func() {
		_, _ = inW.Write(input) // a hook need not read it: EPIPE
		inW.Close()
	}()
	said := make(chan string, 1)
	go func() { said <- Tail(errR) }()

	err = cmd.Wait()
	// Processes that still hold the other ends do not delay the return for long.
	_ = inW.SetWriteDeadline(time.Now())
	_ = errR.SetReadDeadline(time.Now().Add(50 * time.Millisecond))
	text := <-said
	if err == nil {
		return nil
	}
	if ctx.Err() != nil {
		err = context.Cause(ctx)
	}
	if text != "" {
		return fmt.Errorf("%w: %s", err, text)
	}
	return err
}

// tailSize is how much of a hook's standard error an error quotes: enough for the last
// lines of a stack trace, short enough for an event in kubectl describe.
const tailSize = 1024

// Tail reads the standard error of a hook to the end, and returns the last part of it as one
// line of text.
func Tail(r io.Reader) string {
	var kept []byte
	cut := false
	buf := make([]byte, 4096)
	for {
		n, err := r.Read(buf)
		kept = append(kept, buf[:n]...)
		if over := len(kept) - tailSize; over > 0 {
			kept, cut = append(kept[:0], kept[over:]...), true
		}
		if err != nil {
			line := text.Line(string(kept))
			if cut {
				line = "…" + line
			}
			return line
		}
	}
}

// Limit ends a context after the timeout of the hook, if it has one, with that as the cause.
func Limit(ctx context.Context, h specs.Hook) (context.Context, context.CancelFunc) {
	if h.Timeout == nil {
		return context.WithCancel(ctx)
	}
	limit := time.Duration(*h.Timeout) * time.Second
	return context.WithTimeoutCause(ctx, limit, fmt.Errorf("killed after its timeout of %v", limit))
}

// Encode returns the bytes for the standard input of a hook.
func Encode(state *specs.State) ([]byte, error) {
	b, err := json.Marshal(state)
	if err != nil {
		return nil, fmt.Errorf("state for hooks: %w", err)
	}
	return b, nil
}

// Argv is the argument vector of the hook; without args it is the path alone.
func Argv(h specs.Hook) []string {
	if len(h.Args) == 0 {
		return []string{h.Path}
	}
	return h.Args
}

// Env is the environment of the hook: that of the spec and nothing else.
func Env(h specs.Hook) []string {
	return append([]string{}, h.Env...) // nil would make os/exec pass our own
}
