// SPDX-License-Identifier: Apache-2.0

package trap_test

import (
	"errors"
	"fmt"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"sysbox/tests/testcontainer"
)

// TestSysinfo: all figures are the container's, also where its clock is another.
func TestSysinfo(t *testing.T) {
	for name, change := range map[string]func(*specs.Spec){
		"the host's clock": func(*specs.Spec) {},
		"a clock of its own": func(s *specs.Spec) {
			s.Linux.Namespaces = append(s.Linux.Namespaces, specs.LinuxNamespace{Type: specs.TimeNamespace})
			s.Linux.TimeOffsets = map[string]specs.LinuxTimeOffset{"boottime": {Secs: 1_000_000}}
		},
	} {
		t.Run(name, func(t *testing.T) {
			out, status := sysinfoInside.Run(t, func(s *specs.Spec) {
				memory, pids := int64(200<<20), int64(500)
				s.Linux.Resources = &specs.LinuxResources{Memory: &specs.LinuxMemory{Limit: &memory}, Pids: &specs.LinuxPids{Limit: &pids}}
				change(s)
			})
			if status != 0 {
				t.Error(out)
			}
		})
	}
}

var sysinfoInside = testcontainer.Inside("sysinfo", func() error {
	var errs []error
	// Memory that is taken shows.
	before, err := info()
	if err != nil {
		return err
	}
	taken, err := unix.Mmap(-1, 0, 64<<20, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_ANON|unix.MAP_PRIVATE|unix.MAP_POPULATE)
	if err != nil {
		return err
	}
	time.Sleep(30 * time.Millisecond) // figures may be that old
	after, err := info()
	if err != nil {
		return err
	}
	unit := uint64(after.Unit)
	if total := uint64(after.Totalram) * unit; total != 200<<20 {
		errs = append(errs, fmt.Errorf("%d bytes of memory", total))
	}
	if less := (int64(before.Freeram) - int64(after.Freeram)) * int64(unit); less < 60<<20 || less > 90<<20 || after.Freeram == 0 {
		errs = append(errs, fmt.Errorf("of 64 MiB that were taken %d bytes show, %d are free", less, after.Freeram))
	}
	if err := unix.Munmap(taken); err != nil {
		return err
	}
	threads, err := os.ReadDir("/proc/self/task")
	if err != nil {
		return err
	}
	if n := int(after.Procs); n < 2 || n > len(threads)+2 {
		errs = append(errs, fmt.Errorf("%d processes, there are %d threads", n, len(threads)))
	}
	// What the kernel says in this time namespace.
	var clock unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_BOOTTIME, &clock); err != nil {
		return err
	}
	if d := clock.Sec - after.Uptime; d < -1 || d > 5 {
		errs = append(errs, fmt.Errorf("up for %d seconds, the clock says %d", after.Uptime, clock.Sec))
	}
	b, err := os.ReadFile("/proc/uptime")
	if err != nil {
		return err
	}
	var up float64
	if _, err := fmt.Sscan(strings.Fields(string(b))[0], &up); err != nil || int64(up)-after.Uptime > 5 {
		errs = append(errs, fmt.Errorf("up for %d seconds, /proc/uptime says %s", after.Uptime, b))
	}
	return errors.Join(errs...)
})

func info() (unix.Sysinfo_t, error) {
	var i unix.Sysinfo_t
	err := unix.Sysinfo(&i)
	return i, err
}
