// SPDX-License-Identifier: Apache-2.0

package program

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"runtime"
	"slices"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

func pipe(t testing.TB) (r, w *os.File) {
	t.Helper()
	r, w, err := Pipe()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { r.Close(); w.Close() })
	return r, w
}

func next(t testing.TB, c *Child, tag uint32) int32 {
	t.Helper()
	p, err := c.Next(soon())
	if err != nil || p.Tag != tag {
		t.Fatalf("report: %+v, %v; want tag %d", p, err, tag)
	}
	return p.Value
}

func TestWant(t *testing.T) {
	c := start(t, Program{{Name: "wait", Nr: unix.SYS_READ, Args: []Arg{Int(0), &Buffer{"b", 1}, Int(1)}, Want: Equals(1)}}, File{null(t), 0})
	_, err := c.Next(soon())
	var step *StepError
	if !errors.As(err, &step) || step.Errno != 0 || step.Result != 0 || errors.Unwrap(step) != nil {
		t.Fatalf("got %#v", err)
	}
	if got, want := err.Error(), "wait: read(0, b[1], 1): returned 0 instead of 1"; got != want {
		t.Errorf("error %q, want %q", got, want)
	}
	exit(t, c.Process, 126)
}

func null(t testing.TB) *os.File {
	t.Helper()
	f, err := os.OpenFile(os.DevNull, os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { f.Close() })
	return f
}

// Results reach later arguments, memory, and the other way round by address; blobs
// hold pointers; spaces are shared.
func TestResults(t *testing.T) {
	r, w := pipe(t)
	text := "through an iovec"
	iov := &Blob{Name: "iovec", Data: make([]byte, 16), Refs: []Ref{{0, Str(text)}}}
	binary.LittleEndian.PutUint64(iov.Data[8:], uint64(len(text)))
	name := &Buffer{"name", 16}
	c := start(t, Program{
		{Nr: unix.SYS_DUP, Args: []Arg{Int(1)}, Label: "out"},
		{Nr: unix.SYS_WRITEV, Args: []Arg{Result("out"), iov, Int(1)}},
		{Nr: unix.SYS_PRCTL, Args: []Arg{Int(unix.PR_SET_NAME), Str("a name")}},
		{Nr: unix.SYS_PRCTL, Args: []Arg{Int(unix.PR_GET_NAME), name}},
		{Nr: unix.SYS_WRITE, Args: []Arg{Result("out"), name, Int(16)}},
		{Nr: unix.SYS_GETPID, Label: "pid"},
		{Nr: unix.SYS_WRITE, Args: []Arg{Result("out"), ResultAddr("pid"), Int(8)}},
		Report("tell the pid", 5, "pid"),
	}, File{w, 1})
	if pid := next(t, c, 5); int(pid) != c.Pid {
		t.Errorf("reported pid %d, want %d", pid, c.Pid)
	}
	exit(t, c.Process, 0)
	w.Close()
	got, err := io.ReadAll(r)
	want := text + "a name" + strings.Repeat("\x00", 10) + string(binary.LittleEndian.AppendUint64(nil, uint64(c.Pid)))
	if err != nil || string(got) != want {
		t.Errorf("got %q, %v; want %q", got, err, want)
	}
}

func TestJumps(t *testing.T) {
	bad := Call{Nr: unix.SYS_CHDIR, Args: []Arg{Str("/nonexistent")}}
	with := func(f func(c *Call)) Call { c := bad; f(&c); return c }
	for _, row := range []struct {
		name string
		call Call
		code int
	}{
		{"error to label", with(func(c *Call) { c.OnError = "there" }), 3},
		{"this errno", with(func(c *Call) { c.OnError, c.Errno = "there", unix.ENOENT }), 3},
		{"another errno", with(func(c *Call) { c.OnError, c.Errno = "there", unix.EPERM }), 126},
		{"ignored", with(func(c *Call) { c.IgnoreError = true }), 2},
		{"ignored errno", with(func(c *Call) { c.IgnoreError, c.Errno = true, unix.ENOENT }), 2},
		{"not ignored errno", with(func(c *Call) { c.IgnoreError, c.Errno = true, unix.EPERM }), 126},
		{"zero", Call{Nr: unix.SYS_SCHED_YIELD, IfZero: "there", IgnoreError: true}, 3},
		{"not zero", Call{Nr: unix.SYS_GETPID, IfZero: "there"}, 2},
		{"unwanted", Call{Nr: unix.SYS_GETPID, Want: Equals(0), OnError: "there"}, 3},
		{"largest error", Call{Nr: unix.SYS_LSEEK, Args: []Arg{Int(77)}, OnError: "there"}, 3},
	} {
		t.Run(row.name, func(t *testing.T) {
			p := Program{row.call, Exit(2), Exit(3)}
			p[2].Label = "there"
			exit(t, start(t, p).Process, row.code)
		})
	}
}

