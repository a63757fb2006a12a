// SPDX-License-Identifier: Apache-2.0

package trap_test

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"slices"
	"syscall"
	"testing"
	"unsafe"

	"golang.org/x/sys/unix"

	"sysbox/tests/testcontainer"
)

// TestLeftToTheKernel: the answers that docs/system-calls.md has for calls that are not
// trapped, as root of a system container.
func TestLeftToTheKernel(t *testing.T) {
	out, status := leftToTheKernelInside.Run(t, nil)
	if status != 0 {
		t.Error(out)
	}
	t.Log(out)
}

var rebootInside = testcontainer.Inside("reboot", func() error { return unix.Reboot(unix.LINUX_REBOOT_CMD_POWER_OFF) })

var leftToTheKernelInside = testcontainer.Inside("left to the kernel", func() error {
	if err := errors.Join(os.Mkdir("/m", 0o755), os.WriteFile("/f", nil, 0o600), unix.Mount("x", "/tmp", "tmpfs", 0, "")); err != nil {
		return err
	}
	const done = unix.Errno(0)
	name := func(s string) uintptr { p, _ := unix.BytePtrFromString(s); return uintptr(unsafe.Pointer(p)) }
	call := func(nr uintptr, args ...uintptr) unix.Errno {
		var a [6]uintptr
		copy(a[:], args)
		r, _, e := unix.Syscall6(nr, a[0], a[1], a[2], a[3], a[4], a[5])
		if e == 0 && r > 2 {
			unix.Close(int(r))
		}
		return e
	}
	errno := func(err error) unix.Errno {
		e := done
		errors.As(err, &e)
		return e
	}
	mount := func(source, fstype string) unix.Errno { return errno(unix.Mount(source, "/m", fstype, 0, "")) }
	idmap := func(path string) unix.Errno {
		return errno(mapped(path))
	}
	var errs []error
	for _, c := range []struct {
		call string
		got  unix.Errno
		want []unix.Errno // one of these
	}{
		{"swapon", call(unix.SYS_SWAPON, name("/f"), 0), []unix.Errno{unix.EPERM}},
		{"swapoff", call(unix.SYS_SWAPOFF, name("/f")), []unix.Errno{unix.EPERM}},
		{"sched_setscheduler of SCHED_FIFO", call(unix.SYS_SCHED_SETSCHEDULER, 0, unix.SCHED_FIFO, address([]byte{1, 0, 0, 0})), []unix.Errno{unix.EPERM}},
		{"setxattr of trusted.*", errno(unix.Setxattr("/f", "trusted.overlay.opaque", []byte("y"), 0)), []unix.Errno{unix.EPERM}},
		{"setxattr of user.overlay.*", errno(unix.Setxattr("/tmp", "user.overlay.opaque", []byte("y"), 0)), []unix.Errno{done, unix.EOPNOTSUPP}}, // tmpfs has them since Linux 6.6
		{"quotactl_fd of Q_SETQUOTA", quota("/"), []unix.Errno{unix.EPERM, unix.ENOSYS}},                                                         // without quotas in the kernel
		{"bpf of a device program", deviceProgram(), []unix.Errno{unix.EPERM}},
		{"perf_event_open of all a processor does", perf(), []unix.Errno{unix.EACCES, unix.EPERM, unix.ENOSYS}},
		{"delete_module", call(unix.SYS_DELETE_MODULE, name("x"), 0), []unix.Errno{unix.EPERM, unix.ENOSYS}}, // without modules in the kernel
		{"settimeofday", errno(unix.Settimeofday(&unix.Timeval{})), []unix.Errno{unix.EPERM}},
		{"mount of a disk", mount("/dev/null", "ext4"), []unix.Errno{unix.EPERM, unix.ENODEV}},
		// Options that it does not understand are EINVAL, whoever asks.
		{"mount of nfs", errno(unix.Mount("127.0.0.1:/", "/m", "nfs", 0, "vers=4.2,addr=127.0.0.1,clientaddr=127.0.0.1")), []unix.Errno{unix.EPERM, unix.ENODEV}},
		{"mount of nfsd", mount("nfsd", "nfsd"), []unix.Errno{unix.EPERM, unix.ENODEV}},
		{"mount of securityfs", mount("x", "securityfs"), []unix.Errno{unix.EPERM, unix.ENODEV}},
		{"mount of debugfs", mount("x", "debugfs"), []unix.Errno{unix.EPERM, unix.ENODEV}},
		{"umount2 of what the host has mounted", errno(unix.Unmount("/proc", unix.MNT_DETACH)), []unix.Errno{unix.EINVAL}},
		{"umount2 of a mask of proc, which is init's own", errno(unix.Unmount("/proc/keys", unix.MNT_DETACH)), []unix.Errno{0}},
		{"umount2 of a mount of its own", errno(unix.Unmount("/run", 0)), []unix.Errno{done}},
		{"mount_setattr that maps ids of a file system of the host's", idmap("/"), []unix.Errno{unix.EPERM}},
		{"mount_setattr that maps ids of one of its own", idmap("/tmp"), []unix.Errno{done, unix.EINVAL}}, // tmpfs can be since Linux 6.3
		{"open_by_handle_at of a file of the host's", handle("/bin/busybox", "/"), []unix.Errno{unix.EPERM, unix.EOPNOTSUPP}},
		{"kexec_load", call(unix.SYS_KEXEC_LOAD, 0, 0, 0, 0), []unix.Errno{unix.EPERM, unix.ENOSYS}},
		{"acct", call(unix.SYS_ACCT, name("/f")), []unix.Errno{unix.EPERM, unix.ENOSYS}},
	} {
		fmt.Printf("%s: %v\n", c.call, c.got)
		if !slices.Contains(c.want, c.got) {
			errs = append(errs, fmt.Errorf("%s: %w, want one of %v", c.call, c.got, c.want))
		}
	}
	// reboot(2) ends the pid namespace's init, of which this makes another.
	cmd := exec.Command(testcontainer.Program)
	cmd.Env = []string{rebootInside.Env()}
	cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: unix.CLONE_NEWPID}
	err := cmd.Run()
	if s, ok := cmd.ProcessState.Sys().(syscall.WaitStatus); !ok || s.Signal() != syscall.SIGINT {
		errs = append(errs, fmt.Errorf("reboot in a pid namespace: %w", err))
	}
	return errors.Join(errs...)
})

