// SPDX-License-Identifier: Apache-2.0

package image

import (
	"bytes"
	"fmt"
	"path"
	"strings"
	"testing"
	"time"
)

// FuzzHomes: whatever an image's /etc/passwd has, a home is an absolute path that can be
// in an environment, out of the first line for that uid.
func FuzzHomes(f *testing.F) {
	f.Add([]byte("root:x:0:0:root:/root:/bin/sh\nroot2:x:0:0::/other:\nuser:x:1000:1000::/home/user\n"))
	f.Add([]byte("a::-1:::/x\nb::4294967296:::/x\nc::+1:::/x\nd::1:::x\ne::2:::/a\x00b\r\n:::::/\n"))
	f.Add([]byte(strings.Repeat("x", 70000) + "\nroot:x:0:0::/root:\n"))
	f.Fuzz(func(t *testing.T, b []byte) {
		homes := parseHomes(bytes.NewReader(b))
		for uid, home := range homes {
			if !path.IsAbs(home) || strings.ContainsAny(home, "\x00\n:") || len(home) > 64<<10 {
				t.Errorf("%d lives in %q", uid, home)
			}
			if !bytes.Contains(b, []byte(home)) {
				t.Errorf("%q is not in the file", home)
			}
		}
		// A line before all others counts.
		for uid := range homes {
			first := fmt.Appendf(nil, "x:x:%d:0::/first:\n", uid)
			if got := parseHomes(bytes.NewReader(append(first, b...))); got[uid] != "/first" {
				t.Errorf("%d lives in %q, not where the first line says", uid, got[uid])
			}
			break
		}
	})
}

// TestReadersStuck: readings that are stuck do not keep others waiting for longer than their
// deadline.
func TestReadersStuck(t *testing.T) {
	h := NewHomes(nil, 200*time.Millisecond)
	read := func() ([]byte, error) { return []byte("user:x:1000:1000::/home/user:/bin/sh\n"), nil }
	for range maxReaders {
		h.readers <- struct{}{}
	}
	if got := h.find(1000, read); got != "/" {
		t.Errorf("while all readers are stuck: %q", got)
	}
	<-h.readers
	if got := h.find(1000, read); got != "/home/user" {
		t.Errorf("when one is free: %q", got)
	}
}
