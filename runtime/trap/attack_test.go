// SPDX-License-Identifier: Apache-2.0

package trap_test

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	goruntime "runtime"
	"strings"
	"testing"
	"time"
	"unsafe"

	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"sysbox/runtime"
	"sysbox/tests/pace"
	"sysbox/tests/testcontainer"
)

const (
	nullDev = 1<<8 | 3
	charDev = unix.S_IFCHR | 0o666
)

func mknodRaw(path, mode, dev uintptr) unix.Errno {
	here := unix.AT_FDCWD
	_, _, e := unix.Syscall6(unix.SYS_MKNODAT, uintptr(here), path, mode, dev, 0, 0)
	return e
}

// address is that of memory that the caller keeps alive, and which does not move.
func address(b []byte) uintptr { return uintptr(unsafe.Pointer(unsafe.SliceData(b))) }

// TestTrapArguments: pointers and paths that are none get the kernel's own errors.
func TestTrapArguments(t *testing.T) {
	t.Parallel()
	out, status := trapArgumentsInside.Run(t, nil)
	if status != 0 {
		t.Error(out)
	}
}

var trapArgumentsInside = testcontainer.Inside("trap arguments", func() error {
	page, err := unix.Mmap(-1, 0, 8192, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_ANON|unix.MAP_PRIVATE)
	if err != nil {
		return err
	}
	if err := unix.Mprotect(page[4096:], unix.PROT_NONE); err != nil {
		return err
	}
	for i := range page[:4096] {
		page[i] = 'x'
	}
	long := append([]byte(strings.Repeat("x", 5000)), 0)
	parts := append([]byte("/root/"+strings.Repeat("y", 256)), 0)
	atEnd := page[4096-len("/root/e\x00"):]
	copy(atEnd, "/root/e\x00")
	unterminated := page[2048-7:]
	odd := []byte("/root/\xff\xfe\n\x00")
	empty := []byte{0}
	slash := []byte("/root/s/\x00")
	dots := []byte("/root/..\x00")
	var errs []error
	for _, c := range []struct {
		name string
		at   uintptr
		want unix.Errno
	}{
		{"null", 0, unix.EFAULT},
		{"kernel memory", ^uintptr(0) &^ 0xfff, unix.EFAULT},
		{"a string at the end of memory", address(atEnd), 0},
		{"a string that runs out of memory", address(page[4095:]), unix.ENOENT},
		{"too long", address(long), unix.ENAMETOOLONG},
		{"a part too long", address(parts), unix.ENAMETOOLONG},
		{"not UTF-8", address(odd), 0},
		{"empty", address(empty), unix.ENOENT},
		{"a folder's name", address(slash), unix.ENOENT},
		{"the parent", address(dots), unix.EEXIST},
	} {
		if c.name == "a string that runs out of memory" {
			page[4095], c.want = 'x', unix.EFAULT
			c.at = address(unterminated[100:])
			for i := range unterminated[100 : 2048+7] {
				unterminated[100+i] = 'x'
			}
		}
		if e := mknodRaw(c.at, charDev, nullDev); e != c.want {
			errs = append(errs, fmt.Errorf("%s: %v, want %v", c.name, e, c.want))
		}
	}
	// Descriptors of folders: of the caller's, none, a file.
	dir, err := unix.Open("/root", unix.O_PATH|unix.O_DIRECTORY, 0)
	if err != nil {
		return err
	}
	if err := unix.Mknodat(dir, "at", charDev, nullDev); err != nil {
		errs = append(errs, fmt.Errorf("mknodat: %w", err))
	}
	if err := unix.Mknodat(999, "at2", charDev, nullDev); err != unix.EBADF {
		errs = append(errs, fmt.Errorf("mknodat without a folder: %w", err))
	}
	file, err := unix.Open("/bin/busybox", unix.O_RDONLY, 0)
	if err != nil {
		return err
	}
	if err := unix.Mknodat(file, "at3", charDev, nullDev); err != unix.ENOTDIR {
		errs = append(errs, fmt.Errorf("mknodat in a file: %w", err))
	}
	if err := unix.Mknodat(999, "/root/abs", charDev, nullDev); err != nil {
		errs = append(errs, fmt.Errorf("mknodat with an absolute path: %w", err))
	}
	fd := fmt.Sprintf("/proc/self/fd/%d/own", dir)
	if err := unix.Mknod(fd, charDev, nullDev); err != nil {
		errs = append(errs, fmt.Errorf("mknod by its own descriptor: %w", err))
	}
	// Of others' links not even the container's init's are followed.
	if err := unix.Mknod("/proc/1/root/root/other", charDev, nullDev); err == nil || unix.Access("/root/other", unix.F_OK) != unix.ENOENT {
		errs = append(errs, fmt.Errorf("mknod by another's link: %w", err))
	}
	// Nor is the host's procfs walked, which tells of all its processes: those that
	// there are have a status that is no folder. The way leads to the container's own.
	for pid := 1; pid < 50; pid++ {
		here := unix.Mknod(fmt.Sprintf("/proc/%d/status/x", pid), charDev, nullDev)
		for _, p := range []string{"..", "fd/../..", "fd/0/../../..", "task/../..", "./.."} {
			p = fmt.Sprintf("/proc/self/%s/%d/status/x", p, pid)
			if err := unix.Mknod(p, charDev, nullDev); err != here && (err != unix.ENOTDIR || !strings.Contains(p, "fd/0")) {
				errs = append(errs, fmt.Errorf("%s: %w", p, err))
			}
		}
	}
	high := []byte("/root/high\x00")
	// High halves of registers do not count, as with the kernel's own types.
	if e := mknodRaw(address(high), charDev, nullDev|1<<40); e != 0 {
		errs = append(errs, fmt.Errorf("a device with a high half: %w", e))
	}
	for _, b := range [][]byte{page, long, parts, odd, empty, slash, dots, high} {
		goruntime.KeepAlive(b)
	}
	return errors.Join(errs...)
})

