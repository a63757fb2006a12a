// SPDX-License-Identifier: Apache-2.0

package trap_test

import (
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	goruntime "runtime"
	"slices"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"unsafe"

	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"sysbox/runtime"
	"sysbox/tests/pace"
	"sysbox/tests/testcontainer"
)

// flip has another thread change what is in memory between two texts, again and again,
// until the function that it returns is called.
func flip(b []byte, one, other string) (end func()) {
	var stop atomic.Bool
	ended := make(chan struct{})
	go func() {
		goruntime.LockOSThread()
		defer close(ended)
		for !stop.Load() {
			for _, text := range []string{other, one} {
				copy(b, text)
				for range 200 { // else who reads nearly always finds the same
					stop.Load()
				}
			}
		}
	}()
	return func() { stop.Store(true); <-ended }
}

// TestTrapFlip: another thread changes a path while it is looked at. Whatever is read, the
// caller's own rights are what counts: nothing comes to be where it may not write.
func TestTrapFlip(t *testing.T) {
	t.Parallel()
	w, text := testcontainer.Pipe(t)
	bundle := trapFlipInside.Bundle(t, func(s *specs.Spec) {
		s.Process.User = specs.User{UID: 1000, GID: 1000}
		caps := []string{"CAP_MKNOD"}
		s.Process.Capabilities = &specs.LinuxCapabilities{Bounding: caps, Effective: caps, Permitted: caps, Inheritable: caps, Ambient: caps}
		s.Process.Env = append(s.Process.Env, "SYSBOX_HONOR_CAPS=TRUE")
	})
	root := filepath.Join(bundle, "rootfs")
	for dir, mode := range map[string]os.FileMode{"mine": 0o777, "theirs": 0o755} {
		if err := os.Mkdir(filepath.Join(root, dir), mode); err != nil {
			t.Fatal(err)
		}
		if err := os.Chmod(filepath.Join(root, dir), mode); err != nil {
			t.Fatal(err)
		}
	}
	c := testcontainer.Create(t, testcontainer.NewPod(t), runtime.CreateRequest{ID: "c1", Bundle: bundle, Stdio: runtime.Stdio{Stdout: w, Stderr: w}})
	if err := c.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	if exit := testcontainer.Wait(t, c.Init()); exit.Status != 0 {
		t.Error("it failed")
	}
	t.Log(text())
	if list, err := os.ReadDir(filepath.Join(root, "theirs")); err != nil || len(list) != 0 {
		t.Errorf("made where the caller may not write: %v, %v", list, err)
	}
	if list, err := os.ReadDir(filepath.Join(root, "mine")); err != nil || len(list) == 0 {
		t.Errorf("nothing was made where it may: %v", err)
	}
}

var trapFlipInside = testcontainer.Inside("trap flip", func() error {
	path := []byte("/theirs/n0000\x00")
	defer flip(path, "//mine/", "/theirs")()
	n := pace.Fewer(3000, 600)
	fmt.Println(n, "calls")
	for i := range n {
		copy(path[9:], fmt.Sprintf("%04d", i))
		mknodRaw(address(path), charDev, nullDev)
	}
	return nil
})

// TestTrapFlipMounts: another thread changes what is to be mounted, where, as what and with
// which options. What is mounted is what was looked at: a folder whose masks guard nothing
// that matters, at a place where the caller may go, layers that it may read, with userxattr.
func TestTrapFlipMounts(t *testing.T) {
	t.Parallel()
	w, text := testcontainer.Pipe(t)
	bundle := trapFlipMountsInside.Bundle(t, func(s *specs.Spec) {
		s.Linux.MaskedPaths = append(s.Linux.MaskedPaths, "/deu/secret")
		s.Mounts = append(s.Mounts, specs.Mount{Destination: "/t", Type: "tmpfs", Source: "tmpfs"})
	})
	secret := filepath.Join(bundle, "rootfs/deu/secret")
	if err := errors.Join(os.Mkdir(filepath.Dir(secret), 0o755), os.WriteFile(secret, []byte("secret"), 0o644)); err != nil {
		t.Fatal(err)
	}
	c := testcontainer.Create(t, testcontainer.NewPod(t), runtime.CreateRequest{ID: "c1", Bundle: bundle, Stdio: runtime.Stdio{Stdout: w, Stderr: w}})
	if err := c.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	exit := testcontainer.Wait(t, c.Init())
	out := text()
	if exit.Status != 0 {
		t.Error(out)
	}
	t.Log(out)
}

