// SPDX-License-Identifier: Apache-2.0

package daemon

import (
	"os"
	"testing"

	"golang.org/x/sys/unix"
)

// Lines into a full pipe are lost; they block nobody.
func TestLogNeverBlocks(t *testing.T) {
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	defer w.Close()
	fd := rawFD(w.Fd())
	if err := unix.SetNonblock(int(fd), true); err != nil {
		t.Fatal(err)
	}
	line := make([]byte, 4096)
	for range 100 { // a pipe holds 16 of them
		if _, err = fd.Write(line); err != nil {
			break
		}
	}
	if err != unix.EAGAIN {
		t.Errorf("a full pipe gives %v", err)
	}
}
