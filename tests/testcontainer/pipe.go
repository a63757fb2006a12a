// SPDX-License-Identifier: Apache-2.0

package testcontainer

import (
	"io"
	"os"
	"testing"
	"time"

	"sysbox/tests/pace"
)

// Pipe collects what a process writes. The text is all of it, once all who write have ended.
func Pipe(t testing.TB) (w *os.File, text func() string) {
	t.Helper()
	r, w := ends(t)
	return w, func() string {
		w.Close()
		b, err := io.ReadAll(r)
		if err != nil {
			t.Error(err)
		}
		return string(b)
	}
}

// Lines reads what a process that goes on writes, line by line.
func Lines(t testing.TB) (next func() string, w *os.File) {
	t.Helper()
	r, w := ends(t)
	return func() string {
		t.Helper()
		var line []byte
		for b := make([]byte, 1); ; line = append(line, b[0]) {
			r.SetReadDeadline(time.Now().Add(time.Minute * pace.Patience()))
			if _, err := r.Read(b); err != nil {
				t.Fatalf("read a line: %v, after %q", err, line)
			}
			if b[0] == '\n' {
				return string(line)
			}
		}
	}, w
}

func ends(t testing.TB) (r, w *os.File) {
	t.Helper()
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { w.Close(); r.Close() })
	return r, w
}
