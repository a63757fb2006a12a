// SPDX-License-Identifier: Apache-2.0

package daemon

import (
	"errors"
	"fmt"
	"log/slog"
	"os"
	"os/exec"
	"os/signal"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"sysbox/tests/leak"
	"sysbox/tests/pace"
)

// asReaper makes the test binary a reaper of orphans, which a test process
// must not become itself.
const asReaper = "SYSBOX_TEST_REAPER"

func TestMain(m *testing.M) {
	if os.Getenv(asReaper) != "" {
		if err := reapOrphans(); err != nil {
			fmt.Println(err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	os.Exit(leak.Main(m, ""))
}

func TestReaper(t *testing.T) {
	cmd := exec.Command("/proc/self/exe")
	cmd.Env = append(os.Environ(), asReaper+"=1")
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Errorf("%v: %s", err, out)
	}
}

// reapOrphans has orphans reaped, while each exit that somebody waits for
// reaches who waits.
func reapOrphans() error {
	if err := unix.Prctl(unix.PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0); err != nil {
		return err
	}
	// A dead child that the task service knows: never to be taken.
	own := exec.Command("sh", "-c", "exit 5")
	if err := own.Start(); err != nil {
		return err
	}
	r := &reaper{
		known: func(pid int) bool { return pid == own.Process.Pid },
		log:   slog.New(slog.DiscardHandler),
		wake:  make(chan struct{}, 1),
		age:   50 * time.Millisecond,
	}
	go r.run()
	sigs := make(chan os.Signal, 16)
	signal.Notify(sigs, unix.SIGCHLD)
	go func() {
		for range sigs {
			r.poke()
		}
	}()
	for i := range 20 {
		// Each leaves an orphan that dies later.
		err := exec.Command("sh", "-c", fmt.Sprintf("(sleep 0.05; exit 1) & exit %d", i)).Run()
		var exit *exec.ExitError
		if i > 0 && (!errors.As(err, &exit) || exit.ExitCode() != i) || i == 0 && err != nil {
			return fmt.Errorf("command %d: %w", i, err)
		}
	}
	time.Sleep(4 * r.age) // longer than the known child may lie
	var exit *exec.ExitError
	if err := own.Wait(); !errors.As(err, &exit) || exit.ExitCode() != 5 {
		return fmt.Errorf("the known child's exit is %w", err)
	}
	r.poke()
	for end := time.Now().Add(20 * time.Second * pace.Patience()); ; time.Sleep(10 * time.Millisecond) {
		err := unix.Waitid(unix.P_ALL, 0, nil, unix.WEXITED|unix.WNOHANG|unix.WNOWAIT, nil)
		if err == unix.ECHILD {
			return nil
		}
		if time.Now().After(end) {
			return fmt.Errorf("orphans are still there: %w", err)
		}
	}
}
