// SPDX-License-Identifier: Apache-2.0

package trap_test

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	goruntime "runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"sysbox/runtime"
	"sysbox/runtime/config"
	"sysbox/tests/pace"
	"sysbox/tests/testcontainer"
)

// diskBundle is a bundle with a block device, and with a server of ext4, a script.
func diskBundle(t *testing.T, rdev uint64, server string, change func(*specs.Spec), args ...string) string {
	t.Helper()
	bundle := testcontainer.Busybox(t, func(s *specs.Spec) {
		testcontainer.WithBlock(rdev)(s)
		s.Mounts = append(s.Mounts, specs.Mount{Destination: "/tmp", Type: "tmpfs", Source: "tmpfs", Options: []string{"mode=1777"}})
		if change != nil {
			change(s)
		}
	}, args...)
	root := filepath.Join(bundle, "rootfs")
	for _, d := range []string{"usr/bin", "mnt", "a,b"} {
		if err := os.MkdirAll(filepath.Join(root, d), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	for _, a := range []string{"rm", "ln", "cp", "chroot", "tr", "wc", "setpriv", "sed", "cmp", "sort", "seq", "killall"} {
		if err := os.Symlink("busybox", filepath.Join(root, "bin", a)); err != nil {
			t.Fatal(err)
		}
	}
	at := filepath.Join(root, "usr/bin/server")
	if to, isLink := strings.CutPrefix(server, "-> "); isLink {
		if err := os.Symlink(to, at); err != nil {
			t.Fatal(err)
		}
	} else if server != "" {
		if err := os.WriteFile(at, []byte("#!/bin/sh\nPATH=/bin\n"+server+"\n"), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	return bundle
}

// diskPod lets containers have a block device and mount ext4 from it.
func diskPod(t *testing.T, path string, change ...func(*config.Config)) *testcontainer.Pod {
	return testcontainer.NewPod(t, append(change, func(c *config.Config) {
		c.BlockDevices = []string{path}
		c.FUSEMounts = map[string]string{"ext4": "server -x"}
	})...)
}

const (
	// serves is a server that writes down how it was called and makes a mount.
	serves = `echo "$@" >/tmp/args; for d; do :; done; mount -t tmpfs served "$d"; echo there >"$d/file"`
	// asked tells what a mount answered, and whether there was a server.
	asked = "mount -t ext4 /dev/disk /mnt 2>&1; cat /mnt/file /tmp/args 2>/dev/null; true"

	refusedByKernel = "mount: permission denied (are you root?)\n"
)

// TestFUSEMounts: who mounts a block device that the container was given is served by the
// container's own server, if the configuration has one; what the caller can do otherwise
// stays the kernel's to refuse.
func TestFUSEMounts(t *testing.T) {
	path, rdev := testcontainer.LoopDevice(t, 1<<20)
	_, other := testcontainer.LoopDevice(t, 1<<20)
	const plain = "-x -o allow_other,default_permissions,rw,suid,dev /dev/disk /mnt\n"
	nodes := t.TempDir()
	if err := unix.Mknod(filepath.Join(nodes, "other"), unix.S_IFBLK|0o666, int(other)); err != nil {
		t.Fatal(err)
	}
	number := fmt.Sprint(unix.Major(rdev), " ", unix.Minor(rdev))
	honoured := func(caps ...string) func(*specs.Spec) {
		return func(s *specs.Spec) {
			s.Process.Env = append(s.Process.Env, "SYSBOX_HONOR_CAPS=TRUE")
			s.Process.Capabilities = &specs.LinuxCapabilities{Bounding: caps, Effective: caps, Permitted: caps, Inheritable: caps, Ambient: caps}
		}
	}
	for _, c := range []struct {
		name   string
		change func(*specs.Spec)
		server string
		script string
		want   string
		log    string // what the log has to have; "": no word of a server
	}{
		{"a mount", nil, serves, asked, "there\n" + plain, ""},
		{
			"its flags", nil, serves, "mount -t ext4 -o ro,nosuid,nodev,noexec,noatime,sync,dirsync /dev/disk /mnt; cat /tmp/args; touch /mnt/x 2>&1; grep -c ' /mnt tmpfs ro,' /proc/mounts",
			"-x -o allow_other,default_permissions,ro,nosuid,nodev,noexec,sync,dirsync,noatime /dev/disk /mnt\ntouch: /mnt/x: Read-only file system\n1\n", "",
		},
		{"options", nil, serves, "mount -t ext4 -o uid=5,umask=022,norecovery /dev/disk /mnt; cat /tmp/args", "-x -o allow_other,default_permissions,rw,suid,dev,uid=5,umask=022,norecovery /dev/disk /mnt\n", ""},
		{"links and relative paths", nil, serves, "ln -s /dev/disk /tmp/-l; ln -s /mnt /tmp/-m; cd /tmp; mount -t ext4 -- ./-l ./-m && cat /tmp/args; umount /mnt; cd /dev; mount -t ext4 disk ../mnt && cat /tmp/args", plain + plain, ""},
		{"by the caller's own folder in /proc", nil, serves, "exec 5</mnt 6</tmp; mount -t ext4 /dev/disk /proc/self/fd/5 && cat /tmp/args", plain, ""},
		{"a folder with a comma", nil, serves, "mount -t ext4 /dev/disk /a,b && cat /tmp/args", "-x -o allow_other,default_permissions,rw,suid,dev /dev/disk /a,b\n", ""},
		{"mounts that are unmounted, again and again", nil, serves, "for i in 1 2 3; do mount -t ext4 /dev/disk /mnt && umount /mnt && echo $i; done", "1\n2\n3\n", ""},
		{
			"a server's rights", nil, "grep -E '^(Uid|Gid|Groups|Cap|NoNewPrivs|Seccomp_f)' /proc/self/status | tr '\\n' ' ' >/tmp/args; umask >>/tmp/args; exit 1", "umask 027; mount -t ext4 /dev/disk /mnt 2>/dev/null; grep -E '^(Uid|Gid|Groups|CapEff|NoNewPrivs|Seccomp_f)' /proc/self/status | tr '\\n' ' ' >/tmp/own; umask >>/tmp/own; E=$(grep -o 'CapEff.*' /proc/self/status); for x in Inh Prm Bnd Amb; do grep -c \"Cap$x${E#CapEff}\" /tmp/args; done; sed 's/Cap[IPBA][a-z]*:\\t[0-9a-f]* //g; s/ters:\\t0/ters:\\t1/' /tmp/args | cmp - /tmp/own && echo same",
			"1\n1\n1\n1\nsame\n", "exit status 1",
		},
		{"a server's rights, of a caller with few", honoured("CAP_SYS_ADMIN", "CAP_CHOWN"), "grep ^Cap /proc/self/status | sort -u -k2 | wc -l >/tmp/args; grep CapBnd /proc/self/status >>/tmp/args; exit 1", "mount -t ext4 /dev/disk /mnt 2>/dev/null; cat /tmp/args", "1\nCapBnd:\t0000000000200001\n", "exit status 1"},
		{"a server's limits", nil, "ulimit -n >/tmp/args; exit 1", "ulimit -n 77; mount -t ext4 /dev/disk /mnt 2>/dev/null; cat /tmp/args", "77\n", "exit status 1"},

		{"a profile of the spec's", deny("chown", "fchownat", "lchown"), "chown 1 /tmp 2>/tmp/args; exit 1", "mount -t ext4 /dev/disk /mnt 2>/dev/null; cat /tmp/args", "chown: /tmp: Directory not empty\n", "exit status 1"},

		{"another type", nil, serves, "mount -t ext3 /dev/disk /mnt 2>&1; ls /tmp", refusedByKernel, ""},
		{
			"no device", nil, serves, "for x in /dev/null /etc/passwd /tmp none; do mount -t ext4 $x /mnt 2>&1; done; mount -t ext4 /dev/disk /nowhere 2>&1; mount -t ext4 /dev/disk /etc/passwd 2>&1; ls /tmp",
			strings.Repeat(refusedByKernel, 3) + "mount: mounting none on /mnt failed: No such file or directory\nmount: mounting /dev/disk on /nowhere failed: No such file or directory\nmount: mounting /dev/disk on /etc/passwd failed: Not a directory\n", "",
		},
		{"a device with a name that would be an option", nil, serves, "mkdir /tmp/d; cd /tmp/d; mknod 'x,allow_root' b " + number + "; mount -t ext4 'x,allow_root' /mnt 2>&1; ls /tmp", refusedByKernel + "d\n", ""},
		{"options that would be the server's", nil, serves, "for o in allow_root uid=-o modules=x subtype=a fsname=b 'umask=22 -o x' fd=3 errors=continue; do mount -t ext4 -o \"$o\" /dev/disk /mnt 2>&1; done; ls /tmp", strings.Repeat("mount: mounting /dev/disk on /mnt failed: Invalid argument\n", 8), "allow_root"},
		{"no server in the container", nil, "", asked, refusedByKernel, "executable file not found"},
		{"a server that is a folder's link", nil, "-> /tmp", asked, refusedByKernel, "server"},
		{"a server that leads to the runtime's own program", nil, "-> /proc/self/exe", asked, "mount: mounting /dev/disk on /mnt failed: Invalid argument\n", "server"},
		{"a server that leads to the host by init", nil, "-> /proc/1/root/../../../bin/hostname", asked, "mount: mounting /dev/disk on /mnt failed: Invalid argument\n", "server"},
		{"a server that fails", nil, "echo it is broken >&2; exit 3", asked, "mount: mounting /dev/disk on /mnt failed: Invalid argument\n", `exit status 3: \"it is broken`},
		{"a server that says too much", nil, "head -c 1000000 /dev/zero | tr '\\0' x; exit 4", asked, "mount: mounting /dev/disk on /mnt failed: Invalid argument\n", "exit status 4"},
		{"a server that is killed", nil, "kill -9 $$", asked, "mount: mounting /dev/disk on /mnt failed: Invalid argument\n", "exit status 137"},
		{"a server that lies", nil, "echo nothing there", asked, "mount: mounting /dev/disk on /mnt failed: Invalid argument\n", "the file system is not mounted"},
		{"a server that keeps its output", nil, serves + "; sleep 1000 &", asked, "there\n" + plain, ""},
		{"a server that mounts elsewhere", nil, "mount -t tmpfs x /root", asked, "mount: mounting /dev/disk on /mnt failed: Invalid argument\n", "the file system is not mounted"},

		{"a device that it was not given", func(s *specs.Spec) {
			s.Mounts = append(s.Mounts, specs.Mount{Destination: "/nodes", Type: "bind", Source: nodes, Options: []string{"bind"}})
		}, serves, "stat -c %F /nodes/other; mount -t ext4 /nodes/other /mnt 2>&1; ls /tmp", "block special file\n" + refusedByKernel, ""},
		{"without CAP_SYS_ADMIN", honoured("CAP_MKNOD", "CAP_DAC_OVERRIDE"), serves, asked, refusedByKernel, ""},
		{"an ordinary user", asUser, serves, asked, refusedByKernel, ""},
		{"an ordinary container", func(s *specs.Spec) {
			testcontainer.Ordinary(s)
			s.Process.Capabilities = &specs.LinuxCapabilities{Bounding: []string{"CAP_SYS_ADMIN"}, Effective: []string{"CAP_SYS_ADMIN"}, Permitted: []string{"CAP_SYS_ADMIN"}}
		}, serves, asked, refusedByKernel, ""},
		{"a nested user namespace", nil, serves, "unshare -Ur sh -c '" + asked + "'; unshare -Urm sh -c '" + asked + "'", refusedByKernel + refusedByKernel, ""},
		{"other namespaces", nil, serves, "for n in m p u i n; do unshare -$n sh -c '" + asked + "'; done", strings.Repeat(refusedByKernel, 5), ""},
		{"another root", nil, serves, "mkdir -p /tmp/r/bin /tmp/r/mnt /tmp/r/dev; cp /bin/busybox /tmp/r/bin; mknod /tmp/r/dev/disk b " + number + "; chroot /tmp/r /bin/busybox mount -t ext4 /dev/disk /mnt 2>&1; ls /tmp", refusedByKernel + "r\n", ""},
		{"who has given up to gain privileges", nil, serves, "setpriv --nnp sh -c '" + asked + "'", refusedByKernel, ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			p := diskPod(t, path)
			w, text := testcontainer.Pipe(t)
			box := testcontainer.Create(t, p, runtime.CreateRequest{ID: "c1", Bundle: diskBundle(t, rdev, c.server, c.change, "sh", "-c", c.script), Stdio: runtime.Stdio{Stdout: w, Stderr: w}})
			if err := box.Start(t.Context()); err != nil {
				t.Fatal(err)
			}
			testcontainer.Wait(t, box.Init())
			if out := text(); out != c.want {
				t.Errorf("output:\n%s\nwant:\n%s", out, c.want)
			}
			if got := p.Said(); c.log != "" && !strings.Contains(got, c.log) || c.log == "" && strings.Contains(got, "server") {
				t.Errorf("the log: %s\nwant: %q", got, c.log)
			}
		})
	}
}

// TestFUSEServerNeverReady: a server that never gets ready ends with its caller, with its
// time, for a freeze, or with the container; meanwhile other calls are answered.
func TestFUSEServerNeverReady(t *testing.T) {
	t.Parallel()
	path, rdev := testcontainer.LoopDevice(t, 1<<20)
	hangs := "[ -e /tmp/go ] && { " + serves + "; exit; }; echo $$ >/tmp/server; sleep 1000"
	p := diskPod(t, path)
	c := testcontainer.Create(t, p, runtime.CreateRequest{ID: "c1", Bundle: diskBundle(t, rdev, hangs, nil, "sleep", "1000")})
	if err := c.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	const (
		started = "while ! [ -s /tmp/server ]; do sleep 0.02; done; "
		ended   = "while kill -0 $(cat /tmp/server) 2>/dev/null; do sleep 0.02; done; rm /tmp/server; echo ended"
	)
	mounting := func() (*runtime.Process, func() string) {
		return c.Executed(t, testcontainer.Command("mount", "-t", "ext4", "/dev/disk", "/mnt"))
	}

	c.Pod.Config.Testing.ServerDeadline = time.Hour
	caller, _ := mounting()
	if out := c.Script(t, started+"mknod /root/n c 1 3 && mount --bind /dev /root && echo others"); out != "others\n" {
		t.Errorf("while a server sets up: %s", out)
	}
	caller.Signal(int(unix.SIGKILL))
	testcontainer.Wait(t, caller)
	if out := c.Script(t, ended); out != "ended\n" {
		t.Errorf("after its caller's end: %s", out)
	}

	c.Pod.Config.Testing.ServerDeadline = time.Second
	caller, text := mounting()
	exit := testcontainer.Wait(t, caller)
	c.Pod.Config.Testing.ServerDeadline = time.Hour
	if out := text(); exit.Status == 0 || !strings.Contains(out, "I/O error") && !strings.Contains(out, "Input/output error") {
		t.Errorf("after its time: exit status %d, %s", exit.Status, out)
	}
	if out := c.Script(t, started+ended); out != "ended\n" {
		t.Errorf("after its time: %s", out)
	}
	if got := p.Said(); !strings.Contains(got, "not ready in time") {
		t.Errorf("the log: %s", got)
	}

	caller, _ = mounting()
	c.Script(t, started)
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute*pace.Patience())
	defer cancel()
	if err := errors.Join(c.Pause(ctx), c.Resume(ctx)); err != nil {
		t.Errorf("a freeze while a server sets up: %v", err)
	}
	if exit := testcontainer.Wait(t, caller); exit.Status == 0 {
		t.Error("a server that a freeze has waited for was ready")
	}
	c.Script(t, ended)

	if out := c.Script(t, "touch /tmp/go; "+asked+"; umount /mnt; rm /tmp/go"); !strings.HasPrefix(out, "there\n") {
		t.Errorf("after all: %s", out)
	}
	mounting()
	c.Script(t, started) // and the container is deleted
}

// TestFUSEDeviceInUse: a device that a server is still writing to is waited for.
func TestFUSEDeviceInUse(t *testing.T) {
	t.Parallel()
	path, rdev := testcontainer.LoopDevice(t, 1<<20)
	held, err := os.OpenFile(path, os.O_RDONLY|unix.O_EXCL, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer held.Close()
	received := make(chan bool)
	pod := diskPod(t, path, onReceived(func(int) { close(received) }))
	c := testcontainer.Create(t, pod, runtime.CreateRequest{ID: "c1", Bundle: diskBundle(t, rdev, serves, nil, "sleep", "1000")})
	if err := c.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	p, text := c.Executed(t, testcontainer.Command("sh", "-c", asked))
	<-received
	if out := c.Script(t, "sleep 0.3; ls /tmp"); out != "" {
		t.Errorf("while another has it there is %s", out)
	}
	held.Close()
	testcontainer.Wait(t, p)
	if out := text(); !strings.HasPrefix(out, "there\n") {
		t.Errorf("output: %s", out)
	}
}

// TestFUSECrowd: very many mounts at once are made, a few at a time.
func TestFUSECrowd(t *testing.T) {
	t.Parallel()
	path, rdev := testcontainer.LoopDevice(t, 1<<20)
	w, text := testcontainer.Pipe(t)
	c := testcontainer.Create(t, diskPod(t, path), runtime.CreateRequest{ID: "c1", Stdio: runtime.Stdio{Stdout: w, Stderr: w}, Bundle: diskBundle(t, rdev, `for d; do :; done; mount -t tmpfs served "$d"`, nil,
		"sh", "-c", "for i in $(seq 100); do mkdir /tmp/$i; mount -t ext4 /dev/disk /tmp/$i & done; wait; grep -c ^served /proc/mounts")})
	if err := c.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	testcontainer.Wait(t, c.Init())
	if out := text(); out != "100\n" {
		t.Errorf("output: %s", out)
	}
}

// TestFUSEFlip: another thread changes the paths while they are looked at: no server is
// called for anything but the device. And a process under a filter of its own gets the
// kernel's answer: a server would not have the filter.
func TestFUSEFlip(t *testing.T) {
	t.Parallel()
	path, rdev := testcontainer.LoopDevice(t, 1<<20)
	w, text := testcontainer.Pipe(t)
	bundle := diskBundle(t, rdev, `echo "$4 $5" >>/tmp/args; exit 1`, func(s *specs.Spec) {
		s.Process.Env = append(s.Process.Env, fuseFlipInside.Env())
	}, testcontainer.Program)
	testcontainer.AddProgram(t, bundle)
	c := testcontainer.Create(t, diskPod(t, path), runtime.CreateRequest{ID: "c1", Bundle: bundle, Stdio: runtime.Stdio{Stdout: w, Stderr: w}})
	if err := c.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	if exit := testcontainer.Wait(t, c.Init()); exit.Status != 0 {
		t.Error(text())
	}
}

var fuseFlipInside = testcontainer.Inside("fuse flip", func() error {
	source, target := []byte("/dev/disk\x00"), []byte("/mnt\x00")
	typ := []byte("ext4\x00")
	stop := make(chan struct{})
	var flipping sync.WaitGroup
	flipping.Go(func() {
		for {
			select {
			case <-stop:
				return
			default:
			}
			copy(source, "/dev/zero")
			copy(target, "/bin")
			copy(source, "/dev/disk")
			copy(target, "/mnt")
		}
	})
	try := func() unix.Errno {
		_, _, e := unix.Syscall6(unix.SYS_MOUNT, address(source), address(target), address(typ), 0, 0, 0)
		return e
	}
	served := 0
	for range 200 {
		switch e := try(); e {
		case unix.EINVAL:
			served++
		case unix.EPERM, unix.ENOENT:
		default:
			return fmt.Errorf("a mount: %w", e)
		}
	}
	close(stop)
	flipping.Wait()
	b, err := os.ReadFile("/tmp/args")
	if err != nil {
		return err
	}
	lines := strings.Split(strings.TrimSpace(string(b)), "\n")
	for _, l := range lines {
		if l != "/dev/disk /mnt" && l != "/dev/disk /bin" {
			return fmt.Errorf("a server was called with %q", l)
		}
	}
	if served == 0 || served == 200 || served != len(lines) {
		return fmt.Errorf("%d calls were served, %d servers called", served, len(lines))
	}
	goruntime.LockOSThread()
	if _, _, e := unix.RawSyscall6(unix.SYS_PRCTL, unix.PR_SET_SECCOMP, unix.SECCOMP_MODE_FILTER, address(allowAll()), 0, 0, 0); e != 0 {
		return fmt.Errorf("install a filter: %w", e)
	}
	if e := try(); e != unix.EPERM {
		return fmt.Errorf("under a filter: %w", e)
	}
	return nil
})

// allowAll is struct sock_fprog of a filter that allows everything.
func allowAll() []byte {
	program := binary.LittleEndian.AppendUint32([]byte{0x06, 0, 0, 0}, 0x7fff0000) // return SECCOMP_RET_ALLOW
	keep = append(keep, program)
	return binary.LittleEndian.AppendUint64(binary.LittleEndian.AppendUint64(nil, 1), uint64(address(program)))
}

// keep are arguments of calls that have addresses of each other.
var keep [][]byte