var trapFlipMountsInside = testcontainer.Inside("trap flip mounts", func() error {
	for _, d := range []string{"/t/a/m", "/t/a/l", "/t/a/x", "/t/b/m", "/t/b/l"} {
		if err := os.MkdirAll(d, 0o755); err != nil {
			return err
		}
	}
	if err := errors.Join(os.Chmod("/t/b", 0o700), os.WriteFile("/t/b/l/secret", []byte("secret"), 0o644), os.WriteFile("/t/a/l/file", nil, 0o644)); err != nil {
		return err
	}
	if err := errors.Join(flipSource(), flipType()); err != nil {
		return err
	}
	user := exec.Command(testcontainer.Program)
	user.Env = []string{trapFlipMountsOfAUserInside.Env(), pace.Variable + "=" + os.Getenv(pace.Variable)}
	user.Stdout, user.Stderr = os.Stdout, os.Stderr
	user.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: 1000, Gid: 1000}, AmbientCaps: []uintptr{unix.CAP_SYS_ADMIN}}
	err := user.Run()
	left, e := mountsAt("/t/b/m")
	if len(left) != 0 {
		e = fmt.Errorf("mounted where the caller may not go: %v", left)
	}
	return errors.Join(err, e)
})

var trapFlipMountsOfAUserInside = testcontainer.Inside("trap flip mounts of a user", func() error { return errors.Join(flipTarget(), flipOptions()) })

// tally counts answers, and keeps the first of what must not be.
type tally struct {
	answers map[error]int
	wrong   error
}

func (r *tally) add(answer error, allowed ...error) {
	if r.answers == nil {
		r.answers = map[error]int{}
	}
	r.answers[answer]++
	if answer != nil && !slices.Contains(allowed, answer) {
		r.must(fmt.Errorf("answer %w", answer))
	}
}

// rounds makes so many calls, and more, but not without end, until one has succeeded.
func (r *tally) rounds(n int, call func()) {
	n = pace.Fewer(n, n/10)
	for i := 0; i < n || i < 20*n && r.answers[nil] == 0; i++ {
		call()
	}
}

func (r *tally) must(err error) {
	if r.wrong == nil {
		r.wrong = err
	}
}

// end is the error of a case, in which some calls must have succeeded.
func (r *tally) end(name string) error {
	fmt.Printf("%s: %v\n", name, r.answers)
	if r.wrong == nil && r.answers[nil] == 0 {
		r.wrong = errors.New("no call has succeeded")
	}
	if r.wrong != nil {
		return fmt.Errorf("%s: %w", name, r.wrong)
	}
	return nil
}

func mountRaw(source, target, fstype []byte, flags uintptr, data []byte) error {
	if _, _, e := unix.Syscall6(unix.SYS_MOUNT, address(source), address(target), address(fstype), flags, address(data), 0); e != 0 {
		return e
	}
	return nil
}

// mountsAt are the mounts at a place, the fields of /proc/self/mounts.
func mountsAt(place string) ([][]string, error) {
	b, err := os.ReadFile("/proc/self/mounts")
	var out [][]string
	for line := range strings.Lines(string(b)) {
		if f := strings.Fields(line); f[1] == place {
			out = append(out, f)
		}
	}
	return out, err
}

// isDev tells whether a folder is /dev and not the one beside it.
func isDev(dir string) error {
	if b, err := os.ReadFile(dir + "/secret"); len(b) != 0 {
		return fmt.Errorf("what the spec masks shows: %q, %w", b, err)
	}
	_, err := os.Stat(dir + "/null")
	return err
}

