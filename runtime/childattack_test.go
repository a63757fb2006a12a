// SPDX-License-Identifier: Apache-2.0

package runtime_test

import (
	"encoding/binary"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	goruntime "runtime"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"sysbox/runtime"
	"sysbox/runtime/config"
	"sysbox/runtime/program"
	"sysbox/tests/testcontainer"
)

// childName is the name that a program's process has until it executes another.
const childName = "sysbox-init\n"

var attackChildrenInside = testcontainer.Inside("attack children", func() error {
	goruntime.LockOSThread()
	fmt.Println("ready")
	for {
		found, err := filepath.Glob("/proc/[0-9]*")
		if err != nil {
			return err
		}
		for _, proc := range found {
			pid, _ := strconv.Atoi(filepath.Base(proc))
			if !isChild(proc) {
				continue
			}
			fmt.Println("seen")
			for _, way := range waysIn {
				// What has executed its program by now is fair game.
				if err := way.try(pid, proc); (err == nil || err == unix.EFAULT || err == unix.EIO) && isChild(proc) {
					fmt.Println("hit", way.name, err)
				}
			}
		}
	}
})

func isChild(proc string) bool {
	b, err := os.ReadFile(proc + "/comm")
	return err == nil && string(b) == childName
}

var waysIn = []struct {
	name string
	try  func(pid int, proc string) error
}{
	{"process_vm_readv", func(pid int, _ string) error {
		var b [8]byte
		_, err := unix.ProcessVMReadv(pid, []unix.Iovec{{Base: &b[0], Len: 8}}, []unix.RemoteIovec{{Base: 0x400000, Len: 8}}, 0)
		return err
	}},
	{"process_vm_writev", func(pid int, _ string) error {
		var b [8]byte
		_, err := unix.ProcessVMWritev(pid, []unix.Iovec{{Base: &b[0], Len: 8}}, []unix.RemoteIovec{{Base: 0x400000, Len: 8}}, 0)
		return err
	}},
	{"pidfd_getfd", func(pid int, _ string) error {
		pidfd, err := unix.PidfdOpen(pid, 0)
		if err != nil {
			return err
		}
		defer unix.Close(pidfd)
		fd, err := unix.PidfdGetfd(pidfd, 0, 0)
		if err == nil {
			unix.Close(fd)
		}
		return err
	}},
	{"ptrace", func(pid int, _ string) error {
		_, _, e := unix.Syscall6(unix.SYS_PTRACE, unix.PTRACE_SEIZE, uintptr(pid), 0, 0, 0, 0)
		if e != 0 {
			return e
		}
		// Only one that is stopped can be let go, and who ends while it is traced is its
		// parent's to wait for only after its tracer.
		_ = unix.PtraceInterrupt(pid)
		var status unix.WaitStatus
		for {
			if _, err := unix.Wait4(pid, &status, unix.WALL, nil); err != unix.EINTR {
				break
			}
		}
		_ = unix.PtraceDetach(pid)
		return nil
	}},
	{"open mem", openIt("mem", unix.O_RDWR)},
	{"open exe", openIt("exe", unix.O_RDONLY)},
	{"open fd/0", openIt("fd/0", unix.O_RDONLY)},
	{"readlink exe", func(_ int, proc string) error {
		_, err := os.Readlink(proc + "/exe")
		return err
	}},
	{"list fd", func(_ int, proc string) error {
		_, err := os.ReadDir(proc + "/fd")
		return err
	}},
}

func openIt(name string, flags int) func(int, string) error {
	return func(_ int, proc string) error {
		fd, err := unix.Open(proc+"/"+name, flags|unix.O_NONBLOCK, 0)
		if err == nil {
			unix.Close(fd)
		}
		return err
	}
}

// resultLabel is the form of the labels of calls whose results other calls take; all
// others are where jumps lead to.
var resultLabel = regexp.MustCompile(`^(pid|r[0-9]+)$`)

// slowly puts a pause before each call of a program.
func slowly(p program.Program) program.Program {
	var out program.Program
	for _, c := range p {
		nap := pause(5 * time.Millisecond)
		if !resultLabel.MatchString(c.Label) {
			nap.Label, c.Label = c.Label, ""
		}
		out = append(out, nap, c)
	}
	return out
}

// pause is a step that takes less than a second.
func pause(d time.Duration) program.Call {
	timespec := binary.LittleEndian.AppendUint64(make([]byte, 8), uint64(d))
	return program.Call{Name: "pause", Nr: unix.SYS_NANOSLEEP, Args: []program.Arg{program.Bytes(timespec), program.Int(0)}, IgnoreError: true}
}

// TestRedirectedWrites (CVE-2025-52881): what is written to procfs for a process comes
// there, although the container has put a folder of its own over its /proc, or its spec
// hides the sysctls.
func TestRedirectedWrites(t *testing.T) {
	t.Parallel()
	next, w := testcontainer.Lines(t)
	c := testcontainer.Create(t, testcontainer.NewPod(t), runtime.CreateRequest{ID: "c1", Bundle: testcontainer.Busybox(t, func(s *specs.Spec) {
		s.Linux.Sysctl = map[string]string{"net.ipv4.ip_forward": "1"}
		s.Linux.MaskedPaths = append(s.Linux.MaskedPaths, "/proc/sys/net")
	}, "sh", "-c", "mkdir -p /fake/self/attr && echo 0 >/fake/self/oom_score_adj && mount --bind /fake /proc && echo ready; sleep 1000"), Stdio: runtime.Stdio{Stdout: w, Stderr: w}})
	if err := c.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	if s := next(); s != "ready" {
		t.Fatal(s)
	}
	adj := 345
	p, err := c.Exec(t.Context(), runtime.ExecRequest{Process: &specs.Process{Args: []string{"/bin/sleep", "1000"}, Cwd: "/", OOMScoreAdj: &adj}})
	if err != nil {
		t.Fatal(err)
	}
	if b, err := os.ReadFile(fmt.Sprintf("/proc/%d/oom_score_adj", p.Pid())); string(b) != "345\n" {
		t.Errorf("the exec's oom_score_adj is %q, %v", b, err)
	}
	if b, err := os.ReadFile(filepath.Join(c.Bundle, "rootfs/fake/self/oom_score_adj")); string(b) != "0\n" {
		t.Errorf("the container's file has %q, %v", b, err)
	}
	out, err := exec.Command("nsenter", "-n", "-t", strconv.Itoa(c.Init().Pid()), "cat", "/proc/sys/net/ipv4/ip_forward").Output()
	if string(out) != "1\n" {
		t.Errorf("ip_forward is %q, %v", out, err)
	}
	p.Signal(int(unix.SIGKILL))
	testcontainer.Wait(t, p)
}

