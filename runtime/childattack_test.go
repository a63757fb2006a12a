package runtime

import (
	"encoding/binary"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	goruntime "runtime"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"sysbox/runtime/program"
)

// childName is the name that a program's process has until it executes another.
const childName = "sysbox-init\n"

func init() {
	routines["attack children"] = func() error {
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
	}
}

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
		unix.PtraceDetach(pid)
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
	nap := binary.LittleEndian.AppendUint64(make([]byte, 8), uint64(5*time.Millisecond))
	var out program.Program
	for _, c := range p {
		pause := program.Call{Name: "pause", Nr: unix.SYS_NANOSLEEP, Args: []program.Arg{program.Bytes(nap), program.Int(0)}, IgnoreError: true}
		if !resultLabel.MatchString(c.Label) {
			pause.Label, c.Label = c.Label, ""
		}
		out = append(out, pause, c)
	}
	return out
}

// TestChildrenAreOutOfReach: while each step of a real exec and of the creation of a
// sibling in the same pid namespace takes its time, the container's root tries to get
// at the process that makes them.
func TestChildrenAreOutOfReach(t *testing.T) {
	old := slowDown
	slowDown = slowly
	defer func() { slowDown = old }()
	p := testPod(t, "pod")
	next, w := lines(t)
	report := make(chan string, 1)
	c := create(t, p, CreateRequest{ID: "c1", Bundle: insideBundle(t, "attack children", nil), Stdio: Stdio{Stdout: w, Stderr: w}})
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
		proc, err := c.Exec(t.Context(), ExecRequest{Process: &specs.Process{Args: []string{"/bin/true"}, Cwd: "/", User: specs.User{UID: uid}}})
		if err != nil {
			t.Fatal(err)
		}
		wait(t, proc)
	}
	pidns := fmt.Sprintf("/proc/%d/ns/pid", c.Init().Pid())
	sibling := create(t, p, CreateRequest{ID: "c2", Bundle: busybox(t, func(s *specs.Spec) { s.Linux.Namespaces[0].Path = pidns }, "true")})
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
