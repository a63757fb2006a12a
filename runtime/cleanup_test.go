package runtime

import (
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"testing"

	"sysbox/uidmap"
)

// TestLeaveTogether: of a pod's containers that are removed at once by delete actions one
// gives back the ids.
func TestLeaveTogether(t *testing.T) {
	d := Dirs{State: t.TempDir(), Data: t.TempDir()}
	for range 20 {
		a, err := openAllocator(d, uidmap.Pool{User: "nobody-has-this-name", Start: 1 << 30, Size: 1 << 20})
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
			if err := r.write(d); err != nil {
				t.Fatal(err)
			}
			records = append(records, r)
		}
		for _, r := range records {
			wg.Go(func() {
				if err := r.leave(t.Context(), d); err != nil {
					t.Error(err)
				}
			})
		}
		wg.Wait()
		if left, _ := filepath.Glob(d.State + "/ids/[or]-*"); len(left) > 0 {
			t.Fatalf("of the ids %v are left", left)
		}
		if _, err := os.Stat(filepath.Join(d.State, "containers", "ns")); err == nil {
			t.Fatal("the namespace's folder is left")
		}
	}
}