// Fork makes a sibling: the child of the process that started the program.
func TestFork(t *testing.T) {
	if os.Getuid() != 0 {
		t.Skip("makes a pid namespace, which takes root")
	}
	r, _ := pipe(t)
	c := start(t, append(Prelude(os.Getpid()),
		Fork("pid", "child", unix.CLONE_NEWPID, -1),
		Report("tell the pid", 1, "pid"),
		Exit(0),
		Call{Name: "check the pid", Nr: unix.SYS_GETPID, Want: Equals(1), Label: "child"},
		Call{Name: "check the parent", Nr: unix.SYS_GETPPID, Want: Equals(0)},
		Call{Name: "fail", Nr: unix.SYS_CHDIR, Args: []Arg{Str("/nonexistent")}},
	), File{r, 0})
	var pid int32
	var step *StepError
	for range 2 { // the two processes race for the pipe
		p, err := c.Next(soon())
		if err == nil {
			pid = p.Value
		} else if !errors.As(err, &step) {
			t.Fatal(err)
		}
	}
	if step == nil || step.Step.Name != "fail" {
		t.Errorf("the child's failure: %v", step)
	}
	b, err := Adopt(int(pid))
	if err != nil {
		t.Fatal(err)
	}
	defer b.Close()
	exit(t, c.Process, 0)
	exit(t, b, 126)
}

// A program has the files passed, and no other, whatever their numbers here.
func TestFiles(t *testing.T) {
	busybox := static(t)
	for int(null(t).Fd()) < ReportFD { // which none of the files below may have
	}
	r, w := pipe(t)
	n := null(t)
	// Sources that are other files' destinations; and an open file that is not
	// close-on-exec.
	leak, err := unix.Dup(int(n.Fd()))
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(leak)
	c := start(t, Program{{
		Nr:   unix.SYS_EXECVE,
		Args: []Arg{Str(busybox), Strs{"ls", "-l", "/proc/self/fd"}, Strs{}},
	}}, File{w, 1}, File{r, int(w.Fd())}, File{n, int(r.Fd())}, File{w, 40}, File{w, 4})
	want := []int{1, int(r.Fd()), int(w.Fd()), 40, 4}
	exit(t, c.Process, 0)
	w.Close()
	out, err := io.ReadAll(r)
	if err != nil {
		t.Fatal(err)
	}
	var got []int
	for line := range strings.Lines(string(out)) {
		if f := strings.Fields(line); len(f) == 11 && !strings.HasPrefix(f[10], "/proc/") {
			got = append(got, number(f[8]))
		}
	}
	slices.Sort(got)
	slices.Sort(want)
	if !slices.Equal(got, slices.Compact(want)) {
		t.Errorf("open files %v, want %v:\n%s", got, want, out)
	}
}

// TestInherit: no call is made that takes Linux 5.11, and what is not close-on-exec stays.
func TestInherit(t *testing.T) {
	n := null(t)
	leak, err := unix.Dup(int(n.Fd()))
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(leak)
	for _, inherit := range []bool{false, true} {
		first, err := launchCalls(Options{Inherit: inherit}, leak, leak)
		if err != nil {
			t.Fatal(err)
		}
		if closes := slices.ContainsFunc(first, func(c Call) bool { return c.Nr == unix.SYS_CLOSE_RANGE }); closes == inherit {
			t.Errorf("Inherit %v: close_range is called: %v", inherit, closes)
		}
		c, err := Start(Program{{Nr: unix.SYS_FCNTL, Args: []Arg{Int(leak), Int(unix.F_GETFD), Int(0)}}, Exit(7)}, Options{Inherit: inherit})
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		if inherit {
			exit(t, c.Process, 7)
		} else { // of the call that failed
			exit(t, c.Process, 126)
		}
	}
}

func number(s string) (n int) {
	for _, c := range s {
		n = 10*n + int(c-'0')
	}
	return n
}

func TestFilesRefused(t *testing.T) {
	n := null(t)
	for _, files := range [][]File{{{n, ReportFD}}, {{n, 5}, {n, 5}}, {{n, -1}}} {
		if _, err := Start(Program{}, Options{Files: files}); err == nil {
			t.Errorf("files %v were passed", files)
		}
	}
}

