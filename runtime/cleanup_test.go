package runtime

import (
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"testing"
)

// TestLeaveTogether: of a pod's containers that are removed at once by delete actions one
// gives back the ids.
func TestLeaveTogether(t *testing.T) {
	cfg := &Config{StateDir: t.TempDir(), IDs: IDConfig{User: "nobody-has-this-name", Size: 1 << 18, PoolStart: 1 << 30, PoolSize: 1 << 20}}
	for range 20 {
		a, err := openAllocator(cfg)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := a.Acquire("ns/pod"); err != nil {
			t.Fatal(err)
		}
		a.Close()
		var wg sync.WaitGroup
		var records []*record
		for i := range 4 {
			r := &record{Namespace: "ns", ID: fmt.Sprintf("c%d", i), Sandbox: "pod", IDOwner: "ns/pod"}
			if err := r.write(cfg); err != nil {
				t.Fatal(err)
			}
			records = append(records, r)
		}
		for _, r := range records {
			wg.Go(func() {
				if err := r.leave(t.Context(), cfg); err != nil {
					t.Error(err)
				}
			})
		}
		wg.Wait()
		left, _ := filepath.Glob(filepath.Join(cfg.StateDir, "*", "*"))
		if len(left) != 1 || filepath.Base(left[0]) != "lock" {
			t.Fatalf("left are %v; want the lock of the ids alone", left)
		}
		if _, err := os.Stat(filepath.Join(cfg.StateDir, "containers", "ns")); err == nil {
			t.Fatal("the namespace's folder is left")
		}
	}
}
