package runtime

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

// BenchmarkTraps prints the median of calls in a system container and, where nothing is
// trapped, in an ordinary one; the floor is a listener in C that answers at once.
func BenchmarkTraps(b *testing.B) {
	if os.Getuid() != 0 {
		b.Skip("makes containers, which takes root")
	}
	for b.Loop() { // each round measures thousands of calls by itself
		trapped, _ := inside(b, "trap times", nil)
		plain, _ := inside(b, "trap times", ordinary)
		fmt.Printf("\n%-14s %12s %12s\n", "ns a call", "system", "ordinary")
		others := map[string]string{}
		for line := range strings.Lines(plain) {
			if f := strings.Fields(line); len(f) == 2 {
				others[f[0]] = f[1]
			}
		}
		for line := range strings.Lines(trapped) {
			if f := strings.Fields(line); len(f) == 2 {
				fmt.Printf("%-14s %12s %12s\n", f[0], f[1], others[f[0]])
			}
		}
		if floor, err := trapFloor(b.TempDir()); err != nil {
			fmt.Println("floor:", err)
		} else {
			fmt.Printf("%-14s %12d\n", "floor", floor)
		}
	}
}

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

func init() {
	routines["trap times"] = func() error {
		runtime.LockOSThread()
		name := []byte("nosuchfs\x00")
		var info unix.Sysinfo_t
		n := 0
		numbered := func(mode, dev uintptr) func() {
			return func() {
				n++
				mknodRaw(address(fmt.Appendf(nil, "/root/%d\x00", n)), mode, dev)
			}
		}
		for _, m := range []struct {
			what   string
			rounds int
			f      func()
		}{
			{"untrapped", 100000, func() { unix.RawSyscall(unix.SYS_GETPPID, 0, 0, 0) }},
			{"fsopen", 5000, func() { unix.RawSyscall(unix.SYS_FSOPEN, address(name), 0, 0) }},
			{"sysinfo", 5000, func() { unix.RawSyscall(unix.SYS_SYSINFO, uintptr(unsafe.Pointer(&info)), 0, 0) }},
			{"mknod", 500, numbered(charDev, nullDev)},
			{"mkfifo", 500, numbered(unix.S_IFIFO|0o600, 0)},
			{"procmount", 300, nestedProc()},
		} {
			took := make([]time.Duration, m.rounds)
			for i := range took {
				start := time.Now()
				m.f()
				took[i] = time.Since(start)
			}
			slices.Sort(took)
			fmt.Println(m.what, took[len(took)/2].Nanoseconds())
		}
		return nil
	}
}

// nestedProc mounts a procfs and unmounts it.
func nestedProc() func() {
	return func() {
		if err := unix.Mount("proc", "/root", "proc", 0, ""); err == nil {
			unix.Unmount("/root", unix.MNT_DETACH)
		}
	}
}
