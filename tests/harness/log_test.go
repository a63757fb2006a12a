// SPDX-License-Identifier: Apache-2.0

package harness

import (
	"os"
	"path/filepath"
	"testing"
)

// TestKeepLog: the log of a test that failed is there after its containerd's directory is gone.
func TestKeepLog(t *testing.T) {
	cache := t.TempDir()
	t.Setenv("SYSBOX_TEST_CACHE", cache)
	c := &Containerd{Version: "1.2.3", Dir: t.TempDir()}
	if err := os.WriteFile(c.path("log"), []byte("a line"), 0o600); err != nil {
		t.Fatal(err)
	}
	file, err := c.KeepLog("TestX/a case")
	if want := filepath.Join(cache, "logs", "TestX-a case-1.2.3.log"); err != nil || file != want {
		t.Fatalf("%q, %v; want %q", file, err, want)
	}
	if err := os.RemoveAll(c.Dir); err != nil {
		t.Fatal(err)
	}
	if b, err := os.ReadFile(file); err != nil || string(b) != "a line" {
		t.Errorf("%q, %v", b, err)
	}
}