// TestTrapKilled: callers are killed at any moment of their calls, and their numbers are
// taken by others; the server goes on.
func TestTrapKilled(t *testing.T) {
	t.Parallel()
	out, status := trapKilledInside.Run(t, nil)
	if status != 0 {
		t.Error(out)
	}
}

var trapKilledInside = testcontainer.Inside("trap killed", func() error {
	// Numbers come round soon.
	if err := os.WriteFile("/proc/sys/kernel/pid_max", []byte("400"), 0); err != nil && !errors.Is(err, os.ErrPermission) {
		return err
	}
	os.Mkdir("/root/k", 0o755)
	for i := range 150 {
		cmd := exec.Command(testcontainer.Program)
		cmd.Env = []string{trapStormInside.Env()}
		if err := cmd.Start(); err != nil {
			return err
		}
		time.Sleep(time.Duration(i%20) * 200 * time.Microsecond)
		cmd.Process.Kill()
		cmd.Wait()
	}
	if err := unix.Mknod("/root/last", charDev, nullDev); err != nil {
		return fmt.Errorf("after all: %w", err)
	}
	return nil
})

var trapStormInside = testcontainer.Inside("trap storm", func() error {
	for range 4 {
		go func() {
			for i := 0; ; i++ {
				name := fmt.Sprintf("/root/k/%d-%d", os.Getpid(), i)
				unix.Mknod(name, charDev, nullDev)
				unix.Unlink(name)
			}
		}()
	}
	select {}
})

// TestTrapSignals: signals that do not kill neither restart a call for ever nor make it
// happen twice.
func TestTrapSignals(t *testing.T) {
	t.Parallel()
	out, status := trapSignalsInside.Run(t, nil)
	if status != 0 {
		t.Error(out)
	}
}

var trapSignalsInside = testcontainer.Inside("trap signals", func() error {
	tid := make(chan int)
	done := make(chan error)
	go func() {
		goruntime.LockOSThread()
		tid <- unix.Gettid()
		for i := range 500 {
			if err := unix.Mknod(fmt.Sprintf("/root/s%d", i), charDev, nullDev); err != nil {
				done <- fmt.Errorf("call %d: %w", i, err)
				return
			}
		}
		done <- nil
	}()
	target := <-tid
	for {
		select {
		case err := <-done:
			return err
		default:
			unix.Tgkill(os.Getpid(), target, unix.SIGURG)
		}
	}
})

// TestTrapFrozen: a container that is frozen in the middle of its calls goes on after.
func TestTrapFrozen(t *testing.T) {
	t.Parallel()
	c := testcontainer.Create(t, testcontainer.NewPod(t), runtime.CreateRequest{ID: "c1", Bundle: trapStormInside.Bundle(t, nil)})
	if err := c.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	for range 10 {
		time.Sleep(3 * time.Millisecond)
		if err := c.Pause(t.Context()); err != nil {
			t.Fatal(err)
		}
		if err := c.Resume(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
}

// TestTrapListeners: a container's process cannot have a listener of its own, and says
// so; a filter without one it can add.
func TestTrapListeners(t *testing.T) {
	out, status := trapListenersInside.Run(t, nil)
	if status != 0 {
		t.Error(out)
	}
}

var trapListenersInside = testcontainer.Inside("trap listeners", func() error {
	goruntime.LockOSThread()
	prog := []unix.SockFilter{{Code: unix.BPF_RET | unix.BPF_K, K: unix.SECCOMP_RET_ALLOW}}
	fprog := unix.SockFprog{Len: 1, Filter: &prog[0]}
	install := func(flags uintptr) unix.Errno {
		_, _, e := unix.Syscall(unix.SYS_SECCOMP, unix.SECCOMP_SET_MODE_FILTER, flags, uintptr(unsafe.Pointer(&fprog)))
		return e
	}
	if e := install(unix.SECCOMP_FILTER_FLAG_NEW_LISTENER); e != unix.EBUSY {
		return fmt.Errorf("a listener of its own: %w", e)
	}
	if e := install(0); e != 0 {
		return fmt.Errorf("a filter of its own: %w", e)
	}
	if err := unix.Mknod("/root/n", charDev, nullDev); err != nil {
		return fmt.Errorf("under a filter of its own: %w", err)
	}
	return nil
})

// TestTrapListenerEnds: the listener of an exec ends with its last process.
func TestTrapListenerEnds(t *testing.T) {
	c := testcontainer.Started(t, nil)
	before := openFiles(t)
	for range 5 {
		p, err := c.Exec(t.Context(), runtime.ExecRequest{Process: &specs.Process{Args: []string{"/bin/true"}, Cwd: "/"}})
		if err != nil {
			t.Fatal(err)
		}
		testcontainer.Wait(t, p)
		p.Close()
	}
	deadline := time.Now().Add(10 * time.Second * pace.Patience())
	for {
		now := openFiles(t)
		if now <= before {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("%d open files, %d before", now, before)
		}
		time.Sleep(5 * time.Millisecond)
	}
}

func openFiles(t *testing.T) int {
	t.Helper()
	list, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Fatal(err)
	}
	return len(list)
}
