// SPDX-License-Identifier: Apache-2.0

package trap_test

import (
	"encoding/binary"
	"fmt"
	"os"
	"path/filepath"
	goruntime "runtime"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"sysbox/runtime"
	"sysbox/runtime/config"
	"sysbox/runtime/program"
	"sysbox/tests/pace"
	"sysbox/tests/testcontainer"
)

// onReceived configures a pod: f is called when the first trapped call of its containers is
// received, before anything of its caller is looked at.
func onReceived(f func(tid int)) func(*config.Config) {
	var once sync.Once
	return func(c *config.Config) { c.Testing.Received = func(tid int) { once.Do(func() { f(tid) }) } }
}

// pathAt is where callers and those who take their numbers have the path that they give to
// mknod.
const pathAt = 0x70000000

// TestTrapNumberTaken: a caller is killed after its call was received and before anybody
// has looked at it, and its number goes to another process of the container's. For that one
// nothing is done.
func TestTrapNumberTaken(t *testing.T) {
	caller := make(chan *runtime.Process, 1)
	var c *testcontainer.Container
	var newcomer *program.Process
	done := make(chan error, 1)
	pod := testcontainer.NewPod(t, onReceived(func(tid int) {
		p := <-caller
		p.Signal(int(unix.SIGKILL))
		testcontainer.Wait(t, p)
		var err error
		newcomer, err = takeNumber(c, tid)
		done <- err
	}))
	bundle := trapInitInside.Bundle(t, nil)
	if err := os.Mkdir(filepath.Join(bundle, "rootfs/k"), 0o755); err != nil {
		t.Fatal(err)
	}
	c = testcontainer.Create(t, pod, runtime.CreateRequest{ID: "c1", Bundle: bundle})
	if err := c.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	p, _ := c.Executed(t, trapOneCallInside.Process())
	caller <- p
	if err := <-done; err != nil {
		t.Fatal(err)
	}
	defer func() {
		newcomer.Signal(unix.SIGKILL)
		newcomer.Wait()
		newcomer.Close()
	}()
	p, text := c.Executed(t, testcontainer.Command("sh", "-c", "mknod /k/after c 1 3; ls /k"))
	testcontainer.Wait(t, p)
	if out := text(); out != "after\n" {
		t.Errorf("there are:\n%s", out)
	}
}

// takeNumber makes a process of the container's user and mount namespaces that has this
// number on the host, and at pathAt another path.
func takeNumber(c *testcontainer.Container, tid int) (*program.Process, error) {
	goruntime.LockOSThread()
	defer goruntime.UnlockOSThread()
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
	child, err := program.Start(p, program.Options{Files: []program.File{{File: c.Init().PidFD(), At: fdInit}, {File: r, At: fdPath}}})
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

var trapInitInside = testcontainer.Inside("trap init", func() error {
	time.Sleep(10 * time.Minute)
	return nil
})

var trapOneCallInside = testcontainer.Inside("trap one call", func() error {
	r, _, e := unix.Syscall6(unix.SYS_MMAP, pathAt, 4096, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_FIXED|unix.MAP_ANON|unix.MAP_PRIVATE, ^uintptr(0), 0)
	if e != 0 || r != pathAt {
		return e
	}
	from := []byte("/k/old\x00")
	if n, err := unix.ProcessVMWritev(os.Getpid(), []unix.Iovec{{Base: &from[0], Len: uint64(len(from))}}, []unix.RemoteIovec{{Base: pathAt, Len: len(from)}}, 0); err != nil || n != len(from) {
		return fmt.Errorf("write the path: %w", err)
	}
	return mknodRaw(pathAt, charDev, nullDev)
})

// TestTrapFrozenInFlight: a container is frozen while a call of its is worked on; the call
// is done once it goes on.
func TestTrapFrozenInFlight(t *testing.T) {
	t.Parallel()
	received, gate := make(chan bool), make(chan bool)
	c := testcontainer.NewPod(t, onReceived(func(int) { received <- true; <-gate })).Started(t, nil)
	p, text := c.Executed(t, testcontainer.Command("sh", "-c", "mknod /tmp/n c 1 3 && stat -c %t,%T /tmp/n"))
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
	if exit := testcontainer.Wait(t, p); exit.Status != 0 {
		t.Errorf("exit status %d", exit.Status)
	}
	if out := text(); out != "1,3\n" {
		t.Errorf("output %q", out)
	}
}