// flipSource: of two folders with mounts below them, the one may be shown without.
func flipSource() error {
	source, target := []byte("/dev\x00"), []byte("/t/a/m\x00")
	defer flip(source[3:4], "v", "u")()
	var binds, trees tally
	binds.rounds(1500, func() {
		err := mountRaw(source, target, nil, unix.MS_BIND, nil)
		binds.add(err, unix.EINVAL)
		if err == nil {
			if err := errors.Join(isDev("/t/a/m"), unix.Unmount("/t/a/m", unix.MNT_DETACH)); err != nil {
				binds.must(err)
			}
		}
	})
	trees.rounds(500, func() {
		here := unix.AT_FDCWD
		fd, _, e := unix.Syscall(unix.SYS_OPEN_TREE, uintptr(here), address(source), unix.OPEN_TREE_CLONE)
		if e != 0 {
			trees.add(e, unix.EINVAL)
			return
		}
		trees.add(nil)
		if err := isDev(fmt.Sprintf("/proc/self/fd/%d", fd)); err != nil {
			trees.must(err)
		}
		unix.Close(int(fd))
	})
	return errors.Join(binds.end("the source of a bind"), trees.end("the path of open_tree"))
}

// flipType: of two kinds, the one is not for a user namespace.
func flipType() error {
	name := unsafe.Slice((*byte)(unsafe.Pointer(new(uint64))), 8) // changed by one store
	copy(name, "overlay")
	defer flip(name, "overlay\x00", "debugfs\x00")()
	source, target, data := []byte("o\x00"), []byte("/t/a/m\x00"), []byte("lowerdir=/t/a/l:/t/a/x\x00")
	var r tally
	r.rounds(400, func() {
		err := mountRaw(source, target, name, 0, data)
		r.add(err, unix.EPERM, unix.ENODEV)
		list, e := mountsAt("/t/a/m")
		if e != nil || len(list) > 1 || err != nil && len(list) != 0 || err == nil && (len(list) != 1 || list[0][2] != "overlay" || !strings.Contains(list[0][3], "lowerdir=/t/a/l:/t/a/x")) {
			r.must(fmt.Errorf("answer %w, mounted is %q, %w", err, list, e))
		}
		for range list {
			unix.Unmount("/t/a/m", unix.MNT_DETACH)
		}
	})
	return r.end("the kind of a mount")
}

// flipTarget: of two places, the caller may go to one.
func flipTarget() error {
	source, target := []byte("/dev\x00"), []byte("/t/a/m\x00")
	defer flip(target[3:4], "a", "b")()
	var binds, moves tally
	unmount := func() {
		for unix.Unmount("/t/a/m", unix.MNT_DETACH) == nil {
		}
	}
	binds.rounds(1500, func() {
		binds.add(mountRaw(source, target, nil, unix.MS_BIND, nil), unix.EACCES, unix.EINVAL)
		unmount()
	})
	moves.rounds(300, func() {
		here := unix.AT_FDCWD
		fd, err := unix.OpenTree(here, "/dev", unix.OPEN_TREE_CLONE)
		if err != nil {
			moves.must(err)
			return
		}
		_, _, e := unix.Syscall6(unix.SYS_MOVE_MOUNT, uintptr(fd), address([]byte{0}), uintptr(here), address(target), unix.MOVE_MOUNT_F_EMPTY_PATH, 0)
		err = nil
		if e != 0 {
			err = e
		}
		moves.add(err, unix.EACCES)
		unix.Close(fd)
		unmount()
	})
	return errors.Join(binds.end("the target of a bind"), moves.end("the target of move_mount"))
}

