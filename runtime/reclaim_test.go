// SPDX-License-Identifier: Apache-2.0

package runtime_test

import (
	"errors"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	"golang.org/x/sys/unix"

	"sysbox/runtime"
	"sysbox/runtime/state"
	"sysbox/runtime/sys"
	"sysbox/tests/testcontainer"
)

// orphan makes a container with storage on the host whose shim is dead by its record.
func orphan(t *testing.T, p *testcontainer.Pod, id string) *testcontainer.Container {
	t.Helper()
	s := testcontainer.NewSnapshot(t)
	for _, d := range []string{testcontainer.Docker, "/run"} {
		if err := os.MkdirAll(s.Lower+d, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	r := s.View(t, "sleep 1000")
	r.ID = id
	c := testcontainer.Create(t, p, r)
	if err := c.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	return c
}

// dies has a container's shim end as far as others see: its record names another
// process, and its locks are gone.
func dies(t *testing.T, c *testcontainer.Container) {
	t.Helper()
	dead := exec.CommandContext(t.Context(), "true")
	if err := dead.Run(); err != nil {
		t.Fatal(err)
	}
	c.Container.Record().Shim.Pid = dead.ProcessState.Pid()
	if err := c.Container.Record().Write(c.Pod.Config.Dirs()); err != nil {
		t.Fatal(err)
	}
	c.LetGo()
}

// TestReclaim: what a dead shim has left is removed, by many at the same time, once;
// nothing is touched of a container whose shim lives, though its record were lost.
func TestReclaim(t *testing.T) {
	p := testcontainer.NewPod(t)
	lost, alive := orphan(t, p, "lost"), orphan(t, p.Beside("other"), "alive")
	elsewhere := orphan(t, p.Beside("third"), "elsewhere")
	elsewhere.Container.Record().PIDNS++
	dies(t, elsewhere)
	dies(t, lost)
	record, err := state.Path(p.Config.Dirs(), "test", "alive")
	if err == nil {
		err = os.Rename(record, record+".kept")
	}
	if err != nil {
		t.Fatal(err)
	}
	// Of a reboot.
	old := filepath.Join(p.Config.DataDir, "storage/gone/old")
	if err := os.MkdirAll(old+"/var-lib-docker/x", 0o700); err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	var mu sync.Mutex
	var removed []string
	for range 4 {
		wg.Go(func() {
			list, err := runtime.Reclaim(t.Context(), slog.Default())
			if err != nil {
				t.Error(err)
			}
			mu.Lock()
			removed = append(removed, list...)
			mu.Unlock()
		})
	}
	wg.Wait()
	slices.Sort(removed)
	name, _ := state.Path(p.Config.Dirs(), "test", "lost")
	if got, want := strings.Join(slices.Compact(slices.Clone(removed)), " "), old+" the container of "+name; got != want {
		t.Errorf("removed %q, want %q", removed, want)
	}
	if n := strings.Count(strings.Join(removed, " "), name); n != 1 {
		t.Errorf("the container was removed %d times", n)
	}
	for _, gone := range []string{name, lost.Container.Record().Storage, filepath.Dir(old)} {
		if sys.Exists(gone) {
			t.Errorf("%s is there still", gone)
		}
	}
	if exit := testcontainer.Wait(t, lost.Init()); exit.Status != 128+int(unix.SIGKILL) {
		t.Errorf("the dead shim's container ended with %d", exit.Status)
	}
	for _, c := range []*testcontainer.Container{alive, elsewhere} {
		if err := unix.Kill(c.Init().Pid(), 0); err != nil || !sys.Exists(c.Container.Record().Storage) {
			t.Errorf("container %s: %v, or its storage is gone", c.ID(), err)
		}
	}
	if err := os.Rename(record+".kept", record); err != nil {
		t.Fatal(err)
	}
}

// TestReclaimOnce: of many shims one looks, and not again for a while.
func TestReclaimOnce(t *testing.T) {
	cfg := testcontainer.NewPod(t).Config
	if err := cfg.Dirs().Register(); err != nil {
		t.Fatal(err)
	}
	left := filepath.Join(cfg.DataDir, "storage/test/c1")
	for i := range 2 {
		if err := os.MkdirAll(left, 0o700); err != nil {
			t.Fatal(err)
		}
		if err := runtime.ReclaimOnce(t.Context(), slog.Default()); err != nil {
			t.Fatal(err)
		}
		if there := sys.Exists(left); there != (i == 1) {
			t.Errorf("look %d: the folder is there: %v", i, there)
		}
	}
}

// TestReclaimedWhileCleaned: the caller's clean-up and ours do not meet.
func TestReclaimedWhileCleaned(t *testing.T) {
	p := testcontainer.NewPod(t)
	c := orphan(t, p, "c1")
	dies(t, c)
	var wg sync.WaitGroup
	for range 3 {
		wg.Go(func() {
			_, err := runtime.Cleanup(t.Context(), slog.Default(), p.Config.Dirs(), "test", "c1")
			_, err2 := runtime.Reclaim(t.Context(), slog.Default())
			if err := errors.Join(err, err2); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	if sys.Exists(c.Container.Record().Storage) {
		t.Error("the storage is there still")
	}
}
