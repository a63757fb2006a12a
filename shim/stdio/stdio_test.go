// SPDX-License-Identifier: Apache-2.0

package stdio

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"sysbox/tests/pace"
	"sysbox/tests/streams"
)

// patience ends a test that would hang; no test's outcome depends on it.
var patience = 20 * time.Second * pace.Patience()

func open(t *testing.T, cfg Config) *IO {
	t.Helper()
	s := New(cfg)
	if err := s.Open(t.Context()); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.Close)
	return s
}

// dup is what a process has of a stream after Started.
func dup(t *testing.T, f *os.File) *os.File {
	t.Helper()
	if f == nil {
		t.Fatal("the stream is /dev/null")
	}
	fd, err := unix.FcntlInt(f.Fd(), unix.F_DUPFD_CLOEXEC, 3)
	if err != nil {
		t.Fatal(err)
	}
	d := os.NewFile(uintptr(fd), f.Name())
	t.Cleanup(func() { d.Close() })
	return d
}

// sayBoth is a process that says "to stdout" and "to stderr", each where it belongs, and ends.
func sayBoth(t *testing.T, s *IO) {
	t.Helper()
	w, we := dup(t, s.Child().Stdout), dup(t, s.Child().Stderr)
	if err := s.Started(nil); err != nil {
		t.Fatal(err)
	}
	fmt.Fprint(w, "to stdout")
	fmt.Fprint(we, "to stderr")
	w.Close()
	we.Close()
}

// writing is a process that has stdout, w, which goes to the FIFO out.
func writing(t *testing.T) (s *IO, out string, w *os.File) {
	t.Helper()
	out = streams.FIFO(t, "out")
	s = open(t, Config{Stdout: out})
	w = dup(t, s.Child().Stdout)
	if err := s.Started(nil); err != nil {
		t.Fatal(err)
	}
	return s, out, w
}

// reader opens a FIFO as a client does.
func reader(t *testing.T, path string) *os.File {
	t.Helper()
	f, err := os.OpenFile(path, os.O_RDONLY|unix.O_NONBLOCK, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { f.Close() })
	if err := f.SetReadDeadline(time.Now().Add(patience)); err != nil {
		t.Fatal(err)
	}
	return f
}

func read(t *testing.T, r io.Reader, n int) string {
	t.Helper()
	b := make([]byte, n)
	if _, err := io.ReadFull(r, b); err != nil {
		t.Fatalf("read %d bytes: %v (have %q)", n, err, b)
	}
	return string(b)
}

func TestNothingIsDevNull(t *testing.T) {
	t.Parallel()
	s := open(t, Config{})
	if c := s.Child(); c.Stdin != nil || c.Stdout != nil || c.Stderr != nil {
		t.Errorf("child's files are %+v, want none", c)
	}
}

func TestFIFOEnd(t *testing.T) {
	t.Parallel()
	out, errs := streams.FIFO(t, "out"), streams.FIFO(t, "err")
	s := open(t, Config{Stdout: out, Stderr: errs})
	r, re := reader(t, out), reader(t, errs)
	sayBoth(t, s)
	// The client sees the end without any call to the shim.
	for _, c := range []struct {
		r    io.Reader
		want string
	}{{r, "to stdout"}, {re, "to stderr"}} {
		if b, err := io.ReadAll(c.r); err != nil || string(b) != c.want {
			t.Errorf("read %q, %v; want %q", b, err, c.want)
		}
	}
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	s.Drain(ctx)
	if ctx.Err() != nil {
		t.Error("not drained though all output was handed on")
	}
}

func TestFIFOLarge(t *testing.T) {
	t.Parallel()
	out := streams.FIFO(t, "out")
	s := open(t, Config{Stdout: out})
	r, w := reader(t, out), dup(t, s.Child().Stdout)
	if err := s.Started(nil); err != nil {
		t.Fatal(err)
	}
	data := bytes.Repeat([]byte("0123456789abcdef"), 1<<16) // 1 MiB: pipes fill up on both sides
	go func() {
		for b := data; len(b) > 0; {
			n := min(len(b), 1000+len(b)%5000)
			w.Write(b[:n])
			b = b[n:]
		}
		w.Close()
	}()
	got, err := io.ReadAll(r)
	if err != nil || !bytes.Equal(got, data) {
		t.Errorf("read %d bytes, %v; want the %d that were written", len(got), err, len(data))
	}
}

// A client that leaves and another that comes see one stream, and the process
// gets no SIGPIPE.
func TestReaderGoesAndComes(t *testing.T) {
	t.Parallel()
	_, out, w := writing(t)
	r := reader(t, out)
	fmt.Fprint(w, "first")
	if got := read(t, r, 5); got != "first" {
		t.Errorf("read %q", got)
	}
	r.Close()
	if _, err := fmt.Fprint(w, "while away"); err != nil {
		t.Fatalf("write without a client: %v", err)
	}
	r = reader(t, out)
	if got := read(t, r, 10); got != "while away" {
		t.Errorf("read %q", got)
	}
}

