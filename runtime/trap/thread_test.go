// SPDX-License-Identifier: Apache-2.0

package trap_test

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"unsafe"

	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"sysbox/runtime/sys"
	"sysbox/tests/testcontainer"
)

// TestTrapThread: callers that are not their process's leading thread and share neither
// root, working directory, umask, files nor ids with it, also in a pid namespace of their
// own. Nodes come to be where, whose and with the errors as the kernel makes FIFOs for the
// same thread, mounts as it mounts a tmpfs.
func TestTrapThread(t *testing.T) {
	t.Parallel()
	out, status := trapThreadsInside.Run(t, func(s *specs.Spec) {
		s.Mounts = append(s.Mounts, specs.Mount{Destination: "/t", Type: "tmpfs", Source: "tmpfs"})
	})
	if status != 0 {
		t.Error(out)
	}
}

var trapThreadsInside = testcontainer.Inside("trap threads", func() error {
	if err := threads("/root/1", "/t/1"); err != nil {
		return err
	}
	cmd := exec.Command(testcontainer.Program)
	cmd.Env = []string{trapThreadsInAPidNamespaceInside.Env()}
	cmd.Stdout, cmd.Stderr = os.Stdout, os.Stderr
	cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: unix.CLONE_NEWPID | unix.CLONE_NEWNS}
	return cmd.Run()
})

var trapThreadsInAPidNamespaceInside = testcontainer.Inside("trap threads in a pid namespace", func() error {
	if err := threads("/root/2", "/t/2"); err != nil {
		return fmt.Errorf("in a pid namespace, with the outer procfs: %w", err)
	}
	if err := unix.Mount("proc", "/proc", "proc", 0, ""); err != nil {
		return err
	}
	if err := threads("/root/3", "/t/3"); err != nil {
		return fmt.Errorf("in a pid namespace: %w", err)
	}
	return nil
})

// onThread runs f on a thread with a root, a working directory, a umask and files of its own.
func onThread(f func() error) error {
	return sys.Thread(func() error {
		if err := sys.Unshare(unix.CLONE_FS | unix.CLONE_FILES); err != nil {
			return err
		}
		return f()
	})
}

// threads makes nodes below home and mounts below mounts.
func threads(home, mounts string) error {
	for dir, owner := range map[string]struct {
		mode     uint32
		uid, gid int
	}{
		"d": {0o755, 0, 0}, "e": {0o755, 0, 0}, "leaders": {0o755, 0, 0}, "r": {0o755, 0, 0},
		"mine": {0o755, 1000, 1000}, "all": {0o777, 0, 0}, "group": {0o775, 0, 1000}, "extra": {0o775, 0, 7}, "closed": {0o700, 0, 0}, "closed/in": {0o777, 0, 0},
	} {
		dir = filepath.Join(home, dir)
		if err := errors.Join(os.MkdirAll(dir, 0o755), os.Chown(dir, owner.uid, owner.gid), unix.Chmod(dir, owner.mode)); err != nil {
			return err
		}
	}
	for _, dir := range []string{"l", "u", "w", "m", "closed/l", "r/dev", "r/m", "own", "tree"} {
		if err := os.MkdirAll(filepath.Join(mounts, dir), 0o755); err != nil {
			return err
		}
	}
	if err := errors.Join(os.Chmod(mounts+"/closed", 0o700), os.WriteFile(mounts+"/l/file", nil, 0o644)); err != nil {
		return err
	}
	return errors.Join(threadNodes(home), threadMounts(mounts))
}

// folder is the number of a folder that the thread and its process have, each another one.
const folder = 200

