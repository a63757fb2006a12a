package runtime

import (
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"sysbox/runtime/config"
	"sysbox/runtime/program"
	"sysbox/tests/pace"
)

// onReceived has f called when the first trapped call of a container that is made later is
// received, before anything of its caller is looked at.
func onReceived(t *testing.T, f func(tid int)) {
	t.Helper()
	var once sync.Once
	with(t, func(s *config.Testing) { s.Received = func(tid int) { once.Do(func() { f(tid) }) } })
}

// executed is a process that is run in a container, and what it prints.
func executed(t *testing.T, c *Container, env string, args ...string) (*Process, func() string) {
	t.Helper()
	w, text := pipe(t)
	p, err := c.Exec(t.Context(), ExecRequest{
		Process: &specs.Process{Args: args, Cwd: "/", Env: []string{"PATH=/bin", env}},
		Stdio:   Stdio{Stdout: w, Stderr: w},
	})
	if err != nil {
		t.Fatal(err)
	}
	return p, text
}

// path is where callers and those who take their numbers have the path that they give to
// mknod.
const pathAt = 0x70000000

// TestTrapNumberTaken: a caller is killed after its call was received and before anybody
// has looked at it, and its number goes to another process of the container's. For that one
// nothing is done.
func TestTrapNumberTaken(t *testing.T) {
	caller := make(chan *Process, 1)
	var c *Container
	var newcomer *program.Process
	done := make(chan error, 1)
	onReceived(t, func(tid int) {
		p := <-caller
		p.Signal(int(unix.SIGKILL))
		wait(t, p)
		var err error
		newcomer, err = takeNumber(c, tid)
		done <- err
	})
	bundle := insideBundle(t, "trap init", nil)
	if err := os.Mkdir(filepath.Join(bundle, "rootfs/k"), 0o755); err != nil {
		t.Fatal(err)
	}
	c = create(t, testPod(t, "pod"), CreateRequest{ID: "c1", Bundle: bundle})
	if err := c.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	p, _ := executed(t, c, insideEnv+"=trap one call", "/bin/inside")
	caller <- p
	if err := <-done; err != nil {
		t.Fatal(err)
	}
	defer func() {
		newcomer.Signal(unix.SIGKILL)
		newcomer.Wait()
		newcomer.Close()
	}()
	p, text := executed(t, c, "A=b", "sh", "-c", "mknod /k/after c 1 3; ls /k")
	wait(t, p)
	if out := text(); out != "after\n" {
		t.Errorf("there are:\n%s", out)
	}
}

// takeNumber makes a process of the container's user and mount namespaces that has this
// number on the host, and at pathAt another path.
func takeNumber(c *Container, tid int) (*program.Process, error) {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	r, w, err := program.Pipe()
	if err != nil {
		return nil, err
	}
	defer r.Close()
	fmt.Fprint(w, "/k/new\x00")
	w.Close()
	args := make([]byte, 88) // struct clone_args
	le := binary.LittleEndian
	le.PutUint64(args, unix.CLONE_PARENT)
	le.PutUint64(args[72:], 1) // set_tid_size
	number := le.AppendUint32(nil, uint32(tid))
	const fdInit, fdPath = 10, 11
	call := func(nr uintptr, args ...program.Arg) program.Call { return program.Call{Nr: nr, Args: args} }
	num := func(n int) program.Arg { return program.Int(int64(n)) }
	p := program.Program{
		{Nr: unix.SYS_CLONE3, Label: "pid", IfZero: "child", Args: []program.Arg{&program.Blob{Name: "args", Data: args, Refs: []program.Ref{{Off: 64, Arg: program.Bytes(number)}}}, num(len(args))}},
		program.Report("tell the number", 1, "pid"),
		program.Exit(0),
		{Nr: unix.SYS_MMAP, Label: "child", Args: []program.Arg{num(pathAt), num(4096), num(unix.PROT_READ | unix.PROT_WRITE), num(unix.MAP_FIXED | unix.MAP_ANON | unix.MAP_PRIVATE), num(-1), num(0)}},
		call(unix.SYS_READ, num(fdPath), num(pathAt), num(4096)),
		{Nr: unix.SYS_SETNS, Label: "joined", Args: []program.Arg{num(fdInit), num(unix.CLONE_NEWUSER | unix.CLONE_NEWNS)}},
		call(unix.SYS_SETRESGID, num(0), num(0), num(0)),
		call(unix.SYS_SETRESUID, num(0), num(0), num(0)),
		program.Report("be ready", 2, "joined"),
		call(unix.SYS_PPOLL, num(0), num(0), num(0), num(0)),
	}
	child, err := program.Start(p, program.Options{Files: []program.File{{File: c.init.PidFD(), At: fdInit}, {File: r, At: fdPath}}})
	if err != nil {
		return nil, err
	}
	defer child.Close()
	for seen := 0; seen < 2; seen++ {
		if _, err := child.Next(time.Now().Add(time.Minute * pace.Patience())); err != nil {
			return nil, err
		}
	}
	if _, err := child.Wait(); err != nil {
		return nil, err
	}
	return program.Adopt(tid)
}

