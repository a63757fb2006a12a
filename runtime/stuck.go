package runtime

import (
	"bufio"
	"context"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"sysbox/runtime/cgroup"
	"sysbox/runtime/sys"
	"sysbox/uidmap"
)

const (
	// stuckAfter is how long killed processes may take to end until it is looked for what
	// keeps them, and how long until it is looked again.
	stuckAfter = time.Second
	// mountedOnly is how many looks are for what the processes have mounted; later ones
	// find what they have unmounted (MNT_DETACH) as well.
	mountedOnly = 3
)

// killAll kills all processes of a container, and waits for their end.
//
// Who waits for a FUSE file system whose server has read the request is not ended by SIGKILL,
// and that server can be a thread of the same process, so that neither would ever end, or
// another container of the pod. The connections are aborted.
func killAll(ctx context.Context, cg *cgroup.Cgroup) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	go func() {
		for look := 0; ; look++ {
			select {
			case <-ctx.Done():
				return
			case <-time.After(stuckAfter):
			}
			if pids, err := cg.Pids(); err == nil {
				freeFromFUSE(pids, look >= mountedOnly)
			}
		}
	}()
	return cg.KillAll(ctx)
}

// freeFromFUSE aborts the FUSE connections that processes have mounted or, for those that
// wait for one, all of their user namespaces' ids.
func freeFromFUSE(pids []int, all bool) {
	for _, pid := range pids {
		tasks, _ := filepath.Glob(fmt.Sprintf("/proc/%d/task/*", pid)) // of which the first may have ended
		for _, task := range tasks {
			at, _ := os.ReadFile(task + "/wchan")
			abortFUSE(task, all && slices.Contains(waitsForFUSE, string(at)))
		}
	}
}

// waitsForFUSE are places in the kernel: where an answer is waited for, and where what
// another asks for is.
var waitsForFUSE = []string{"request_wait_answer", "d_alloc_parallel"}

// abortFUSE aborts FUSE connections of a task's. Those of the host's, which may be
// volumes of many pods, have other owners.
func abortFUSE(task string, all bool) {
	owners, _, err := uidmap.Of(task + "/ns/user")
	if err != nil {
		return
	}
	control, err := fuseControl()
	if err != nil {
		return
	}
	defer control.Close()
	entries, err := control.ReadDir(-1)
	if err != nil || len(entries) == 0 {
		return
	}
	mounted := fuseMounts(task)
	for _, e := range entries {
		var st unix.Stat_t
		if unix.Fstatat(int(control.Fd()), e.Name(), &st, unix.AT_SYMLINK_NOFOLLOW) != nil || st.Uid == 0 {
			continue
		}
		if _, own := owners.ToContainer(st.Uid); !own || !all && !slices.Contains(mounted, e.Name()) {
			continue
		}
		if abort, err := sys.Openat2(control, e.Name()+"/abort", unix.OpenHow{Flags: unix.O_WRONLY}); err == nil {
			_, _ = abort.WriteString("1")
			abort.Close()
		}
	}
}

// fuseMounts are the numbers of the FUSE connections that a task has mounted, which are the
// minor numbers of the file systems (proc_pid_mountinfo(5)).
func fuseMounts(task string) (numbers []string) {
	f, err := os.Open(task + "/mountinfo")
	if err != nil {
		return nil
	}
	defer f.Close()
	lines := bufio.NewScanner(f)
	lines.Buffer(nil, 1<<20)
	for lines.Scan() {
		before, after, _ := strings.Cut(lines.Text(), " - ")
		fields := strings.Fields(before)
		if len(fields) < 3 || !strings.HasPrefix(after, "fuse ") && !strings.HasPrefix(after, "fuse.") {
			continue
		}
		if minor, ok := strings.CutPrefix(fields[2], "0:"); ok {
			numbers = append(numbers, minor)
		}
	}
	return numbers
}

// fuseControl is the folder of the kernel's FUSE connections, wherever the host has it.
func fuseControl() (*os.File, error) {
	fs, err := sys.Fsopen("fusectl")
	if err != nil {
		return nil, err
	}
	defer fs.Close()
	if err := fs.Create(); err != nil {
		return nil, err
	}
	mount, err := fs.Mount(unix.MOUNT_ATTR_NOSUID | unix.MOUNT_ATTR_NODEV | unix.MOUNT_ATTR_NOEXEC)
	if err != nil {
		return nil, err
	}
	defer mount.Close()
	return sys.Openat2(mount, ".", unix.OpenHow{Flags: unix.O_RDONLY | unix.O_DIRECTORY})
}
