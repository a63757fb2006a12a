// SPDX-License-Identifier: Apache-2.0

package trap_test

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	goruntime "runtime"
	"strings"
	"syscall"
	"testing"
	"unsafe"

	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"sysbox/tests/testcontainer"
)

// privileges are callers, and the trapped calls of which each may get more than the
// kernel gives it in a user namespace. All others it must get as in a container in which
// nothing is trapped.
var privileges = []struct {
	caller  string
	granted string
}{
	{"root", "mknod mknodat mknod-tun mknod-bound mknod-bound-tun bind overlay open_tree open_tree_attr fsopen init_module finit_module"},
	{"root without CAP_SYS_ADMIN", "mknod mknodat mknod-bound init_module finit_module"},
	{"root without CAP_MKNOD", "bind overlay open_tree open_tree_attr fsopen init_module finit_module"},
	{"root without CAP_SYS_MODULE", "mknod mknodat mknod-tun mknod-bound mknod-bound-tun bind overlay open_tree open_tree_attr fsopen"},
	{"user 1000", ""},
	{"unshare -Ur", ""},
	{"unshare -Urm", ""},
}

// TestTrapPrivileges: emulation is no gap in privilege. Who lacks the capability in the
// container's first user namespace gets the kernel's own errno for every trapped call.
func TestTrapPrivileges(t *testing.T) {
	t.Parallel()
	answers := func(change func(*specs.Spec)) map[string]string {
		out, status := privilegesInside.Run(t, func(s *specs.Spec) {
			s.Process.Env = append(s.Process.Env, "MODULE="+aModule(t))
			s.Mounts = append(s.Mounts, specs.Mount{Destination: "/t", Type: "tmpfs", Source: "tmpfs", Options: []string{"mode=1777"}})
			change(s)
		})
		if status != 0 {
			t.Fatalf("exit status %d: %s", status, out)
		}
		m := map[string]string{}
		for line := range strings.Lines(out) {
			key, answer, _ := strings.Cut(strings.TrimSpace(line), " = ")
			m[key] = answer
		}
		return m
	}
	system := answers(func(*specs.Spec) {})
	control := answers(func(s *specs.Spec) {
		testcontainer.Ordinary(s)
		caps := []string{"CAP_SYS_ADMIN", "CAP_MKNOD", "CAP_SYS_MODULE", "CAP_SETUID", "CAP_SETGID", "CAP_DAC_OVERRIDE", "CAP_SETFCAP"}
		s.Process.Capabilities = &specs.LinuxCapabilities{Bounding: caps, Effective: caps, Permitted: caps}
	})
	for _, p := range privileges {
		for _, call := range strings.Fields(privileges[0].granted) {
			key := p.caller + ": " + call
			granted := strings.Contains(" "+p.granted+" ", " "+call+" ")
			kernels, known := control[key]
			switch {
			case !known:
				t.Errorf("%s: not tried", key)
			case granted && system[key] == kernels:
				t.Errorf("%s: %s, as without a trap", key, kernels)
			case !granted && system[key] != kernels:
				t.Errorf("%s: %s, the kernel's answer is %s", key, system[key], kernels)
			}
		}
	}
}

// aModule is the name of a module that the host has.
func aModule(t *testing.T) string {
	t.Helper()
	list, err := os.ReadDir("/sys/module")
	if err != nil || len(list) == 0 {
		t.Skip("this kernel shows no modules")
	}
	return list[0].Name()
}

var privilegesInside = testcontainer.Inside("privileges", func() error {
	// A file system of the container's, on which device nodes do not open.
	if err := errors.Join(os.Mkdir("/own", 0o755), unix.Mount("own", "/own", "tmpfs", 0, "mode=1777")); err != nil {
		return err
	}
	for i, p := range privileges {
		// Folders of its own, which also a user may write.
		dir := fmt.Sprintf("/t/%d", i)
		for _, d := range []string{dir, dir + "/at", dir + "/l", dir + "/u", dir + "/w"} {
			if err := errors.Join(os.Mkdir(d, 0o777), os.Chmod(d, 0o777)); err != nil {
				return err
			}
		}
		// Device nodes open here; the tmpfs is for layers.
		nodes := fmt.Sprintf("/nodes%d", i)
		if err := errors.Join(os.Mkdir(nodes, 0o777), os.Chmod(nodes, 0o777)); err != nil {
			return err
		}
		cmd := exec.Command(testcontainer.Program)
		cmd.Env = []string{privilegesOfACallerInside.Env(), "CALLER=" + p.caller, "DIR=" + dir, "NODES=" + nodes, "MODULE=" + os.Getenv("MODULE")}
		cmd.Stdout, cmd.Stderr = os.Stdout, os.Stderr
		if strings.HasPrefix(p.caller, "unshare -Ur") {
			one := []syscall.SysProcIDMap{{Size: 1}}
			cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: unix.CLONE_NEWUSER, UidMappings: one, GidMappings: one}
			if p.caller == "unshare -Urm" {
				cmd.SysProcAttr.Cloneflags |= unix.CLONE_NEWNS
			}
		}
		if err := cmd.Run(); err != nil {
			return fmt.Errorf("%s: %w", p.caller, err)
		}
	}
	return nil
})

var privilegesOfACallerInside = testcontainer.Inside("privileges of a caller", func() error {
	goruntime.LockOSThread()
	if err := reduce(os.Getenv("CALLER")); err != nil {
		return err
	}
	answers := privilegedCalls(os.Getenv("DIR"), os.Getenv("NODES"), os.Getenv("MODULE"))
	for _, call := range strings.Fields(privileges[0].granted) {
		fmt.Printf("%s: %s = %s\n", os.Getenv("CALLER"), call, answers[call]())
	}
	return nil
})