// flipOptions: of two layers, the caller may read one.
func flipOptions() error {
	source, target, name, data := []byte("o\x00"), []byte("/t/a/m\x00"), []byte("overlay\x00"), []byte("lowerdir=/t/a/l:/t/a/x\x00")
	defer flip(data[len("lowerdir=/t/"):][:1], "a", "b")()
	var r tally
	r.rounds(400, func() {
		err := mountRaw(source, target, name, 0, data)
		r.add(err, unix.EACCES)
		if err != nil {
			return
		}
		if b, err := os.ReadFile("/t/a/m/secret"); err == nil {
			r.must(fmt.Errorf("a layer that the caller may not read: %q", b))
		}
		if list, err := mountsAt("/t/a/m"); err != nil || len(list) != 1 || !strings.Contains(list[0][3], "lowerdir=/t/a/l:/t/a/x") || !strings.Contains(list[0][3], "userxattr") {
			r.must(fmt.Errorf("mounted is %q, %w", list, err))
		}
		unix.Unmount("/t/a/m", unix.MNT_DETACH)
	})
	return r.end("the options of an overlay")
}

// TestTrapFlipModule: another thread changes the name in a module's image, the image itself
// and the parameters, or puts another file in the place of the module's. The name that the
// administrator's list has is the one that the host's modprobe gets, and nothing else.
func TestTrapFlipModule(t *testing.T) {
	dir := t.TempDir()
	asked := filepath.Join(dir, "asked")
	// Not the host's modprobe: what it would load stays loaded.
	if err := os.WriteFile(filepath.Join(dir, "modprobe"), fmt.Appendf(nil, "#!/bin/sh\necho \"$*\" >>%s\n", asked), 0o755); err != nil {
		t.Fatal(err)
	}
	t.Setenv("PATH", dir+":"+os.Getenv("PATH"))
	p := testcontainer.NewPod(t)
	p.Config.Modules = []string{"sysbox_a"}
	w, text := testcontainer.Pipe(t)
	c := testcontainer.Create(t, p, runtime.CreateRequest{ID: "c1", Bundle: trapFlipModuleInside.Bundle(t, nil), Stdio: runtime.Stdio{Stdout: w, Stderr: w}})
	if err := c.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	exit := testcontainer.Wait(t, c.Init())
	out := text()
	if exit.Status != 0 {
		t.Error(out)
	}
	t.Log(out)
	b, err := os.ReadFile(asked)
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(b)) {
		if line != "-- sysbox_a\n" {
			t.Fatalf("modprobe was called with %q", line)
		}
	}
}

var trapFlipModuleInside = testcontainer.Inside("trap flip module", func() error {
	refused := []error{unix.EPERM, unix.ENOSYS} // without modules in the kernel
	image, params := moduleImage("sysbox_a"), []byte("p=1\x00")
	load := func() error {
		_, _, e := unix.Syscall(unix.SYS_INIT_MODULE, address(image), uintptr(len(image)), address(params))
		if e != 0 {
			return e
		}
		return nil
	}
	name := strings.Index(string(image), "sysbox_a") + len("sysbox_")
	var names, tables, files tally
	end, end2 := flip(image[name:name+1], "a", "b"), flip(params[2:3], "1", ";")
	names.rounds(300, func() { names.add(load(), refused...) })
	end()
	end2()
	nowhere := binary.LittleEndian.AppendUint64(nil, 1<<40)
	end = flip(image[40:48], string(image[40:48]), string(nowhere)) // e_shoff
	tables.rounds(300, func() { tables.add(load(), append(refused, unix.ENOEXEC)...) })
	end()

	const at = 100
	var fds [2]int
	for i, file := range []string{"/root/sysbox_a.ko", "/root/sysbox_b.ko"} {
		f, err := os.Create(file)
		if err != nil {
			return err
		}
		defer f.Close()
		fds[i] = int(f.Fd())
	}
	if err := unix.Dup3(fds[0], at, unix.O_CLOEXEC); err != nil {
		return err
	}
	var stop atomic.Bool
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		for !stop.Load() {
			_, _ = unix.Dup3(fds[1], at, unix.O_CLOEXEC), unix.Dup3(fds[0], at, unix.O_CLOEXEC)
		}
	}()
	files.rounds(300, func() { files.add(unix.FinitModule(at, "", 0), refused...) })
	stop.Store(true)
	<-ended
	return errors.Join(names.end("the name in an image"), tables.end("the image"), files.end("the file"))
})
