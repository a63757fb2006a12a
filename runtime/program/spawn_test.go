// SPDX-License-Identifier: Apache-2.0

package program

import (
	"errors"
	"io"
	"os"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"sysbox/tests/pace"
)

func soon() time.Time { return time.Now().Add(20 * time.Second * pace.Patience()) }

// start runs a program; the test ends its process.
func start(t testing.TB, p Program, files ...File) *Child {
	t.Helper()
	c, err := Start(p, Options{Files: files})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = c.Signal(unix.SIGKILL)
		_, _ = c.Wait()
		_ = c.Close()
	})
	return c
}

func exit(t testing.TB, p *Process, code int) {
	t.Helper()
	s, err := p.WaitUntil(soon())
	if err != nil || s.ExitCode() != code {
		t.Errorf("process ended with %+v, %v; want code %d", s, err, code)
	}
}

func TestExitCode(t *testing.T) {
	c := start(t, Program{Exit(42)})
	if _, err := c.Next(soon()); err != io.EOF {
		t.Errorf("report: %v, want EOF", err)
	}
	exit(t, c.Process, 42)
	exit(t, start(t, Program{}).Process, 0)
}

func TestFailureNamesTheCall(t *testing.T) {
	c := start(t, Program{
		{Name: "fail and go on", Nr: unix.SYS_CHDIR, Args: []Arg{Str("/nonexistent")}, IgnoreError: true},
		{Name: "enter the root", Nr: unix.SYS_CHDIR, Args: []Arg{Str("/nonexistent")}},
		Exit(0),
	})
	_, err := c.Next(soon())
	var step *StepError
	if !errors.As(err, &step) || step.Index != 1 || step.Before || !errors.Is(err, os.ErrNotExist) {
		t.Fatalf("got %#v", err)
	}
	if got, want := err.Error(), `enter the root: chdir("/nonexistent"): no such file or directory`; got != want {
		t.Errorf("error %q, want %q", got, want)
	}
	exit(t, c.Process, 126)
}
