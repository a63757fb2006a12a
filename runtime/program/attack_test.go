// SPDX-License-Identifier: Apache-2.0

package program

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"sysbox/tests/leak"
)

// The test binary is also the container's root: it attacks the process that its
// arguments name, by its number inside and outside.
func TestMain(m *testing.M) {
	if len(os.Args) == 4 && os.Args[1] == "attack" {
		inside, _ := strconv.Atoi(os.Args[2])
		attack(inside, "/proc/"+os.Args[3])
		os.Exit(0)
	}
	os.Exit(leak.Main(m, ""))
}

// attack prints a line for each attempt: its name, and the error or nil.
func attack(pid int, proc string) {
	runtime.LockOSThread()
	try := func(name string, err error) { fmt.Printf("%s: %v\n", name, err) }
	var b [8]byte
	local := []unix.Iovec{{Base: &b[0], Len: 8}}
	remote := []unix.RemoteIovec{{Base: codeBase, Len: 8}}
	_, err := unix.ProcessVMReadv(pid, local, remote, 0)
	try("process_vm_readv", err)
	_, err = unix.ProcessVMWritev(pid, local, []unix.RemoteIovec{{Base: dataAddr, Len: 8}}, 0)
	try("process_vm_writev", err)
	for _, f := range []struct {
		path string
		mode int
	}{{"mem", unix.O_RDWR}, {"mem", unix.O_RDONLY}, {"exe", unix.O_RDONLY}, {"fd/0", unix.O_RDONLY}, {"environ", unix.O_RDONLY}, {"maps", unix.O_RDONLY}, {"auxv", unix.O_RDONLY}} {
		fd, err := unix.Open(filepath.Join(proc, f.path), f.mode, 0)
		if err == nil {
			// Access to some files is checked by read only.
			if _, err = unix.Pread(fd, b[:], codeBase); err == unix.EAGAIN || err == unix.ESPIPE || f.path == "mem" {
				err = nil
			}
		}
		try(fmt.Sprint("open ", f.path, " ", f.mode), err)
	}
	for _, link := range []string{"exe", "cwd", "root", "fd/0", "ns/mnt"} {
		_, err := os.Readlink(filepath.Join(proc, link))
		try("readlink "+link, err)
	}
	_, err = os.ReadDir(filepath.Join(proc, "fd"))
	try("list fd", err)
	pidfd, err := unix.PidfdOpen(pid, 0)
	if err == nil {
		_, err = unix.PidfdGetfd(pidfd, 0, 0)
	}
	try("pidfd_getfd", err)
	for _, how := range []uintptr{unix.PTRACE_SEIZE, unix.PTRACE_ATTACH} {
		_, _, e := unix.Syscall6(unix.SYS_PTRACE, how, uintptr(pid), 0, 0, 0, 0)
		if err = nil; e != 0 {
			err = e
		}
		try(fmt.Sprint("ptrace ", how), err)
		if err == nil { // or the second one says EPERM for a wrong reason
			break
		}
	}
}

// hold reports tag, with this process's number in its pid namespace, and waits for a byte.
func hold(tag uint32) Program {
	pid := fmt.Sprint("pid", tag)
	return Program{{Nr: unix.SYS_GETPID, Label: pid}, Report("held", tag, pid), wait}
}