// reduce takes from this thread what a caller of that name lacks.
func reduce(caller string) error {
	drop := map[string]int{
		"root without CAP_SYS_ADMIN": unix.CAP_SYS_ADMIN, "root without CAP_MKNOD": unix.CAP_MKNOD, "root without CAP_SYS_MODULE": unix.CAP_SYS_MODULE,
	}
	if c, ok := drop[caller]; ok {
		h := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
		var d [2]unix.CapUserData
		if err := unix.Capget(&h, &d[0]); err != nil {
			return err
		}
		if d[0].Effective&(1<<c) == 0 {
			return fmt.Errorf("%s: it has none to begin with", caller)
		}
		d[0].Effective &^= 1 << c
		return unix.Capset(&h, &d[0])
	}
	if caller == "user 1000" {
		if _, _, e := unix.RawSyscall(unix.SYS_SETRESUID, 1000, 1000, 1000); e != 0 {
			return e
		}
	}
	return nil
}

// privilegedCalls makes each trapped call by itself, and returns its answer in words.
func privilegedCalls(dir, nodes, module string) map[string]func() string {
	answer := func(e error) string {
		var errno unix.Errno
		if errors.As(e, &errno) && errno != 0 {
			return unix.ErrnoName(errno)
		}
		return "done"
	}
	opened := func(nr uintptr, args ...uintptr) string {
		a := [6]uintptr{}
		copy(a[:], args)
		fd, _, e := unix.Syscall6(nr, a[0], a[1], a[2], a[3], a[4], a[5])
		if e == 0 {
			unix.Close(int(fd))
		}
		return answer(e)
	}
	bound := func(path string, dev int) string {
		if err := unix.Mknod(path, charDev, dev); err != nil {
			return answer(err)
		}
		fd, err := unix.Open(path, unix.O_RDWR, 0)
		unix.Close(fd)
		return "opens: " + answer(err)
	}
	text := func(s string) uintptr { p, _ := unix.BytePtrFromString(s); return uintptr(unsafe.Pointer(p)) }
	here := unix.AT_FDCWD
	at := dir + "/at"
	var attr unix.MountAttr
	return map[string]func() string{
		"mknod":           func() string { return answer(unix.Mknod(nodes+"/a", charDev, nullDev)) },
		"mknod-tun":       func() string { return answer(unix.Mknod(nodes+"/tun", charDev, 10<<8|200)) },
		"mknod-bound":     func() string { return bound("/own/"+filepath.Base(dir), nullDev) },
		"mknod-bound-tun": func() string { return bound("/own/tun"+filepath.Base(dir), 10<<8|200) },
		"mknodat": func() string {
			fd, err := unix.Open(nodes, unix.O_PATH, 0)
			if err != nil {
				return err.Error()
			}
			defer unix.Close(fd)
			return answer(unix.Mknodat(fd, "b", charDev, nullDev))
		},
		"bind": func() string {
			defer unix.Unmount(at, unix.MNT_DETACH)
			return answer(unix.Mount("/", at, "", unix.MS_BIND, ""))
		},
		"overlay": func() string {
			err := unix.Mount("o", at, "overlay", 0, fmt.Sprintf("lowerdir=%[1]s/l,upperdir=%[1]s/u,workdir=%[1]s/w", dir))
			return overlaid(at, answer(err))
		},
		"fsopen": func() string { return overlaid(at, answer(newMount(dir, at))) },
		"open_tree": func() string {
			return opened(unix.SYS_OPEN_TREE, uintptr(here), text("/"), unix.OPEN_TREE_CLONE)
		},
		"open_tree_attr": func() string {
			return opened(unix.SYS_OPEN_TREE_ATTR, uintptr(here), text("/"), unix.OPEN_TREE_CLONE, uintptr(unsafe.Pointer(&attr)), unsafe.Sizeof(attr))
		},
		"init_module": func() string { return answer(initModule(moduleImage(module))) },
		"finit_module": func() string {
			f, err := os.Create(filepath.Join(nodes, module+".ko"))
			if err != nil {
				return err.Error()
			}
			defer f.Close()
			return answer(unix.FinitModule(int(f.Fd()), "", 0))
		},
	}
}

// overlaid adds to an answer whether the overlay at a place has the option that makes it
// work, and unmounts it.
func overlaid(at, answer string) string {
	mounts, _ := os.ReadFile("/proc/self/mounts")
	if strings.Contains(string(mounts), "userxattr") {
		answer = "with userxattr"
	}
	unix.Unmount(at, unix.MNT_DETACH)
	return answer
}

// newMount mounts an overlay by the newer calls.
func newMount(dir, at string) error {
	fs, err := unix.Fsopen("overlay", 0)
	if err != nil {
		return err
	}
	defer unix.Close(fs)
	for key, value := range map[string]string{"lowerdir": "l", "upperdir": "u", "workdir": "w"} {
		if err := unix.FsconfigSetString(fs, key, dir+"/"+value); err != nil {
			return err
		}
	}
	if err := unix.FsconfigCreate(fs); err != nil {
		return err
	}
	mount, err := unix.Fsmount(fs, 0, 0)
	if err != nil {
		return err
	}
	defer unix.Close(mount)
	return unix.MoveMount(mount, "", unix.AT_FDCWD, at, unix.MOVE_MOUNT_F_EMPTY_PATH)
}
