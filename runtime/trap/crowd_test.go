// SPDX-License-Identifier: Apache-2.0

package trap_test

import (
	"bufio"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	goruntime "runtime"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"sysbox/runtime"
	"sysbox/tests/pace"
	"sysbox/tests/testcontainer"
)

// crowdProcesses are the processes of the crowd, which have threadsEnv threads each.
const (
	crowdProcesses = 20
	threadsEnv     = "TRAP_CROWD_THREADS"
)

// crowdThreads is how many threads each gets: 500, fewer on a small machine.
func crowdThreads(t *testing.T) int {
	t.Helper()
	number := func(file, key string) int {
		b, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		_, after, _ := strings.Cut(string(b), key)
		n, err := strconv.Atoi(strings.Fields(after)[0])
		if err != nil {
			t.Fatal(err)
		}
		return n
	}
	memory := number("/proc/meminfo", "MemAvailable:") // kB; each thread takes some 60
	numbers := min(number("/proc/sys/kernel/pid_max", ""), number("/proc/sys/kernel/threads-max", ""))
	if memory < 3<<20 || numbers < 20000 {
		t.Logf("1,500 threads in place of 10,000: there are %d kB of memory and %d numbers for threads", memory, numbers)
		return 75
	}
	return pace.Rounds(t, 500, 75)
}

// TestTrapCrowd: 10,000 threads of a container are in trapped calls at once, and none is
// answered for a while. That takes neither threads nor memory of the shim's for each, other
// containers' calls are answered, half of the crowd can be killed, and the others are served
// afterwards, as are later calls.
func TestTrapCrowd(t *testing.T) {
	p := testcontainer.NewPod(t)
	in, commands, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	answers, out, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer commands.Close()
	defer answers.Close()
	var closed atomic.Bool
	gate := make(chan struct{})
	p.Config.Testing.Received = func(int) {
		if closed.Load() {
			<-gate
		}
	}
	all := crowdProcesses * crowdThreads(t)
	bundle := trapCrowdInside.Bundle(t, func(s *specs.Spec) {
		s.Process.Env = append(s.Process.Env, fmt.Sprintf("%s=%d", threadsEnv, all/crowdProcesses))
	})
	c := testcontainer.Create(t, p, runtime.CreateRequest{ID: "c1", Bundle: bundle, Stdio: runtime.Stdio{Stdin: in, Stdout: out, Stderr: out}})
	p.Config.Testing.Received = nil // for other containers
	open := sync.OnceFunc(func() { close(gate) })
	defer open() // before the container is deleted
	if err := c.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	in.Close()
	out.Close()
	lines := bufio.NewReader(answers)
	command := func(do, want string) {
		t.Helper()
		_ = answers.SetReadDeadline(time.Now().Add(2 * time.Minute * pace.Patience()))
		fmt.Fprintln(commands, do)
		if line, err := lines.ReadString('\n'); line != want+"\n" {
			t.Fatalf("%s: the container says %q, %v", do, line, err)
		}
	}
	command("mknod", "done") // what is made once is there
	before := use(t)
	closed.Store(true)
	command("start", "started")
	crowd(t, c, all)

	now := use(t)
	t.Logf("before: %+v; with %d threads in calls: %+v", before, all, now)
	// 32 are worked on at a time, each by a thread; Go's scheduler has a few of its own.
	if more := now.threads - before.threads; more > 32+10 {
		t.Errorf("%d threads more", more)
	}
	if more := now.goroutines - before.goroutines; more > 2*32+10 {
		t.Errorf("%d goroutines more", more)
	}
	if more := now.memory - before.memory; more > 16<<10 {
		t.Errorf("%d kB more of memory", more)
	}
	other := testcontainer.Create(t, testcontainer.NewPod(t), runtime.CreateRequest{ID: "c2", Bundle: testcontainer.Busybox(t, nil, "mknod", "/root/n", "c", "1", "3")})
	if err := other.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	if exit := testcontainer.Wait(t, other.Init()); exit.Status != 0 {
		t.Errorf("mknod in the other container: exit status %d", exit.Status)
	}

	command("kill", "killed")
	crowd(t, c, all/2)
	open()
	command("wait", "served")
	list, err := os.ReadDir(filepath.Join(bundle, "rootfs/root/c"))
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range list {
		if n, err := strconv.Atoi(e.Name()); err != nil || n < all/2 {
			t.Fatalf("%s was made for a caller that had been killed", e.Name())
		}
	}
	if len(list) != all/2 {
		t.Errorf("%d nodes were made", len(list))
	}
	command("mknod", "done")
}