// What Start cannot pass on is told by name.
func TestFirstLegFailure(t *testing.T) {
	_, err := Start(Program{}, Options{Files: []File{{null(t), 1 << 30}}})
	var step *StepError
	if !errors.As(err, &step) || !step.Before || step.Errno != unix.EINVAL {
		t.Errorf("got %v", err)
	}
}

// A program's signals are as a new process's should be.
func TestSignals(t *testing.T) {
	busybox := static(t)
	r, w := pipe(t)
	signal.Ignore(unix.SIGHUP, unix.SIGPIPE)
	t.Cleanup(func() { signal.Reset(unix.SIGHUP, unix.SIGPIPE) })
	c := start(t, Program{{
		Nr:   unix.SYS_EXECVE,
		Args: []Arg{Str(busybox), Strs{"grep", "-E", "^Sig(Blk|Ign|Cgt)", "/proc/self/status"}, Strs{}},
	}}, File{w, 1})
	exit(t, c.Process, 0)
	w.Close()
	out, _ := io.ReadAll(r)
	zero := strings.Repeat("0", 16)
	if want := "SigBlk:\t" + zero + "\nSigIgn:\t" + zero + "\nSigCgt:\t" + zero + "\n"; string(out) != want {
		t.Errorf("got\n%swant\n%s", out, want)
	}
}

// static is the path of a static busybox.
func static(t testing.TB) string {
	t.Helper()
	const path = "/bin/busybox"
	if _, err := os.Stat(path); err != nil {
		t.Skip("needs busybox-static: ", err)
	}
	return path
}

// A thread's working directory is inherited, for a thread that has its own.
func TestThreadState(t *testing.T) {
	if os.Getuid() != 0 {
		t.Skip("makes a mount namespace, which takes root")
	}
	r, w := pipe(t)
	done := make(chan error)
	go func() {
		runtime.LockOSThread() // and the thread is thrown away
		if err := errors.Join(unix.Unshare(unix.CLONE_FS|unix.CLONE_NEWNS), unix.Chdir("/proc")); err != nil {
			done <- err
			return
		}
		s := &Buffer{"cwd", 64}
		c, err := Start(Program{
			{Nr: unix.SYS_GETCWD, Args: []Arg{s, Int(64)}, Label: "n"},
			{Nr: unix.SYS_WRITE, Args: []Arg{Int(1), s, Result("n")}},
		}, Options{Files: []File{{w, 1}}})
		if err == nil {
			_, err = c.Wait()
			c.Close()
		}
		done <- err
	}()
	if err := <-done; err != nil {
		t.Fatal(err)
	}
	w.Close()
	if got, _ := io.ReadAll(r); string(got) != "/proc\x00" {
		t.Errorf("working directory %q", got)
	}
}

// A sibling is born in the cgroup that it is to be in.
func TestForkIntoCgroup(t *testing.T) {
	root := "/sys/fs/cgroup/unified"
	if _, err := os.Stat(root); err != nil {
		root = "/sys/fs/cgroup"
	}
	var st unix.Statfs_t
	if err := unix.Statfs(root, &st); err != nil || st.Type != unix.CGROUP2_SUPER_MAGIC {
		t.Skip("needs a cgroup version 2 tree: ", err)
	}
	dir, err := os.MkdirTemp(root, "sysbox-program-test-")
	if err != nil {
		t.Skip("needs a writable cgroup tree: ", err)
	}
	t.Cleanup(func() { // after the processes' own
		if err := os.Remove(dir); err != nil {
			t.Error(err)
		}
	})
	f, err := os.Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	r, w := pipe(t)
	p := append(Prelude(os.Getpid()), Fork("pid", "child", 0, 9), Report("", 1, "pid"), Exit(0), wait)
	p[len(p)-1].Label = "child"
	c := start(t, p, File{r, 0}, File{f, 9})
	b, err := Adopt(int(next(t, c, 1)))
	if err != nil {
		t.Fatal(err)
	}
	defer b.Close()
	procs, err := os.ReadFile(dir + "/cgroup.procs")
	if err != nil || strings.TrimSpace(string(procs)) != fmt.Sprint(b.Pid) {
		t.Errorf("cgroup.procs: %q, %v; want %d", procs, err, b.Pid)
	}
	if _, err := w.Write([]byte("x")); err != nil {
		t.Fatal(err)
	}
	exit(t, b, 0)
}