// container starts a container's init, held at each step between the calls given, and
// returns it with the pipe that releases it.
// inside is its number in its pid namespace.
func container(t *testing.T, begin Program, flags uint64, files []File, steps ...Program) (c *Child, b *Process, inside int, release *os.File) {
	t.Helper()
	if os.Getuid() != 0 {
		t.Skip("makes a container with ids of its own, which takes root")
	}
	r, w := pipe(t)
	p := append(append(Program{}, begin...), Fork("pid", "child", flags, -1), Report("", 1000, "pid"), Exit(0))
	first := len(p)
	for i, s := range steps {
		p = append(append(p, s...), hold(uint32(i))...)
	}
	p[first].Label = "child"
	c = start(t, append(p, Exit(0)), append(files, File{r, 0})...)
	// The pid and the first step's report come in any order.
	for b == nil || inside == 0 {
		rec, err := c.Next(soon())
		if err != nil {
			t.Fatal(err)
		}
		if rec.Tag != 1000 {
			inside = int(rec.Value)
			continue
		}
		if b, err = Adopt(int(rec.Value)); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() {
			_ = b.Signal(unix.SIGKILL)
			_, _ = b.Wait()
			_ = b.Close()
		})
	}
	exit(t, c.Process, 0)
	return c, b, inside, w
}

// mapIDs makes host ids 100000 and up those of the process's user namespace.
func mapIDs(t *testing.T, p *Process) {
	t.Helper()
	for _, f := range []string{"uid_map", "gid_map"} {
		if err := os.WriteFile(fmt.Sprintf("/proc/%d/%s", p.Pid, f), []byte("0 100000 65536"), 0); err != nil {
			t.Fatal(err)
		}
	}
}

// become are the calls that join a container as its root.
var become = Program{
	{Nr: unix.SYS_SETRESGID, Args: []Arg{Int(0), Int(0), Int(0)}},
	{Nr: unix.SYS_SETRESUID, Args: []Arg{Int(0), Int(0), Int(0)}},
}

// join are the first leg's calls that enter the pid namespace of pidfd, and the second
// leg's that enter its user namespace.
func join(pidfd int) (first, second Program) {
	set := func(what string, flag int) Program {
		return Program{{Nr: unix.SYS_SETNS, Args: []Arg{Int(pidfd), Sym{what, int64(flag)}}}}
	}
	return set("CLONE_NEWPID", unix.CLONE_NEWPID), set("CLONE_NEWUSER", unix.CLONE_NEWUSER)
}

// attacked runs an attack as root of init's container and returns what succeeded.
func attacked(t *testing.T, init *Process, inside int, target *Process) (successes []string, attempts int) {
	t.Helper()
	self, err := os.Open("/proc/self/exe")
	if err != nil {
		t.Fatal(err)
	}
	defer self.Close()
	r, w := pipe(t)
	first, second := join(7)
	p := append(append(Program{}, first...), Fork("pid", "child", 0, -1), Report("", 1000, "pid"), Exit(0))
	second[0].Label = "child"
	p = append(append(p, second...), become...)
	p = append(p, Call{Nr: unix.SYS_EXECVEAT, Args: []Arg{
		Int(5), Str(""), Strs{"test", "attack", fmt.Sprint(inside), fmt.Sprint(target.Pid)}, Strs{}, Int(unix.AT_EMPTY_PATH),
	}})
	n := null(t)
	c := start(t, p, File{n, 0}, File{w, 1}, File{w, 2}, File{self, 5}, File{init.PidFD, 7})
	b, err := Adopt(int(next(t, c, 1000)))
	if err != nil {
		t.Fatal(err)
	}
	defer b.Close()
	exit(t, c.Process, 0)
	if _, err := c.Next(soon()); err != io.EOF {
		t.Fatal(err)
	}
	w.Close()
	out, err := io.ReadAll(r)
	if err != nil {
		t.Fatal(err)
	}
	exit(t, b, 0)
	for line := range strings.Lines(string(out)) {
		attempts++
		if name, ok := strings.CutSuffix(line, ": <nil>\n"); ok {
			successes = append(successes, name)
		}
	}
	if attempts < 16 {
		t.Fatalf("the attack was not carried out: %s", out)
	}
	return successes, attempts
}

// Root of the container gets at no memory and no file of a child of ours, at any step.
func TestAttackInit(t *testing.T) {
	t.Run("guarded", func(t *testing.T) { attackInit(t, Prelude(os.Getpid()), true) })
	// The attack works where nothing prevents it: with PR_SET_DUMPABLE 0 left out.
	t.Run("unguarded", func(t *testing.T) { attackInit(t, nil, false) })
}

