// SPDX-License-Identifier: Apache-2.0

package fsutil

import (
	"os"
	"strings"
	"testing"
)

// TestWalkWide: the names of folders side by side are remembered, and no more of them than
// are good for this process.
func TestWalkWide(t *testing.T) {
	dir := t.TempDir()
	more := func(n int, in string) {
		t.Helper()
		for i := range n {
			if err := os.Mkdir(dir+"/"+in+string(rune('A'+i/26))+string(rune('a'+i%26)), 0o755); err != nil {
				t.Fatal(err)
			}
		}
	}
	walk := func() (folders int, err error) {
		root, err := os.Open(dir)
		if err != nil {
			t.Fatal(err)
		}
		defer root.Close()
		w := walker{limit: 100 * (perName + 2), f: func(_ *os.File, entries []os.DirEntry, _ func(string) string) error {
			folders += len(entries)
			return nil
		}}
		err = w.walk(root)
		return folders, err
	}
	more(60, "")
	more(40, "Aa/")
	more(40, "Ab/")
	if n, err := walk(); n != 140 || err != nil { // never more than 100 at a time
		t.Errorf("%d folders, %v", n, err)
	}
	more(60, "Ab/x")
	if _, err := walk(); err == nil || !strings.Contains(err.Error(), "subdirectories with more than") {
		t.Errorf("error %v", err)
	}
}