func init() {
	routines["trap init"] = func() error {
		time.Sleep(10 * time.Minute)
		return nil
	}
	routines["trap one call"] = func() error {
		r, _, e := unix.Syscall6(unix.SYS_MMAP, pathAt, 4096, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_FIXED|unix.MAP_ANON|unix.MAP_PRIVATE, ^uintptr(0), 0)
		if e != 0 || r != pathAt {
			return e
		}
		from := []byte("/k/old\x00")
		if n, err := unix.ProcessVMWritev(os.Getpid(), []unix.Iovec{{Base: &from[0], Len: uint64(len(from))}}, []unix.RemoteIovec{{Base: pathAt, Len: len(from)}}, 0); err != nil || n != len(from) {
			return fmt.Errorf("write the path: %w", err)
		}
		return mknodRaw(pathAt, charDev, nullDev)
	}
}

// TestTrapFrozenInFlight: a container is frozen while a call of its is worked on; the call
// is done once it goes on.
func TestTrapFrozenInFlight(t *testing.T) {
	received, gate := make(chan bool), make(chan bool)
	onReceived(t, func(int) { received <- true; <-gate })
	c := started(t, nil)
	p, text := executed(t, c, "A=b", "sh", "-c", "mknod /tmp/n c 1 3 && stat -c %t,%T /tmp/n")
	<-received
	frozen := make(chan error, 1)
	go func() { frozen <- c.Pause(t.Context()) }()
	close(gate)
	if err := <-frozen; err != nil {
		t.Error(err)
	}
	if err := c.Resume(t.Context()); err != nil {
		t.Fatal(err)
	}
	if exit := wait(t, p); exit.Status != 0 {
		t.Errorf("exit status %d", exit.Status)
	}
	if out := text(); out != "1,3\n" {
		t.Errorf("output %q", out)
	}
}

// TestTrapsFailClosedInFlight: the server ends while it works on a call of a process: that
// call is answered, and each later one fails.
func TestTrapsFailClosedInFlight(t *testing.T) {
	received, gate := make(chan bool), make(chan bool)
	onReceived(t, func(int) { received <- true; <-gate })
	c := started(t, nil)
	p, text := executed(t, c, "A=b", "sh", "-c", "mknod /tmp/a c 1 3; mknod /tmp/b c 1 3; mknod /tmp/c c 1 3; ls /tmp")
	<-received
	closed := make(chan bool)
	go func() { c.traps.Close(); close(closed) }()
	for { // until it takes no more listeners; this one has ended
		r, w, err := os.Pipe()
		if err != nil {
			t.Fatal(err)
		}
		w.Close()
		if errors.Is(c.traps.Serve(r), os.ErrClosed) {
			break
		}
	}
	close(gate)
	<-closed
	c.traps = nil
	wait(t, p)
	out := text()
	if !strings.HasSuffix(out, "mknod: /tmp/b: Function not implemented\nmknod: /tmp/c: Function not implemented\na\n") {
		t.Errorf("output %q", out)
	}
}