// Without a client for ever, Close still ends everything.
func TestDeadReader(t *testing.T) {
	t.Parallel()
	s, _, w := writing(t)
	stuck := make(chan error, 1)
	go func() {
		_, err := w.Write(make([]byte, 1<<20))
		stuck <- err
	}()
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	s.Drain(ctx)
	if ctx.Err() == nil {
		t.Error("drained a stream that nobody reads")
	}
	s.Close()
	s.Drain(t.Context())
	if err := <-stuck; err == nil {
		t.Error("the process's write succeeded with nobody to read it")
	}
}

func TestStdin(t *testing.T) {
	t.Parallel()
	in := streams.FIFO(t, "in")
	s := open(t, Config{Stdin: in})
	r := dup(t, s.Child().Stdin)
	if err := s.Started(nil); err != nil {
		t.Fatal(err)
	}
	client := func(msg string) {
		f, err := os.OpenFile(in, os.O_WRONLY, 0)
		if err != nil {
			t.Fatal(err)
		}
		fmt.Fprint(f, msg)
		f.Close()
	}
	client("one ")
	if got := read(t, r, 4); got != "one " {
		t.Errorf("read %q", got)
	}
	client("two ") // the stream went on
	if got := read(t, r, 4); got != "two " {
		t.Errorf("read %q", got)
	}
	client("three")
	s.CloseStdin()
	if b, err := io.ReadAll(r); err != nil || string(b) != "three" {
		t.Errorf("after CloseStdin read %q, %v; want the rest and the end", b, err)
	}
}

// Both streams are in the file in the order in which they were written.
func TestFileURI(t *testing.T) {
	t.Parallel()
	p := filepath.Join(t.TempDir(), "made", "for", "it", "log")
	want := ""
	for range 2 {
		s := open(t, Config{Stdout: "file://" + p})
		w, we := dup(t, s.Child().Stdout), dup(t, s.Child().Stderr)
		if err := s.Started(nil); err != nil {
			t.Fatal(err)
		}
		for i := range 50 {
			fmt.Fprintf(w, "out %d\n", i)
			fmt.Fprintf(we, "err %d\n", i)
			want += fmt.Sprintf("out %d\nerr %d\n", i, i)
		}
		w.Close()
		we.Close()
		s.Drain(t.Context())
		s.Close()
	}
	if b, err := os.ReadFile(p); err != nil || string(b) != want {
		t.Errorf("log is %q, %v", b, err)
	}
}

func TestUnknownScheme(t *testing.T) {
	t.Parallel()
	err := New(Config{Stdout: "http://somewhere/x"}).Open(t.Context())
	if err == nil || !strings.Contains(err.Error(), `"http"`) {
		t.Errorf("error is %v; want one that names the scheme", err)
	}
}

// Programs do not expect EAGAIN of their stdio.
func TestProcessEndsBlock(t *testing.T) {
	t.Parallel()
	path, _ := script(t, "exec 5>&-\nexec cat <&3 >/dev/null\n")
	for _, cfg := range []Config{
		{Stdin: streams.FIFO(t, "in"), Stdout: streams.FIFO(t, "out"), Stderr: streams.FIFO(t, "err")},
		{Stdout: "binary://" + path},
	} {
		s := open(t, cfg)
		c := s.Child()
		for _, f := range []*os.File{c.Stdin, c.Stdout, c.Stderr} {
			if f == nil {
				continue
			}
			rc, err := f.SyscallConn()
			if err != nil {
				t.Fatal(err)
			}
			rc.Control(func(fd uintptr) {
				if flags, err := unix.FcntlInt(fd, unix.F_GETFL, 0); err != nil || flags&unix.O_NONBLOCK != 0 {
					t.Errorf("flags of a process's end are %#x, %v", flags, err)
				}
			})
		}
		if err := s.Started(nil); err != nil {
			t.Fatal(err)
		}
	}
}

func TestPipeOwner(t *testing.T) {
	t.Parallel()
	if os.Getuid() != 0 {
		t.Skip("gives a pipe to another user, which takes root")
	}
	out := streams.FIFO(t, "out")
	s := open(t, Config{Stdout: out, UID: 100123, GID: 100456})
	var st unix.Stat_t
	if err := unix.Fstat(int(s.Child().Stdout.Fd()), &st); err != nil {
		t.Fatal(err)
	}
	if st.Uid != 100123 || st.Gid != 100456 {
		t.Errorf("pipe belongs to %d:%d", st.Uid, st.Gid)
	}
}
