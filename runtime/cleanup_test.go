// SPDX-License-Identifier: Apache-2.0

package runtime_test

import (
	"fmt"
	"hash/crc32"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"sysbox/runtime"
	"sysbox/runtime/state"
	"sysbox/uidmap"
)

// TestLeaveTogether: of a pod's containers that are removed at once by delete actions one
// gives back the ids.
func TestLeaveTogether(t *testing.T) {
	if os.Getuid() != 0 {
		t.Skip("writes to the list of the host's directories, which takes root")
	}
	d := state.Dirs{State: t.TempDir(), Data: t.TempDir()}
	for range 20 {
		a, err := runtime.OpenAllocator(d, uidmap.Pool{User: "nobody-has-this-name", Start: 1 << 30, Size: 1 << 20})
		if err != nil {
			t.Fatal(err)
		}
		if _, err := a.Acquire("ns/pod"); err != nil {
			t.Fatal(err)
		}
		a.Close()
		var wg sync.WaitGroup
		var records []*state.Record
		for i := range 4 {
			r := &state.Record{Namespace: "ns", ID: fmt.Sprintf("c%d", i), Sandbox: "pod", IDOwner: "ns/pod"}
			if err := r.Write(d); err != nil {
				t.Fatal(err)
			}
			records = append(records, r)
		}
		for _, r := range records {
			wg.Go(func() {
				if err := runtime.Leave(t.Context(), slog.Default(), d, r); err != nil {
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

// TestDamagedRecords: a container of which nothing was recorded yet is cleaned up, and a record
// that is damaged, or of a later version, is told of and left.
func TestDamagedRecords(t *testing.T) {
	if os.Getuid() != 0 {
		t.Skip("writes to the list of the host's directories, which takes root")
	}
	d := state.Dirs{State: t.TempDir(), Data: t.TempDir()}
	r := &state.Record{Namespace: "ns", ID: "c1", Sandbox: "pod", Bundle: "/b"}
	if err := r.Write(d); err != nil {
		t.Fatal(err)
	}
	later := []byte(`{"version":99,"namespace":"ns","id":"later","sandbox":"other"}`)
	dir := filepath.Join(d.State, "containers", "ns")
	for name, content := range map[string]string{
		"empty": "", "begun": "\n0123", "damaged": "\n01234567 {}\n",
		"later": fmt.Sprintf("\n%08x %s\n", crc32.ChecksumIEEE(later), later),
	} {
		if err := os.WriteFile(filepath.Join(dir, name+".json"), []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	for _, id := range []string{"empty", "begun", "c1"} {
		if _, err := runtime.Cleanup(t.Context(), slog.Default(), d, "ns", id); err != nil {
			t.Errorf("%s: %v", id, err)
		}
		if _, err := os.Lstat(filepath.Join(dir, id+".json")); err == nil {
			t.Errorf("the record %s is still there", id)
		}
	}
	if _, err := runtime.Reclaim(t.Context(), slog.Default(), d); err != nil {
		t.Error(err)
	}
	for id, want := range map[string]string{"damaged": "remove the file", "later": "is of version 99"} {
		if _, err := runtime.Cleanup(t.Context(), slog.Default(), d, "ns", id); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v; want %q", id, err, want)
		}
		if _, err := os.Lstat(filepath.Join(dir, id+".json")); err != nil {
			t.Error(err)
		}
	}
}
