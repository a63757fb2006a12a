// SPDX-License-Identifier: Apache-2.0

package stdio

import (
	"fmt"
	"os"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"sysbox/tests/streams"
)

func TestConsole(t *testing.T) {
	t.Parallel()
	in, out := streams.FIFO(t, "in"), streams.FIFO(t, "out")
	s := open(t, Config{Stdin: in, Stdout: out, Terminal: true})
	if err := s.Resize(100, 30); err != nil { // before there is a terminal
		t.Fatal(err)
	}
	master, slave := streams.Terminal(t)
	tty := slave()
	if err := s.Started(master); err != nil {
		t.Fatal(err)
	}
	size, err := unix.IoctlGetWinsize(int(tty.Fd()), unix.TIOCGWINSZ)
	if err != nil || size.Col != 100 || size.Row != 30 {
		t.Errorf("size is %+v, %v; want what was asked for before the start", size, err)
	}
	r := reader(t, out)
	fmt.Fprint(tty, "hello\n")
	if got := read(t, r, 7); got != "hello\r\n" {
		t.Errorf("read %q", got)
	}
	w, err := os.OpenFile(in, os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer w.Close()
	fmt.Fprint(w, "typed\n")
	b := make([]byte, 64)
	if n, err := tty.Read(b); err != nil || string(b[:n]) != "typed\n" {
		t.Errorf("the process read %q, %v", b[:n], err)
	}
	read(t, r, 7) // its echo

	// The process closes its terminal and opens it again, as systemd does.
	tty.Close()
	tty = slave()
	fmt.Fprint(tty, "again\n")
	if got := read(t, r, 7); got != "again\r\n" {
		t.Errorf("after a reopen read %q", got)
	}
	fmt.Fprint(tty, strings.Repeat("x", 2000))
	tty.Close()
	s.Exited()
	s.Drain(t.Context())
	if got := read(t, r, 2000); got != strings.Repeat("x", 2000) {
		t.Errorf("the last output is %q", got)
	}
	if n, err := r.Read(b); n != 0 || err == nil {
		t.Errorf("after the end read %d bytes, %v", n, err)
	}
}

// A console without a client's FIFO is read all the same: it must not fill up.
func TestConsoleToNowhere(t *testing.T) {
	t.Parallel()
	s := open(t, Config{Terminal: true})
	master, slave := streams.Terminal(t)
	tty := slave()
	if err := s.Started(master); err != nil {
		t.Fatal(err)
	}
	if _, err := tty.Write(make([]byte, 1<<18)); err != nil {
		t.Error(err)
	}
	tty.Close()
	s.Exited()
	s.Drain(t.Context())
}

func TestResizeLimit(t *testing.T) {
	t.Parallel()
	s := open(t, Config{Terminal: true})
	if err := s.Resize(70000, 1); err == nil {
		t.Error("70000 columns were accepted")
	}
}