func threadNodes(home string) error {
	leaders, err := unix.Open(home+"/leaders", unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer unix.Close(leaders)
	if err := unix.Dup3(leaders, folder, unix.O_CLOEXEC); err != nil {
		return err
	}
	defer unix.Close(folder)
	if err := unix.Chdir(home + "/leaders"); err != nil {
		return err
	}
	chdir := func() error { return unix.Chdir(home + "/d") }
	open := func() error {
		fd, err := unix.Open(home+"/e", unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
		if err != nil {
			return err
		}
		return unix.Dup3(fd, folder, unix.O_CLOEXEC)
	}
	chroot := func() error { return errors.Join(unix.Chroot(home+"/r"), unix.Chdir("/")) }
	cases := []threadCase{
		{"its working directory", chdir, unix.AT_FDCWD, "", home + "/d"},
		{"its umask", func() error { unix.Umask(0o077); return nil }, unix.AT_FDCWD, home + "/d/", home + "/d"},
		{"its file", open, folder, "", home + "/e"},
		{"its working directory by name", chdir, unix.AT_FDCWD, "/proc/thread-self/cwd/", home + "/d"},
		{"its process's working directory", chdir, unix.AT_FDCWD, "/proc/self/cwd/", home + "/leaders"},
		{"its file by name", open, unix.AT_FDCWD, fmt.Sprintf("/proc/thread-self/fd/%d/", folder), home + "/e"},
		{"its process's file by name", open, unix.AT_FDCWD, fmt.Sprintf("/proc/self/fd/%d/", folder), home + "/leaders"},
		{"its root", chroot, unix.AT_FDCWD, "/", home + "/r"},
		{"not above its root", chroot, unix.AT_FDCWD, "../../", home + "/r"},
	}
	const dac, mknod, setuid = 1 << unix.CAP_DAC_OVERRIDE, 1 << unix.CAP_MKNOD, 1 << unix.CAP_SETUID
	for _, dir := range []string{"mine", "all", "group", "extra", "d", "closed/in"} {
		path := home + "/" + dir
		cases = append(cases,
			threadCase{"ids for files in " + dir, func() error { return identity(0, 1000, 1000, mknod) }, unix.AT_FDCWD, path + "/", path},
			threadCase{"ids for files and CAP_DAC_OVERRIDE in " + dir, func() error { return identity(0, 1000, 1000, mknod|dac) }, unix.AT_FDCWD, path + "/", path},
			threadCase{"a user with root's id for files in " + dir, func() error { return identity(1000, 0, 0, mknod|setuid) }, unix.AT_FDCWD, path + "/", path},
			threadCase{"a group in " + dir, func() error { return identity(0, 1000, 2000, mknod, 7) }, unix.AT_FDCWD, path + "/", path},
		)
	}
	var errs []error
	for i, c := range cases {
		if err := c.compare(i); err != nil {
			errs = append(errs, fmt.Errorf("%s: %w", c.name, err))
		}
	}
	return errors.Join(append(errs, unix.Chdir("/"))...)
}

// threadCase is a thread that makes a node and a FIFO in a folder.
type threadCase struct {
	name    string
	prepare func() error // on the thread
	dirfd   int
	path    string // of the folder, with a slash, as the thread has it
	dir     string // the same for everybody
}

// compare makes both and tells how they differ.
func (c threadCase) compare(i int) error {
	fifo, node := fmt.Sprint("f", i), fmt.Sprint("n", i)
	var kernels, ours error
	err := onThread(func() error {
		if err := c.prepare(); err != nil {
			return err
		}
		kernels = unix.Mknodat(c.dirfd, c.path+fifo, unix.S_IFIFO|0o666, 0)
		ours = unix.Mknodat(c.dirfd, c.path+node, charDev, nullDev)
		return nil
	})
	if err != nil || ours != kernels {
		return fmt.Errorf("mknod: %w, the kernel's answer is %w, %w", ours, kernels, err)
	}
	var a, b unix.Stat_t
	if kernels == nil {
		if err := errors.Join(unix.Lstat(c.dir+"/"+fifo, &a), unix.Lstat(c.dir+"/"+node, &b)); err != nil {
			return err
		}
		if a.Uid != b.Uid || a.Gid != b.Gid || a.Mode&0o7777 != b.Mode&0o7777 {
			return fmt.Errorf("the node is %d:%d %o, the FIFO %d:%d %o", b.Uid, b.Gid, b.Mode, a.Uid, a.Gid, a.Mode)
		}
	}
	return nil
}

// identity gives the thread other ids than it has for files, these groups and capabilities.
func identity(uid, fsuid, fsgid int, capabilities uint64, groups ...uint32) error {
	first := &append(groups[:len(groups):len(groups)], 0)[0]
	for _, c := range [][3]uintptr{
		{unix.SYS_PRCTL, unix.PR_SET_KEEPCAPS, 1},
		{unix.SYS_SETGROUPS, uintptr(len(groups)), uintptr(unsafe.Pointer(first))},
		{unix.SYS_SETREUID, uintptr(uid), uintptr(uid)},
	} {
		if _, _, e := unix.RawSyscall(c[0], c[1], c[2], 0); e != 0 {
			return e
		}
	}
	if err := effective(1<<unix.CAP_SETUID | 1<<unix.CAP_SETGID); err != nil {
		return err
	}
	_, _ = unix.SetfsgidRetGid(fsgid)
	_, _ = unix.SetfsuidRetUid(fsuid)
	if is, err := unix.SetfsuidRetUid(-1); err != nil || is != fsuid {
		return fmt.Errorf("the id for files is %d, %w", is, err)
	}
	return effective(capabilities)
}

// effective changes the thread's effective capabilities.
func effective(capabilities uint64) error {
	h := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
	var d [2]unix.CapUserData
	if err := unix.Capget(&h, &d[0]); err != nil {
		return err
	}
	d[0].Effective, d[1].Effective = uint32(capabilities), uint32(capabilities>>32)
	return unix.Capset(&h, &d[0])
}

// threadMounts mounts for threads: a plain bind, a copy by the newer calls, an overlay.
func threadMounts(mounts string) error {
	bind := func(target string) error { return unix.Mount("/dev", target, "", unix.MS_BIND, "") }
	is := func(path string) error {
		_, err := os.Stat(path)
		return err
	}
	const layers = "lowerdir=l,upperdir=u,workdir=w"
	if err := unix.Mount("/dev", mounts+"/r/dev", "", unix.MS_BIND|unix.MS_REC, ""); err != nil {
		return err
	}
	var errs []error
	for _, c := range []struct {
		name string
		do   func() error // on the thread
		at   string       // what is mounted then
		has  string
	}{
		{"a bind at its working directory", func() error { return errors.Join(unix.Chdir(mounts), bind("m")) }, "m", "null"},
		{"a bind by its root", func() error { return errors.Join(unix.Chroot(mounts+"/r"), bind("/m")) }, "r/m", "null"},
		{"an overlay at its working directory", func() error {
			return errors.Join(unix.Chdir(mounts), unix.Mount("o", "m", "overlay", 0, layers), overlays(mounts+"/m"))
		}, "m", "file"},
		{"a copy of its working directory, attached there", func() error {
			if err := unix.Chdir("/dev"); err != nil {
				return err
			}
			fd, err := unix.OpenTree(unix.AT_FDCWD, ".", unix.OPEN_TREE_CLONE)
			return errors.Join(err, unix.Chdir(mounts), unix.MoveMount(fd, "", unix.AT_FDCWD, "tree", unix.MOVE_MOUNT_F_EMPTY_PATH), unix.Close(fd))
		}, "tree", "null"},
	} {
		err := errors.Join(onThread(c.do), is(filepath.Join(mounts, c.at, c.has)))
		if err != nil {
			errs = append(errs, fmt.Errorf("%s: %w", c.name, err))
		}
		if err := unix.Unmount(filepath.Join(mounts, c.at), unix.MNT_DETACH); err != nil {
			errs = append(errs, fmt.Errorf("%s: it is not there: %w", c.name, err))
		}
	}
	err := onThread(func() error {
		if err := unix.Unshare(unix.CLONE_NEWNS); err != nil {
			return err
		}
		return errors.Join(bind(mounts+"/own"), is(mounts+"/own/null"))
	})
	if err != nil || is(mounts+"/own/null") == nil {
		errs = append(errs, fmt.Errorf("a bind in its own mount namespace: %w; or all see it", err))
	}
	return errors.Join(append(errs, mountsByIDs(mounts), unix.Unmount(mounts+"/r/dev", unix.MNT_DETACH))...)
}

// overlays checks that there is an overlay that the shim has answered for.
func overlays(at string) error {
	b, err := os.ReadFile("/proc/thread-self/mounts")
	if err != nil {
		return err
	}
	for line := range strings.Lines(string(b)) {
		if f := strings.Fields(line); f[1] == at && strings.Contains(f[3], "userxattr") {
			return nil
		}
	}
	return fmt.Errorf("no overlay with userxattr at %s", at)
}

// mountsByIDs: where the thread's ids for files may not go, it can neither mount nor take
// layers from, whatever its process may; where they may, it can.
func mountsByIDs(mounts string) error {
	// Read-only: where the kernel makes work folders, it takes CAP_DAC_OVERRIDE.
	layers := func(options string) func() error {
		return func() error { return unix.Mount("o", "m", "overlay", 0, "lowerdir="+options) }
	}
	var errs []error
	err := onThread(func() error {
		if err := errors.Join(identity(0, 1000, 1000, 1<<unix.CAP_SYS_ADMIN), unix.Chdir(mounts)); err != nil {
			return err
		}
		for _, c := range []struct {
			what           string
			kernels, traps func() error
		}{
			{"a bind in a closed folder", func() error { return unix.Mount("t", "closed/l", "tmpfs", 0, "") }, func() error { return unix.Mount("/dev", "closed/l", "", unix.MS_BIND, "") }},
			{"a bind", func() error { return unix.Mount("t", "m", "tmpfs", 0, "") }, func() error { return unix.Mount("/dev", "m", "", unix.MS_BIND, "") }},
			{"layers in a closed folder", layers("closed/l:l,userxattr"), layers("closed/l:l")},
			{"layers", layers("l:u,userxattr"), layers("l:u")},
		} {
			kernels := c.kernels()
			if kernels == nil {
				unix.Unmount("m", unix.MNT_DETACH)
			}
			ours := c.traps()
			if ours == nil {
				unix.Unmount("m", unix.MNT_DETACH)
			}
			if ours != kernels {
				errs = append(errs, fmt.Errorf("%s: %w, the kernel's answer is %w", c.what, ours, kernels))
			}
		}
		return nil
	})
	return errors.Join(append(errs, err)...)
}