func attackInit(t *testing.T, prelude Program, guarded bool) {
	c, b, inside, w := container(t, prelude, unix.CLONE_NEWUSER|unix.CLONE_NEWPID, nil,
		Program{{Nr: unix.SYS_GETPID}},
		become,
		Program{{Nr: unix.SYS_UNSHARE, Args: []Arg{Int(unix.CLONE_NEWNS | unix.CLONE_NEWIPC)}}},
		Program{{Nr: unix.SYS_PRCTL, Args: []Arg{Int(unix.PR_SET_NO_NEW_PRIVS), Int(1)}}},
	)
	mapIDs(t, b)
	worst := 0
	for step := range 4 {
		got, n := attacked(t, b, inside, b)
		worst = max(worst, len(got))
		if guarded && len(got) != 0 {
			t.Errorf("step %d: %d of %d attempts succeeded: %q", step, len(got), n, got)
		}
		if _, err := w.Write([]byte("x")); err != nil {
			t.Fatal(err)
		}
		if step < 3 {
			next(t, c, uint32(step+1))
		}
	}
	if !guarded && worst < 8 {
		t.Errorf("only %d attempts succeed on a child without protection: the attack proves nothing", worst)
	}
	exit(t, b, 0)
}

func TestAttackExec(t *testing.T) {
	t.Run("guarded", func(t *testing.T) { attackExec(t, Prelude(os.Getpid()), true) })
	t.Run("unguarded", func(t *testing.T) { attackExec(t, nil, false) })
}

func attackExec(t *testing.T, prelude Program, guarded bool) {
	_, init, _, _ := container(t, Prelude(os.Getpid()), unix.CLONE_NEWUSER|unix.CLONE_NEWPID, nil, Program{{Nr: unix.SYS_GETPID}})
	mapIDs(t, init)
	first, second := join(7)
	c, b, inside, w := container(t, append(prelude, first...), 0, []File{{init.PidFD, 7}},
		Program{{Nr: unix.SYS_GETPID}}, second, become)
	worst := 0
	for step := range 3 {
		got, n := attacked(t, init, inside, b)
		worst = max(worst, len(got))
		if guarded && len(got) != 0 {
			t.Errorf("step %d: %d of %d attempts succeeded: %q", step, len(got), n, got)
		}
		if _, err := w.Write([]byte("x")); err != nil {
			t.Fatal(err)
		}
		if step < 2 {
			next(t, c, uint32(step+1))
		}
	}
	if !guarded && worst < 8 {
		t.Errorf("only %d attempts succeed on a child without protection: the attack proves nothing", worst)
	}
	exit(t, b, 0)
}

// A child that is stopped costs its deadline, no more.
func TestStopped(t *testing.T) {
	r, w := pipe(t)
	c := start(t, append(append(Prelude(os.Getpid()), hold(1)...), Report("", 2, "")), File{r, 0})
	next(t, c, 1)
	if err := c.Signal(unix.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	if _, err := w.Write([]byte("x")); err != nil {
		t.Fatal(err)
	}
	deadline := time.Now().Add(20 * time.Millisecond)
	if rec, err := c.Next(deadline); !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Fatalf("report of a stopped process: %+v, %v", rec, err)
	}
	if _, err := c.WaitUntil(deadline); !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Fatalf("wait for a stopped process: %v", err)
	}
	if err := c.Signal(unix.SIGKILL); err != nil {
		t.Fatal(err)
	}
	if s, err := c.Wait(); err != nil || s.Signal != unix.SIGKILL {
		t.Errorf("ended with %+v, %v", s, err)
	}
	if err := c.Signal(unix.SIGKILL); !errors.Is(err, os.ErrProcessDone) {
		t.Errorf("signal to a reaped process: %v", err)
	}
}
