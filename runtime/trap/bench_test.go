// SPDX-License-Identifier: Apache-2.0

package trap_test

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	goruntime "runtime"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
	"unsafe"

	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"sysbox/tests/testcontainer"
)

// BenchmarkTraps prints what calls take in a system container and, where nothing is trapped,
// in an ordinary one, and how many times as long the first take: medians, of three turns
// each the one that the machine disturbed least. The floor is a listener in C that answers
// at once. 0: the container may not.
func BenchmarkTraps(b *testing.B) {
	if os.Getuid() != 0 {
		b.Skip("makes containers, which takes root")
	}
	for b.Loop() { // each round measures thousands of calls by itself
		trapped, plain := map[string]int{}, map[string]int{}
		var names []string
		for range 3 {
			text, _ := trapTimesInside.Run(b, profiled)
			names = least(trapped, text)
			text, _ = trapTimesInside.Run(b, func(s *specs.Spec) { testcontainer.Ordinary(s); profiled(s) })
			least(plain, text)
		}
		fmt.Printf("\n%-14s %12s %12s %8s\n", "ns a call", "system", "ordinary", "ratio")
		for _, what := range names {
			ratio := "-"
			if plain[what] > 0 {
				ratio = fmt.Sprintf("%.2f", float64(trapped[what])/float64(plain[what]))
			}
			fmt.Printf("%-14s %12d %12d %8s\n", what, trapped[what], plain[what], ratio)
		}
		if floor, err := trapFloor(b.TempDir()); err != nil {
			fmt.Println("floor:", err)
		} else {
			fmt.Printf("%-14s %12d\n", "floor", floor)
		}
	}
}

// profiled gives both the profile that containers have where no traps are: any filter
// costs each call 30 ns, a second one nothing.
func profiled(s *specs.Spec) {
	errno := uint(unix.EPERM)
	s.Linux.Seccomp = &specs.LinuxSeccomp{DefaultAction: specs.ActAllow, Syscalls: []specs.LinuxSyscall{
		{Names: []string{"kexec_load"}, Action: specs.ActErrno, ErrnoRet: &errno},
	}}
}

// least takes what the function prints, nanoseconds by name, 0 where a call failed, into
// times, and returns the names in their order.
func least(times map[string]int, text string) []string {
	var names []string
	for line := range strings.Lines(text) {
		f := strings.Fields(line)
		if len(f) != 2 {
			continue
		}
		names = append(names, f[0])
		if n, err := strconv.Atoi(f[1]); err == nil && (times[f[0]] == 0 || n < times[f[0]]) {
			times[f[0]] = n
		}
	}
	return names
}

// TestTrapTimes: what the benchmark measures works, so that it measures no error.
func TestTrapTimes(t *testing.T) {
	if os.Getuid() != 0 {
		t.Skip("makes containers, which takes root")
	}
	out, status := trapTimesInside.Run(t, func(s *specs.Spec) { s.Process.Env = append(s.Process.Env, once+"=1") })
	times := map[string]int{}
	least(times, out)
	for _, what := range []string{"untrapped", "sysinfo", "mknod", "mkfifo", "bind", "overlay", "proc", "nestedproc"} {
		if times[what] == 0 {
			t.Errorf("%s took no time, so it failed", what)
		}
	}
	if t.Failed() || status != 0 {
		t.Errorf("exit status %d\n%s", status, out)
	}
}

// once is the variable by which each call is made a few times only.
const once = "TRAP_TIMES_ONCE"

func trapFloor(dir string) (int, error) {
	program := filepath.Join(dir, "floor")
	if out, err := exec.Command("cc", "-O2", "-o", program, "testdata/floor.c").CombinedOutput(); err != nil {
		return 0, fmt.Errorf("%w: %s", err, out)
	}
	out, err := exec.Command(program).Output()
	if err != nil {
		return 0, err
	}
	return strconv.Atoi(strings.TrimSpace(string(out)))
}

var trapTimesInside = testcontainer.Inside("trap times", func() error {
	goruntime.LockOSThread()
	name := []byte("nosuchfs\x00")
	var info unix.Sysinfo_t
	n := 0
	numbered := func(mode, dev uintptr) func() error {
		return func() error {
			n++
			if errno := mknodRaw(address(fmt.Appendf(nil, "%s/%d\x00", home, n)), mode, dev); errno != 0 {
				return errno
			}
			return nil
		}
	}
	for _, d := range []string{"m", "l", "u", "w"} {
		if err := os.Mkdir(home+"/"+d, 0o755); err != nil {
			return err
		}
	}
	mount := func(source, fstype string, flags uintptr, data string) func() error {
		return func() error { return unix.Mount(source, home+"/m", fstype, flags, data) }
	}
	timed("untrapped", 100000, func() error { unix.RawSyscall(unix.SYS_GETPPID, 0, 0, 0); return nil }, nil)
	timed("fsopen", 5000, func() error { unix.RawSyscall(unix.SYS_FSOPEN, address(name), 0, 0); return nil }, nil)
	timed("sysinfo", 5000, func() error { unix.RawSyscall(unix.SYS_SYSINFO, uintptr(unsafe.Pointer(&info)), 0, 0); return nil }, nil)
	timed("mknod", 500, numbered(charDev, nullDev), nil)
	timed("mkfifo", 500, numbered(unix.S_IFIFO|0o600, 0), nil)
	timed("bind", 300, mount("/dev", "", unix.MS_BIND, ""), detach)
	timed("overlay", 100, mount("overlay", "overlay", 0, "lowerdir="+home+"/l,upperdir="+home+"/u,workdir="+home+"/w"), detach)
	timed("proc", 300, mount("proc", "proc", 0, ""), detach)
	nested := exec.Command("/proc/self/exe")
	nested.Env = append(os.Environ(), trapTimesNestedInside.Env())
	nested.Stdout, nested.Stderr = os.Stdout, os.Stderr
	ids := []syscall.SysProcIDMap{{Size: 1}}
	nested.SysProcAttr = &syscall.SysProcAttr{
		Cloneflags: unix.CLONE_NEWUSER | unix.CLONE_NEWPID | unix.CLONE_NEWNS, UidMappings: ids, GidMappings: ids,
	}
	return nested.Run()
})

// As unshare -Urpf --mount-proc does, again and again.
var trapTimesNestedInside = testcontainer.Inside("trap times nested", func() error {
	goruntime.LockOSThread()
	timed("nestedproc", 300, func() error { return unix.Mount("proc", home+"/m", "proc", 0, "") }, detach)
	return nil
})

// home is where it is all done in the container.
const home = "/root"

func detach() error { return unix.Unmount(home+"/m", unix.MNT_DETACH) }

// timed prints the median of many calls, or 0 if one fails; after is not timed.
func timed(what string, rounds int, call, after func() error) {
	if os.Getenv(once) != "" {
		rounds = 3
	}
	took := make([]time.Duration, rounds)
	for i := range took {
		start := time.Now()
		err := call()
		took[i] = time.Since(start)
		if err == nil && after != nil {
			err = after()
		}
		if err != nil {
			fmt.Println(what, 0)
			fmt.Fprintln(os.Stderr, what, "failed:", err)
			return
		}
	}
	slices.Sort(took)
	fmt.Println(what, took[len(took)/2].Nanoseconds())
}
