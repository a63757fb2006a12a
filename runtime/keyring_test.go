package runtime

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	goruntime "runtime"
	"strings"
	"testing"
	"time"

	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"sysbox/tests/pace"
)

const (
	plantedKey = "sysbox-test-secret"
	plantedEnv = "TEST_PLANTED"
)

func init() {
	routines["keyring"] = tellKeyring
	routines["keyring-init"] = func() error {
		if err := tellKeyring(); err != nil {
			return err
		}
		time.Sleep(time.Hour)
		return nil
	}
	routines["keyring-leave"] = func() error {
		goruntime.LockOSThread()
		if _, err := unix.KeyctlJoinSessionKeyring("sysbox-test"); err != nil {
			return err
		}
		// This thread alone has left the keyring: an execve ends the others.
		return unix.Exec("/bin/sleep", []string{"sleep", "1000"}, nil)
	}
	routines["keyring-trap"] = func() error {
		goruntime.LockOSThread()
		ring, err := unix.KeyctlJoinSessionKeyring("_ses.c1")
		if err != nil {
			return err
		}
		if err := unix.KeyctlSetperm(ring, 0x3f3f3f3f); err != nil {
			return err
		}
		fmt.Println(ring)
		return unix.Exec("/bin/sleep", []string{"sleep", "1000"}, nil)
	}
}

// tellKeyring prints the session keyring's number, and whether the planted key can be
// found from it.
func tellKeyring() error {
	ring, err := unix.KeyctlGetKeyringID(unix.KEY_SPEC_SESSION_KEYRING, false)
	if err != nil {
		return err
	}
	_, err = unix.KeyctlSearch(unix.KEY_SPEC_SESSION_KEYRING, "user", plantedKey, 0)
	fmt.Println(ring, err == nil)
	return nil
}

// TestKeyring: no process of a container has the shim's session keyring; those of one
// container share one of its own, which nothing in the container can put another in
// the place of.
func TestKeyring(t *testing.T) {
	if os.Getuid() != 0 {
		t.Skip("makes containers, which takes root")
	}
	if os.Getenv(plantedEnv) == "" {
		// A keyring is a thread's own; a new process has that of the thread that made it.
		goruntime.LockOSThread()
		_, err := unix.KeyctlJoinSessionKeyring("sysbox-test")
		if err == unix.ENOSYS {
			t.Skip("this kernel has no keyrings")
		}
		if err == nil {
			_, err = unix.AddKey("user", plantedKey, []byte("secret"), unix.KEY_SPEC_SESSION_KEYRING)
		}
		if err != nil {
			t.Fatal(err)
		}
		cmd := exec.Command("/proc/self/exe", "-test.run=^TestKeyring$", "-test.v")
		cmd.Env = append(os.Environ(), plantedEnv+"=1")
		if out, err := cmd.CombinedOutput(); err != nil || !bytes.Contains(out, []byte("--- PASS: TestKeyring")) {
			t.Errorf("%v\n%s", err, out)
		}
		return
	}
	if _, err := unix.KeyctlSearch(unix.KEY_SPEC_SESSION_KEYRING, "user", plantedKey, 0); err != nil {
		t.Fatalf("the key is not where it was planted: %v", err)
	}
	bundle := insideBundle(t, "keyring-init", func(s *specs.Spec) {
		s.Hooks = &specs.Hooks{StartContainer: []specs.Hook{{
			Path: "/bin/sh", Args: []string{"sh", "-c", insideEnv + "=keyring exec /bin/inside >/hook"},
		}}}
	})
	r, w := lines(t)
	c := create(t, testPod(t, "pod"), CreateRequest{ID: "c1", Bundle: bundle, Stdio: Stdio{Stdout: w, Stderr: w}})
	if err := c.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	init := r()
	if !strings.HasSuffix(init, " false") {
		t.Errorf("init: %q", init)
	}
	for _, uid := range []uint32{0, 1000} {
		if got := execInside(t, c, "keyring", uid); got != init+"\n" {
			t.Errorf("exec of user %d: %q, init has %q", uid, got, init)
		}
	}
	if got, err := os.ReadFile(filepath.Join(bundle, "rootfs/hook")); err != nil || string(got) != init+"\n" {
		t.Errorf("startContainer hook: %q, %v, init has %q", got, err, init)
	}
}

// TestKeyringTrap: a user of the container who makes a keyring of the name that execs
// join, once init has left the real one, does not get root into it.
func TestKeyringTrap(t *testing.T) {
	c := create(t, testPod(t, "pod"), CreateRequest{ID: "c1", Bundle: insideBundle(t, "keyring-leave", func(s *specs.Spec) {
		// In a system container the listener of init's filter keeps init's keyring alive.
		s.Process.Env = append(s.Process.Env, "SYSBOX_SYSCONT_MODE=FALSE")
	})})
	if err := c.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	goesOn(t, c.Init())
	// What the kernel frees later still holds it.
	for end := time.Now().Add(time.Minute * pace.Patience()); ; time.Sleep(10 * time.Millisecond) {
		if _, err := unix.KeyctlString(unix.KEYCTL_DESCRIBE, int(c.keyring.Serial)); err == unix.ENOKEY {
			break
		}
		if time.Now().After(end) {
			t.Fatal("init's keyring does not go away")
		}
	}
	r, w := lines(t)
	p, err := c.Exec(t.Context(), ExecRequest{Process: insideProcess("keyring-trap", 1000), Stdio: Stdio{Stdout: w, Stderr: w}})
	if err != nil {
		t.Fatal(err)
	}
	trap := r()
	goesOn(t, p)
	if ring := strings.Fields(execInside(t, c, "keyring", 0))[0]; ring == trap {
		t.Errorf("root's exec has the keyring %s that a user has made", ring)
	}
	p.Signal(int(unix.SIGKILL))
	wait(t, p)
}

// goesOn waits until a routine has executed sleep.
func goesOn(t *testing.T, p *Process) {
	t.Helper()
	comm := fmt.Sprintf("/proc/%d/comm", p.Pid())
	for end := time.Now().Add(time.Minute * pace.Patience()); ; time.Sleep(time.Millisecond) {
		if b, _ := os.ReadFile(comm); string(b) == "sleep\n" {
			return
		}
		if time.Now().After(end) {
			t.Fatal("it does not go on")
		}
	}
}

func insideProcess(routine string, uid uint32) *specs.Process {
	return &specs.Process{
		Args: []string{"/bin/inside"}, Cwd: "/", Env: []string{"PATH=/bin", insideEnv + "=" + routine},
		User: specs.User{UID: uid, GID: uid},
	}
}

// execInside runs a routine in a container and returns what it printed.
func execInside(t *testing.T, c *Container, routine string, uid uint32) string {
	t.Helper()
	w, text := pipe(t)
	p, err := c.Exec(t.Context(), ExecRequest{Process: insideProcess(routine, uid), Stdio: Stdio{Stdout: w, Stderr: w}})
	if err != nil {
		t.Fatal(err)
	}
	wait(t, p)
	return text()
}

// lines reads what a process that goes on writes, line by line.
func lines(t *testing.T) (next func() string, w *os.File) {
	t.Helper()
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { w.Close(); r.Close() })
	return func() string {
		var line []byte
		for b := make([]byte, 1); ; line = append(line, b[0]) {
			r.SetReadDeadline(time.Now().Add(time.Minute * pace.Patience()))
			if _, err := r.Read(b); err != nil {
				t.Fatalf("read a line: %v, after %q", err, line)
			}
			if b[0] == '\n' {
				return string(line)
			}
		}
	}, w
}