// used is what this process takes.
type used struct{ threads, goroutines, memory int } // memory in kB

func use(t *testing.T) used {
	t.Helper()
	threads, err := os.ReadDir("/proc/self/task")
	if err != nil {
		t.Fatal(err)
	}
	b, err := os.ReadFile("/proc/self/status")
	if err != nil {
		t.Fatal(err)
	}
	_, after, _ := strings.Cut(string(b), "RssAnon:")
	memory, err := strconv.Atoi(strings.Fields(after)[0])
	if err != nil {
		t.Fatal(err)
	}
	return used{len(threads), goruntime.NumGoroutine(), memory}
}

// crowd waits until so many threads of the children of a container's init are in mknodat,
// and no more.
func crowd(t *testing.T, c *testcontainer.Container, want int) {
	t.Helper()
	pid := c.Init().Pid()
	call := fmt.Sprint(unix.SYS_MKNODAT) + " "
	n := 0
	for deadline := time.Now().Add(2 * time.Minute * pace.Patience()); time.Now().Before(deadline); time.Sleep(50 * time.Millisecond) {
		b, err := os.ReadFile(fmt.Sprintf("/proc/%d/task/%d/children", pid, pid))
		if err != nil {
			t.Fatal(err)
		}
		n = 0
		for _, child := range strings.Fields(string(b)) {
			list, _ := filepath.Glob("/proc/" + child + "/task/*/syscall")
			for _, file := range list {
				if b, err := os.ReadFile(file); err == nil && strings.HasPrefix(string(b), call) {
					n++
				}
			}
		}
		if n == want {
			return
		}
	}
	t.Fatalf("%d threads are in their calls, not %d", n, want)
}

var trapCrowdInside = testcontainer.Inside("trap crowd", func() error {
	goruntime.LockOSThread() // children are its
	threads, err := strconv.Atoi(os.Getenv(threadsEnv))
	if err != nil {
		return err
	}
	if err := os.Mkdir("/root/c", 0o755); err != nil {
		return err
	}
	var children []*exec.Cmd
	for n, lines := 0, bufio.NewScanner(os.Stdin); lines.Scan(); n++ {
		switch lines.Text() {
		case "mknod":
			if err := unix.Mknod(fmt.Sprintf("/root/n%d", n), charDev, nullDev); err != nil {
				return err
			}
			fmt.Println("done")
		case "start":
			for i := range crowdProcesses {
				cmd := exec.Command(testcontainer.Program)
				cmd.Env = []string{trapCrowdsPartInside.Env(), fmt.Sprint("FIRST=", i*threads), fmt.Sprint(threadsEnv, "=", threads)}
				cmd.Stdout, cmd.Stderr = os.Stdout, os.Stderr
				if err := cmd.Start(); err != nil {
					return err
				}
				children = append(children, cmd)
			}
			fmt.Println("started")
		case "kill":
			half := children[:crowdProcesses/2]
			children = children[crowdProcesses/2:]
			for _, cmd := range half {
				if err := cmd.Process.Kill(); err != nil {
					return err
				}
			}
			for _, cmd := range half {
				cmd.Wait()
			}
			fmt.Println("killed")
		case "wait":
			var errs []error
			for _, cmd := range children {
				errs = append(errs, cmd.Wait())
			}
			if err := errors.Join(errs...); err != nil {
				return err
			}
			fmt.Println("served")
		}
	}
	return nil
})

var trapCrowdsPartInside = testcontainer.Inside("trap crowd's part", func() error {
	first, err := strconv.Atoi(os.Getenv("FIRST"))
	threads, err2 := strconv.Atoi(os.Getenv(threadsEnv))
	if err := errors.Join(err, err2); err != nil {
		return err
	}
	errs := make(chan error, threads)
	for i := range threads {
		go func() {
			goruntime.LockOSThread()
			path := fmt.Appendf(nil, "/root/c/%d\x00", first+i)
			if e := mknodRaw(address(path), charDev, nullDev); e != 0 {
				errs <- fmt.Errorf("call %d: %w", first+i, e)
				return
			}
			errs <- nil
		}()
	}
	for range threads {
		if err := <-errs; err != nil {
			return err
		}
	}
	return nil
})
