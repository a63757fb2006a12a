package harness

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"runtime"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"sysbox/tests/peers"
)

// stageVariable tells a re-executed test program what it is.
const stageVariable = "SYSBOX_TEST_STAGE"

// Private runs a test program in mount, pid and network namespaces of its own
// and returns its exit code: what it starts is all there is to be seen, so that
// a leak check need not guess what is whose; and it all ends when the program
// does, however it ends. To be called by TestMain and by nobody else, as the
// program is executed anew.
//
// prepare is called outside, where the network is; nil for nothing to prepare. In a
// machine of its own (see [Machine]) it just runs.
func Private(prepare func() error, run func() int) int {
	if Machine() {
		return run()
	}
	var err error
	code := 1
	switch os.Getenv(stageVariable) {
	case "":
		if prepare != nil {
			err = prepare()
		}
		if err == nil {
			code, err = enter()
		}
	case "init":
		code, err = initialize()
	default:
		return run()
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
	}
	return code
}

func again(stage string) *exec.Cmd {
	cmd := exec.CommandContext(context.Background(), "/proc/self/exe", os.Args[1:]...)
	cmd.Args[0] = os.Args[0]
	cmd.Env = append(os.Environ(), stageVariable+"="+stage)
	cmd.Stdin, cmd.Stdout, cmd.Stderr = os.Stdin, os.Stdout, os.Stderr
	return cmd
}

// enter makes the namespaces and waits for what runs in them.
func enter() (int, error) {
	shim, err := peers.Shim()
	if err != nil {
		return 1, err
	}
	// The parent whose death is signalled is a thread.
	runtime.LockOSThread()
	cmd := again("init")
	cmd.Env = append(cmd.Env, "SYSBOX_SHIM_DIR="+shim)
	cmd.SysProcAttr = &syscall.SysProcAttr{
		Cloneflags: unix.CLONE_NEWNS | unix.CLONE_NEWPID | unix.CLONE_NEWNET,
		Pdeathsig:  syscall.SIGTERM,
	}
	err = cmd.Run()
	var exit *exec.ExitError
	switch {
	case err == nil:
		return 0, nil
	case errors.As(err, &exit) && exit.Exited():
		return exit.ExitCode(), nil
	}
	return 1, err
}

// initialize is pid 1: it makes the mounts that the new namespaces need and
// reaps until the tests have ended.
func initialize() (int, error) {
	for _, m := range []struct {
		source, target, fstype string
		flags                  uintptr
	}{
		{"", "/", "", unix.MS_REC | unix.MS_PRIVATE},
		{"proc", "/proc", "proc", unix.MS_NOSUID | unix.MS_NODEV | unix.MS_NOEXEC},
		{"run", "/run/containerd", "tmpfs", unix.MS_NOSUID | unix.MS_NODEV},
		// As under systemd, so that what would spread is seen to spread.
		{"", "/", "", unix.MS_REC | unix.MS_SHARED},
	} {
		if err := os.MkdirAll(m.target, 0o711); err != nil {
			return 1, err
		}
		if err := unix.Mount(m.source, m.target, m.fstype, m.flags, ""); err != nil {
			return 1, fmt.Errorf("mount %s: %w", m.target, err)
		}
	}
	cmd := again("run")
	if err := cmd.Start(); err != nil {
		return 1, err
	}
	orphaned := make(chan os.Signal, 1)
	signal.Notify(orphaned, syscall.SIGTERM)
	go func() {
		<-orphaned
		cmd.Process.Kill()
	}()
	code, err := reap(cmd.Process.Pid)
	// The guards of tests that could not clean up do it now.
	time.AfterFunc(guardTimeout, func() { os.Exit(1) })
	if _, e := reap(0); !errors.Is(e, syscall.ECHILD) {
		err = errors.Join(err, e)
	}
	return code, err
}

// guardTimeout bounds the clean-up after tests that were ended.
const guardTimeout = 30 * time.Second

// reap waits for children until pid has ended, and returns its exit code.
func reap(pid int) (int, error) {
	for {
		var status syscall.WaitStatus
		ended, err := syscall.Wait4(-1, &status, 0, nil)
		switch {
		case err == syscall.EINTR:
		case err != nil:
			return 1, fmt.Errorf("wait for the tests: %w", err)
		case ended == pid && status.Signaled():
			return 1, fmt.Errorf("the tests were ended by %s", status.Signal())
		case ended == pid:
			return status.ExitStatus(), nil
		}
	}
}
