// SPDX-License-Identifier: Apache-2.0

package process

import (
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"sysbox/runtime/sys"
)

// OOMFloor is the lowest oom_score_adj that processes of a container with a memory limit may give
// themselves. At -1000 the kernel would not count on them at all, and containerd's shims, which
// must outlive their containers, have -999 or -998.
const OOMFloor = -998

// LowerOOMFloor lets a process and its descendants lower their oom_score_adj to [OOMFloor], and
// leaves the present value. proc is the host's /proc. A process may lower its value to the one that
// a process with CAP_SYS_RESOURCE wrote last (proc_pid_oom_score_adj(5)): one with the capability
// writes the floor, and one without it the present value.
//
// Without CAP_SYS_RESOURCE it does nothing.
func LowerOOMFloor(proc *os.File, pid int) error {
	f, err := sys.Openat2(proc, fmt.Sprintf("%d/oom_score_adj", pid), unix.OpenHow{Flags: unix.O_RDWR})
	if err != nil {
		return err
	}
	defer f.Close()
	b := make([]byte, 16)
	n, err := f.ReadAt(b, 0)
	if n == 0 {
		return fmt.Errorf("read oom_score_adj: %w", err)
	}
	now := strings.TrimSpace(string(b[:n]))
	if v, err := strconv.Atoi(now); err != nil || v <= OOMFloor {
		return err
	}
	if _, err := f.WriteAt([]byte(strconv.Itoa(OOMFloor)), 0); errors.Is(err, unix.EACCES) {
		return nil
	} else if err != nil {
		return fmt.Errorf("lower the floor of oom_score_adj to %d: %w", OOMFloor, err)
	}
	err = sys.WithoutCapability(unix.CAP_SYS_RESOURCE, func() error {
		_, err := f.WriteAt([]byte(now), 0)
		return err
	})
	if err != nil {
		return fmt.Errorf("restore oom_score_adj %s: %w", now, err)
	}
	return nil
}
