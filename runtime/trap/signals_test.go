// SPDX-License-Identifier: Apache-2.0

package trap

import (
	"bufio"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"sync"
	"sync/atomic"
	"testing"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"

	"sysbox/runtime/sys"
	"sysbox/tests/pace"
)

// TestSignalsOfTheScheduler: many threads call at once, many answer, and signals come all
// the time to those who answer, as they do from Go's scheduler. The kernel gives up to
// wait for the filter's lock then: no caller that waits is taken for dead, none is left
// without its answer or file, and nobody takes the listener for ended.
func TestSignalsOfTheScheduler(t *testing.T) {
	const callers, servers = 64, 8
	calls := pace.Rounds(t, 200, 20)
	l := crowdOfCallers(t, callers, calls)
	defer l.close()

	var answered, dead atomic.Int64
	var serving sync.WaitGroup
	for range servers {
		serving.Go(func() {
			err := sys.Thread(func() error {
				calm, err := storm()
				if err != nil {
					return err
				}
				defer calm()
				for {
					var n notification
					ready, err := l.next(&n, int(time.Minute/time.Millisecond))
					if err != nil {
						return err
					}
					if !ready {
						return errors.New("no call has come for a minute")
					}
					if !l.valid(n.id) {
						dead.Add(1)
					}
					v := response{}
					if answered.Add(1)%2 == 0 {
						f, err := os.Open(os.DevNull)
						if err != nil {
							return err
						}
						v = response{file: f}
					}
					l.answer(n.id, v)
				}
			})
			if n := answered.Load(); err != errEnded || n != int64(callers*calls) {
				t.Errorf("%v, when %d of %d calls are answered", err, n, callers*calls)
			}
		})
	}
	serving.Wait()
	if n := dead.Load(); n != 0 {
		t.Errorf("%d callers were taken for dead that waited", n)
	}
}

// storm sends this thread signals until calm is called, timer_create(2). They are those by
// which Go's scheduler asks threads to stop.
func storm() (calm func(), err error) {
	const threadID = 4 // SIGEV_THREAD_ID
	event := struct {
		value       uint64
		signal, how int32
		thread      int32
		_           [44]byte
	}{signal: int32(unix.SIGURG), how: threadID, thread: int32(unix.Gettid())}
	var timer int32
	if _, _, e := unix.RawSyscall(unix.SYS_TIMER_CREATE, unix.CLOCK_MONOTONIC, uintptr(unsafe.Pointer(&event)), uintptr(unsafe.Pointer(&timer))); e != 0 {
		return nil, e
	}
	every := unix.NsecToTimespec(int64(300 * time.Microsecond * pace.Slower()))
	set := [2]unix.Timespec{every, every} // struct itimerspec
	if _, _, e := unix.RawSyscall6(unix.SYS_TIMER_SETTIME, uintptr(timer), 0, uintptr(unsafe.Pointer(&set)), 0, 0, 0); e != 0 {
		return nil, e
	}
	return func() { _, _, _ = unix.RawSyscall(unix.SYS_TIMER_DELETE, uintptr(timer), 0, 0) }, nil
}

// callersEnv makes the test binary the process of [crowdOfCallers].
const callersEnv = "TRAP_CALLERS"

// crowdOfCallers starts a process with so many threads that call sysinfo so many times each,
// and fails the test if one of them is not answered with 0 or an open file.
func crowdOfCallers(t *testing.T, callers, calls int) *listener {
	t.Helper()
	cmd := exec.Command("/proc/self/exe")
	cmd.Env = append(os.Environ(), fmt.Sprintf("%s=%d %d", callersEnv, callers, calls))
	cmd.Stderr = os.Stderr
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if t.Failed() { // they may wait for an answer for ever
			_ = cmd.Process.Kill()
		}
		if err := cmd.Wait(); err != nil {
			t.Error("the callers: ", err)
		}
	})
	text, err := bufio.NewReader(out).ReadString('\n')
	if err != nil {
		t.Fatal("the callers have no filter: ", err)
	}
	var number int
	if _, err := fmt.Sscan(text, &number); err != nil {
		t.Fatal(err)
	}
	pidfd, err := unix.PidfdOpen(cmd.Process.Pid, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(pidfd)
	fd, err := unix.PidfdGetfd(pidfd, number, 0)
	if err != nil {
		t.Fatal(err)
	}
	l, err := newListener(os.NewFile(uintptr(fd), "listener"))
	if err != nil {
		t.Fatal(err)
	}
	in.Close() // they begin
	return l
}

// callers is what the process does.
func callers(text string) error {
	var callers, calls int
	if _, err := fmt.Sscan(text, &callers, &calls); err != nil {
		return err
	}
	f, err := Filter()
	if err != nil {
		return err
	}
	if err := unix.Prctl(unix.PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0); err != nil {
		return err
	}
	listener, err := sys.Seccomp(f.Bytes(), uint64(f.Flags|unix.SECCOMP_FILTER_FLAG_TSYNC|unix.SECCOMP_FILTER_FLAG_TSYNC_ESRCH))
	if err != nil {
		return err
	}
	fmt.Println(listener.Fd())
	if _, err := os.Stdin.Read(make([]byte, 1)); err == nil {
		return errors.New("standard input has something to say")
	}
	listener.Close()
	var wrong atomic.Int64
	var all sync.WaitGroup
	for range callers {
		all.Go(func() {
			_ = sys.Thread(func() error {
				for range calls {
					var info unix.Sysinfo_t
					got, _, e := unix.RawSyscall(unix.SYS_SYSINFO, uintptr(unsafe.Pointer(&info)), 0, 0)
					if _, err := unix.FcntlInt(got, unix.F_GETFD, 0); e != 0 || got != 0 && err != nil {
						wrong.Add(1)
						fmt.Fprintln(os.Stderr, "sysinfo:", got, e)
					}
				}
				return nil
			})
		})
	}
	all.Wait()
	if n := wrong.Load(); n != 0 {
		return fmt.Errorf("%d calls had another answer than was given", n)
	}
	return nil
}
