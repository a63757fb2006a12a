// SPDX-License-Identifier: Apache-2.0

package trap

import (
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"testing"
	"unsafe"

	"golang.org/x/sys/unix"

	"sysbox/runtime/sys"
)

// TestFolderOfTheDead: a worker has kept the folder of a thread that has ended, and whose
// number is another caller's by now. What is read is the caller's.
func TestFolderOfTheDead(t *testing.T) {
	proc, err := unix.Open("/proc", unix.O_PATH|unix.O_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(proc)
	cmd := exec.Command("sleep", "100")
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	dead, err := unix.Open(fmt.Sprintf("/proc/%d", cmd.Process.Pid), unix.O_PATH|unix.O_CLOEXEC, 0)
	_ = cmd.Process.Kill()
	_ = cmd.Wait()
	if err != nil {
		t.Fatal(err)
	}
	own, err := namespaceOf(unix.AT_FDCWD, "/proc/self/ns/user")
	if err != nil {
		t.Fatal(err)
	}

	l, ended := callerOfSysinfo(t)
	defer l.close()
	var n notification
	if ready, err := l.next(&n, 60000); !ready || err != nil {
		t.Fatalf("no call has come: %v", err)
	}
	kept := procHandle{tid: int(n.tid), fd: dead}
	defer kept.close()
	c := &caller{tid: int(n.tid), id: n.id, listener: l, proc: proc, handle: &kept}
	if ns, err := c.namespace("user"); err != nil || ns != own {
		t.Errorf("its user namespace is %v, %v, and ours %v", ns, err, own)
	}
	if kept.tid != c.tid || !c.opened {
		t.Errorf("the folder of the dead is kept: %+v", kept)
	}
	// The next call of the same thread finds it.
	c = &caller{tid: c.tid, id: n.id, listener: l, proc: proc, handle: &kept}
	if fd, err := c.file("mem", unix.O_WRONLY); err != nil || c.opened {
		t.Errorf("the caller's memory: %v, opened anew: %t", err, c.opened)
	} else {
		unix.Close(fd)
	}
	if _, err := c.file("nothing", unix.O_RDONLY); err != unix.ENOENT {
		t.Errorf("a file that there is not: %v", err)
	}
	runtime.GC() // which a caller that waits does not hold up
	l.answer(n.id, pass)
	if err := <-ended; err != nil {
		t.Error(err)
	}
}

// callerOfSysinfo starts a thread that installs the filter and calls sysinfo.
func callerOfSysinfo(t *testing.T) (*listener, chan error) {
	t.Helper()
	f, err := Filter()
	if err != nil {
		t.Fatal(err)
	}
	listeners, ended := make(chan *os.File, 1), make(chan error, 1)
	go func() {
		ended <- sys.Thread(func() error {
			defer close(listeners)
			if err := unix.Prctl(unix.PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0); err != nil {
				return err
			}
			listener, err := sys.Seccomp(f.Bytes(), uint64(f.Flags))
			if err != nil {
				return err
			}
			listeners <- listener
			// Not by unix.Sysinfo, a raw call: Go's runtime would wait for its end with the
			// world half stopped, and the answer comes from this process.
			var info unix.Sysinfo_t
			if _, _, e := unix.Syscall(unix.SYS_SYSINFO, uintptr(unsafe.Pointer(&info)), 0, 0); e != 0 {
				return e
			}
			return nil
		})
	}()
	listener, ok := <-listeners
	if !ok {
		t.Fatal(<-ended)
	}
	l, err := newListener(listener)
	if err != nil {
		t.Fatal(err)
	}
	return l, ended
}