// mapped makes a copy of a mount with other ids.
func mapped(path string) error {
	fd, err := unix.OpenTree(unix.AT_FDCWD, path, unix.OPEN_TREE_CLONE)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	cmd := exec.Command("/bin/sleep", "100")
	ids := []syscall.SysProcIDMap{{ContainerID: 0, HostID: 1000, Size: 1000}}
	cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: unix.CLONE_NEWUSER, UidMappings: ids, GidMappings: ids}
	if err := cmd.Start(); err != nil {
		return err
	}
	defer cmd.Wait()
	defer cmd.Process.Kill()
	ns, err := os.Open(fmt.Sprintf("/proc/%d/ns/user", cmd.Process.Pid))
	if err != nil {
		return err
	}
	defer ns.Close()
	return unix.MountSetattr(fd, "", unix.AT_EMPTY_PATH, &unix.MountAttr{Attr_set: unix.MOUNT_ATTR_IDMAP, Userns_fd: uint64(ns.Fd())})
}

func quota(path string) unix.Errno {
	fd, err := unix.Open(path, unix.O_RDONLY, 0)
	if err != nil {
		return err.(unix.Errno)
	}
	defer unix.Close(fd)
	block := make([]byte, 72)                                                                            // struct if_dqblk
	_, _, e := unix.Syscall6(unix.SYS_QUOTACTL_FD, uintptr(fd), 0x800008<<8, 1000, address(block), 0, 0) // QCMD(Q_SETQUOTA, USRQUOTA)
	return e
}

// deviceProgram loads a program of two instructions that allows all devices.
func deviceProgram() unix.Errno {
	insns := []uint64{0xb7 | 1<<32, 0x95} // r0 = 1; exit
	license := []byte("GPL\x00")
	attr := struct {
		kind, count    uint32
		insns, license uint64
		rest           [96]byte
	}{kind: unix.BPF_PROG_TYPE_CGROUP_DEVICE, count: 2, insns: uint64(uintptr(unsafe.Pointer(&insns[0]))), license: uint64(address(license))}
	_, _, e := unix.Syscall(unix.SYS_BPF, unix.BPF_PROG_LOAD, uintptr(unsafe.Pointer(&attr)), unsafe.Sizeof(attr))
	return e
}

func perf() unix.Errno {
	attr := unix.PerfEventAttr{Type: unix.PERF_TYPE_SOFTWARE, Config: unix.PERF_COUNT_SW_CPU_CLOCK, Size: uint32(unsafe.Sizeof(unix.PerfEventAttr{}))}
	fd, err := unix.PerfEventOpen(&attr, -1, 0, -1, 0)
	if err == nil {
		unix.Close(fd)
		return 0
	}
	return err.(unix.Errno)
}

// handle opens a file by its handle, from a mount.
func handle(path, mount string) unix.Errno {
	h, _, err := unix.NameToHandleAt(unix.AT_FDCWD, path, 0)
	if err != nil {
		return err.(unix.Errno)
	}
	at, err := unix.Open(mount, unix.O_RDONLY, 0)
	if err != nil {
		return err.(unix.Errno)
	}
	defer unix.Close(at)
	fd, err := unix.OpenByHandleAt(at, h, unix.O_RDONLY)
	if err == nil {
		unix.Close(fd)
		return 0
	}
	return err.(unix.Errno)
}
