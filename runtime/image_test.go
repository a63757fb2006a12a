package runtime

import (
	"bytes"
	"fmt"
	"path"
	"strings"
	"testing"
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
