// SPDX-License-Identifier: Apache-2.0

package admin

import (
	"context"
	"log/slog"
	"os"
	"path/filepath"
	"sync"
	"testing"

	"sysbox/runtime"
	"sysbox/tests/testcontainer"
)

// TestTry: a container is made and runs, many at a time beside another, and of none is
// anything left; nor of one that was killed.
func TestTry(t *testing.T) {
	cfg := testcontainer.Config(t)
	p := runtime.NewPod(cfg, slog.Default(), "test", "pod")
	c, err := p.Create(t.Context(), runtime.CreateRequest{ID: "c1", Bundle: testcontainer.Busybox(t, nil, "sleep", "1000")})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := c.Delete(context.Background()); err != nil {
			t.Error(err)
		}
	})
	if err := c.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	killed := filepath.Join(cfg.DataDir, trialMark+"killed")
	if err := os.MkdirAll(killed+"/upper/dev", 0o700); err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	for range 4 {
		wg.Go(func() {
			if err := try(t.Context(), slog.Default(), cfg); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	if left, err := os.ReadDir(cfg.DataDir); err != nil || len(left) > 0 {
		t.Errorf("left are %v, %v", left, err)
	}
	if left, _ := filepath.Glob(cfg.StateDir + "/containers/*/*"); len(left) != 1 {
		t.Errorf("records are %v; want that of the other container", left)
	}
	if left, _ := filepath.Glob(cfg.StateDir + "/ids/r-*"); len(left) != 1 {
		t.Errorf("ranges are %v; want that of the other container", left)
	}
	for _, pattern := range []string{"/sys/fs/cgroup/sysbox/", "/sys/fs/cgroup/*/sysbox/"} {
		if left, _ := filepath.Glob(pattern + trialNamespace + "*"); len(left) > 0 {
			t.Errorf("cgroups are left: %v", left)
		}
	}
}

// TestTryByChown: the same where files have to be chowned.
func TestTryByChown(t *testing.T) {
	cfg := testcontainer.Config(t)
	cfg.Testing.Chown = true
	if err := try(t.Context(), slog.Default(), cfg); err != nil {
		t.Fatal(err)
	}
	if left, err := filepath.Glob(cfg.DataDir + "/*/*"); err != nil || len(left) > 0 {
		t.Errorf("left are %v, %v", left, err)
	}
}

// TestTrialDirs: trials that begin at the same time do not remove each other's directories.
func TestTrialDirs(t *testing.T) {
	parent := t.TempDir()
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			for range 100 {
				dir, unlock, err := trialDir(t.Context(), parent)
				if err != nil {
					t.Error(err)
					return
				}
				if err := os.Remove(dir); err != nil {
					t.Error(err)
				}
				unlock()
			}
		})
	}
	wg.Wait()
}
