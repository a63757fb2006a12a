// SPDX-License-Identifier: Apache-2.0

package fsutil

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"testing"
)

// TestRemoveTogether: two that remove the same folder do not mind each other.
func TestRemoveTogether(t *testing.T) {
	for range 30 {
		dir := filepath.Join(t.TempDir(), "dir")
		for i := range 20 {
			sub := filepath.Join(dir, fmt.Sprint(i), "a", "b")
			if err := os.MkdirAll(sub, 0o700); err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(filepath.Join(sub, "file"), nil, 0o600); err != nil {
				t.Fatal(err)
			}
		}
		var wg sync.WaitGroup
		for range 3 {
			wg.Go(func() {
				if err := RemoveAll(t.Context(), nil, dir); err != nil {
					t.Error(err)
				}
			})
		}
		wg.Wait()
		if _, err := os.Lstat(dir); !os.IsNotExist(err) {
			t.Fatal("it is there")
		}
	}
}

// TestRemoveGivenUp: a removal that is given up ends before it removes more, and another one
// goes on.
func TestRemoveGivenUp(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "dir")
	if err := os.MkdirAll(dir+"/a/b", 0o700); err != nil {
		t.Fatal(err)
	}
	gone, cancel := context.WithCancel(t.Context())
	cancel()
	if err := RemoveAll(gone, nil, dir); !errors.Is(err, context.Canceled) {
		t.Errorf("error %v", err)
	}
	if _, err := os.Lstat(dir + "/a/b"); err != nil {
		t.Error(err)
	}
	if err := RemoveAll(t.Context(), nil, dir); err != nil {
		t.Error(err)
	}
}
