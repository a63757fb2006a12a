// SPDX-License-Identifier: Apache-2.0

package sys

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// apart runs f on a thread with a private mount namespace of its own.
func apart(t *testing.T, f func() error) {
	t.Helper()
	err := Thread(func() error {
		if err := Unshare(unix.CLONE_FS | unix.CLONE_NEWNS); err != nil {
			return err
		}
		if err := Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""); err != nil {
			return err
		}
		return f()
	})
	if errors.Is(err, unix.EPERM) && os.Geteuid() != 0 {
		t.Skip("needs root: ", err)
	}
	if err != nil {
		t.Fatal(err)
	}
}

func TestFS(t *testing.T) {
	dir := t.TempDir()
	apart(t, func() error {
		fs, err := Fsopen("tmpfs")
		if err != nil {
			return err
		}
		defer fs.Close()
		if err := errors.Join(fs.SetString("source", "src"), fs.SetString("mode", "0751"), fs.Create()); err != nil {
			return err
		}
		fd, err := fs.Mount(unix.MOUNT_ATTR_NOEXEC)
		if err != nil {
			return err
		}
		defer fd.Close()
		at, err := Openat2(nil, dir, unix.OpenHow{Flags: unix.O_PATH | unix.O_DIRECTORY})
		if err != nil {
			return err
		}
		defer at.Close()
		if err := MountSetattr(fd, true, unix.MOUNT_ATTR_RDONLY, unix.MOUNT_ATTR_NOEXEC, unix.MS_PRIVATE); err != nil {
			return err
		}
		if err := MoveMount(fd, at); err != nil {
			return err
		}
		var st unix.Statfs_t
		if err := unix.Statfs(dir, &st); err != nil {
			return err
		}
		if st.Type != unix.TMPFS_MAGIC || st.Flags&unix.ST_RDONLY == 0 || st.Flags&unix.ST_NOEXEC != 0 {
			return fmt.Errorf("mounted: type %#x, flags %#x", st.Type, st.Flags)
		}
		copied, err := OpenTree(nil, dir, false)
		if err != nil {
			return err
		}
		defer copied.Close()
		attr, err := OpenTreeAttr(nil, dir, true, Attr{Clear: unix.MOUNT_ATTR_RDONLY})
		if errors.Is(err, unix.ENOSYS) { // before 6.15; package feature's tests see that it is there since
			return nil
		}
		if err != nil {
			return err
		}
		defer attr.Close()
		if err := unix.Fstatfs(int(attr.Fd()), &st); err != nil || st.Flags&unix.ST_RDONLY != 0 {
			return fmt.Errorf("copy with attributes: flags %#x, %v", st.Flags, err)
		}
		return Unmount(dir, unix.MNT_DETACH)
	})
	if _, err := os.ReadDir(dir); err != nil {
		t.Error(err)
	}
}

// An error says what was tried, with the kernel's reason where there is one.
func TestErrors(t *testing.T) {
	apart(t, func() error {
		fs, err := Fsopen("tmpfs")
		if err != nil {
			return err
		}
		defer fs.Close()
		file, err := os.Open("/dev/null")
		if err != nil {
			return err
		}
		defer file.Close()
		_, fsopen := Fsopen("nosuchfs")
		_, seccomp := Seccomp([]byte{1}, 0)
		for want, err := range map[string]error{
			`fsconfig(tmpfs, FSCONFIG_SET_STRING, "nosuch", "1"): invalid argument: tmpfs: Unknown parameter 'nosuch'`: fs.SetString("nosuch", "1"),
			`fsopen("nosuchfs"): no such device`:                                                            fsopen,
			`umount2("/nonexistent", MNT_DETACH): no such file or directory`:                                Unmount("/nonexistent", unix.MNT_DETACH),
			`setns(/dev/null, CLONE_NEWNS|CLONE_NEWNET): invalid argument`:                                  Setns(file, unix.CLONE_NEWNS|unix.CLONE_NEWNET),
			`pivot_root("/nonexistent", "."): no such file or directory`:                                    PivotRoot("/nonexistent", "."),
			`mount_setattr(/dev/null, AT_EMPTY_PATH, {set MOUNT_ATTR_RDONLY, clear 0x0}): invalid argument`: MountSetattr(file, false, unix.MOUNT_ATTR_RDONLY, 0, 0),
			`a seccomp filter of 1 bytes: it must be 1 to 4096 instructions of 8 bytes`:                     seccomp,
		} {
			if err == nil || err.Error() != want {
				t.Errorf("got  %v\nwant %s", err, want)
			}
		}
		return nil
	})
}

func ids(t *testing.T) string {
	b, err := os.ReadFile("/proc/thread-self/status")
	if err != nil {
		t.Error(err)
	}
	var out []string
	for line := range strings.Lines(string(b)) {
		if strings.HasPrefix(line, "Uid:") || strings.HasPrefix(line, "Gid:") || strings.HasPrefix(line, "CapEff:") {
			out = append(out, strings.TrimSpace(line))
		}
	}
	bits, err := unix.PrctlRetInt(unix.PR_GET_SECUREBITS, 0, 0, 0, 0)
	if err != nil {
		t.Error(err)
	}
	return fmt.Sprint(out, bits)
}

func TestAsFSID(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("needs root")
	}
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	before := ids(t)
	file := filepath.Join(t.TempDir(), "file")
	wanted := errors.New("wanted")
	err := AsFSID(100000, 200000, func() error {
		// The folder is root's, mode 0755: the capability is still there.
		if err := os.WriteFile(file, nil, 0o600); err != nil {
			t.Error(err)
		}
		var st unix.Stat_t
		if err := unix.Stat(file, &st); err != nil || st.Uid != 100000 || st.Gid != 200000 {
			t.Errorf("made file of %d:%d, %v", st.Uid, st.Gid, err)
		}
		return wanted
	})
	if err != wanted {
		t.Errorf("got %v", err)
	}
	if after := ids(t); after != before {
		t.Errorf("before %s, after %s", before, after)
	}
	// A panic does not leave the thread with other ids, either.
	func() {
		defer func() { _ = recover() }()
		_ = AsFSID(1, 1, func() error { panic("x") })
	}()
	if after := ids(t); after != before {
		t.Errorf("before %s, after a panic %s", before, after)
	}
}

// What a thread does to itself is gone with it.
func TestThread(t *testing.T) {
	cwd, err := os.Getwd()
	if err != nil {
		t.Fatal(err)
	}
	apart(t, func() error { return os.Chdir("/proc") })
	for range 8 {
		if now, err := os.Getwd(); err != nil || now != cwd {
			t.Errorf("working directory %s, %v; want %s", now, err, cwd)
		}
	}
	if err := Thread(func() error { runtime.Goexit(); return nil }); err == nil {
		t.Error("Goexit went unnoticed")
	}
	if err := Thread(func() error {
		if unix.Gettid() == unix.Getpid() {
			return errors.New("on the process's first thread")
		}
		return unix.EBUSY
	}); err != unix.EBUSY {
		t.Errorf("got %v", err)
	}
}

func TestPidfd(t *testing.T) {
	p, err := PidfdOpen(os.Getpid())
	if err != nil {
		t.Fatal(err)
	}
	defer p.Close()
	f, err := PidfdGetfd(p, int(p.Fd()))
	if err != nil {
		t.Fatal(err)
	}
	f.Close()
	if err := PidfdSendSignal(p, 0); err != nil {
		t.Error(err)
	}
	if _, err := PidfdOpen(1 << 30); !errors.Is(err, unix.ESRCH) && !errors.Is(err, unix.EINVAL) {
		t.Error(err)
	}
}
