package runtime

import (
	"os"
	"path/filepath"
	"sync"
	"testing"
)

// TestTry: a container is made and runs, many at a time beside another, and of none is
// anything left; nor of one that was killed.
func TestTry(t *testing.T) {
	p := testPod(t, "pod")
	c := create(t, p, CreateRequest{ID: "c1", Bundle: busybox(t, nil, "sleep", "1000")})
	if err := c.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	killed := filepath.Join(p.cfg.DataDir, trialMark+"killed")
	if err := os.MkdirAll(killed+"/upper/dev", 0o700); err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	for range 4 {
		wg.Go(func() {
			if err := Try(t.Context(), p.cfg); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	if left, err := os.ReadDir(p.cfg.DataDir); err != nil || len(left) > 0 {
		t.Errorf("left are %v, %v", left, err)
	}
	if left, _ := filepath.Glob(p.cfg.StateDir + "/containers/*/*"); len(left) != 1 {
		t.Errorf("records are %v; want that of the other container", left)
	}
	if left, _ := filepath.Glob(p.cfg.StateDir + "/ids/r-*"); len(left) != 1 {
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
	p := testPod(t, "pod")
	forceChown = true
	defer func() { forceChown = false }()
	if err := Try(t.Context(), p.cfg); err != nil {
		t.Fatal(err)
	}
	if left, err := filepath.Glob(p.cfg.DataDir + "/*/*"); err != nil || len(left) > 0 {
		t.Errorf("left are %v, %v", left, err)
	}
}
