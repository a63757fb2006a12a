package runtime

import (
	"fmt"
	"os"
	"runtime"
	"slices"
	"testing"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

func init() {
	routines["trap times"] = func() error {
		runtime.LockOSThread()
		name := []byte("nosuchfs\x00")
		var info unix.Sysinfo_t
		n := 0
		for _, m := range []struct {
			what string
			f    func()
		}{
			{"getppid", func() { unix.RawSyscall(unix.SYS_GETPPID, 0, 0, 0) }},
			{"fsopen", func() { unix.RawSyscall(unix.SYS_FSOPEN, uintptr(unsafe.Pointer(&name[0])), 0, 0) }},
			{"sysinfo", func() { unix.RawSyscall(unix.SYS_SYSINFO, uintptr(unsafe.Pointer(&info)), 0, 0) }},
			{"mknod", func() {
				n++
				unix.Mknod(fmt.Sprintf("/root/n%d", n), charDev, nullDev)
			}},
			{"mknod fifo", func() {
				n++
				unix.Mknod(fmt.Sprintf("/root/n%d", n), unix.S_IFIFO, 0)
			}},
		} {
			var took []time.Duration
			for range 3000 {
				start := time.Now()
				m.f()
				took = append(took, time.Since(start))
			}
			slices.Sort(took)
			fmt.Printf("%s: median %v, 10%% %v\n", m.what, took[len(took)/2], took[len(took)/10])
		}
		return nil
	}
	_ = os.Args
}

func TestScratchTimes(t *testing.T) {
	out, _ := inside(t, "trap times", nil)
	t.Log(out)
	out, _ = inside(t, "trap times", ordinary)
	t.Log(out)
}