// TestOOMBeforeStart: when the kernel takes init for want of memory while it waits for
// Start, the shim is untouched and Start says so.
func TestOOMBeforeStart(t *testing.T) {
	limit, adj := int64(32<<20), 1000
	p := testcontainer.NewPod(t)
	c := testcontainer.Create(t, p, runtime.CreateRequest{ID: "c1", Bundle: testcontainer.Busybox(t, func(s *specs.Spec) {
		s.Linux.Resources = &specs.LinuxResources{Memory: &specs.LinuxMemory{Limit: &limit}}
		s.Process.OOMScoreAdj = &adj // before all others
	}, "sleep", "1000")})
	var starts []io.Writer
	// Several, so that none of them has more than what counts for init.
	for range 4 {
		eater := exec.Command("sh", "-c", "read go; exec tail /dev/zero")
		start, err := eater.StdinPipe()
		if err == nil {
			err = eater.Start()
		}
		if err != nil {
			t.Fatal(err)
		}
		defer func() {
			eater.Process.Kill()
			eater.Wait()
		}()
		if err := os.WriteFile(memoryCgroup(t, c.Init().Pid())+"/cgroup.procs", []byte(strconv.Itoa(eater.Process.Pid)), 0); err != nil {
			t.Fatal(err)
		}
		starts = append(starts, start)
	}
	for _, s := range starts {
		s.Write([]byte("\n"))
	}
	if exit := testcontainer.Wait(t, c.Init()); exit.Status != 137 {
		t.Errorf("init's exit status is %d", exit.Status)
	}
	if c.OOMKills() == 0 {
		t.Error("it was not the kernel's OOM killer")
	}
	if err := c.Start(t.Context()); err == nil {
		t.Error("Start went on")
	}
	next := testcontainer.Create(t, p, runtime.CreateRequest{ID: "c2", Bundle: testcontainer.Busybox(t, nil, "true")})
	if err := next.Start(t.Context()); err != nil {
		t.Error(err)
	}
}

// memoryCgroup is the folder in which a process's memory is counted.
func memoryCgroup(t *testing.T, pid int) string {
	t.Helper()
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/cgroup", pid))
	if err != nil {
		t.Fatal(err)
	}
	unified := ""
	for line := range strings.Lines(string(b)) {
		f := strings.SplitN(strings.TrimSpace(line), ":", 3)
		switch f[1] {
		case "memory":
			return "/sys/fs/cgroup/memory" + f[2]
		case "":
			unified = f[2]
		}
	}
	return "/sys/fs/cgroup" + unified
}

// TestChildrenAreOutOfReach: while each step of a real exec and of the creation of a
// sibling in the same pid namespace takes its time, the container's root tries to get
// at the process that makes them.
func TestChildrenAreOutOfReach(t *testing.T) {
	t.Parallel()
	p := testcontainer.NewPod(t, func(c *config.Config) { c.Testing.Slow = slowly })
	next, w := testcontainer.Lines(t)
	report := make(chan string, 1)
	c := testcontainer.Create(t, p, runtime.CreateRequest{ID: "c1", Bundle: attackChildrenInside.Bundle(t, nil), Stdio: runtime.Stdio{Stdout: w, Stderr: w}})
	if err := c.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	if s := next(); s != "ready" {
		t.Fatal(s)
	}
	go func() {
		seen, hits := 0, ""
		for {
			switch s := next(); {
			case s == "seen":
				seen++
			case s == "end":
				report <- fmt.Sprintf("%d %s", seen, hits)
				return
			default:
				hits += s + "; "
			}
		}
	}()
	for _, uid := range []uint32{0, 1000} {
		proc, err := c.Exec(t.Context(), runtime.ExecRequest{Process: &specs.Process{Args: []string{"/bin/true"}, Cwd: "/", User: specs.User{UID: uid}}})
		if err != nil {
			t.Fatal(err)
		}
		testcontainer.Wait(t, proc)
	}
	pidns := fmt.Sprintf("/proc/%d/ns/pid", c.Init().Pid())
	sibling := testcontainer.Create(t, p, runtime.CreateRequest{ID: "c2", Bundle: testcontainer.Busybox(t, func(s *specs.Spec) { s.Linux.Namespaces[0].Path = pidns }, "true")})
	if err := sibling.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	if _, err := w.WriteString("end\n"); err != nil {
		t.Fatal(err)
	}
	var seen int
	got := <-report
	if fmt.Sscan(got, &seen); seen < 20 {
		t.Errorf("only %d attempts were made", seen)
	}
	if _, hits, _ := strings.Cut(got, " "); hits != "" {
		t.Errorf("a child was in reach: %s", hits)
	}
	t.Logf("%d attempts by %d ways", seen, len(waysIn))
}
