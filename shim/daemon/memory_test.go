// SPDX-License-Identifier: Apache-2.0

package daemon

import (
	"fmt"
	"os"
	"strings"
	"testing"
)

func TestReadOnly(t *testing.T) {
	const smaps = `00400000-00402000 r-xp 00000000 08:01 17  /usr/bin/shim
Size:                  8 kB
Anonymous:             0 kB
00402000-00403000 r--p 00002000 08:01 17  /usr/bin/shim
Anonymous:             4 kB
00403000-00404000 rw-p 00003000 08:01 17  /usr/bin/shim
Anonymous:             0 kB
00404000-00405000 r--p 00004000 08:01 17  /usr/bin/shim
Anonymous:             0 kB
c000000000-c000400000 rw-p 00000000 00:00 0
Anonymous:             0 kB
7ffd0000-7ffd1000 r-xp 00000000 00:00 0   [vdso]
Anonymous:             0 kB
`
	got := fmt.Sprintf("%x", readOnly(strings.NewReader(smaps)))
	if got != "[{400000 402000} {404000 405000}]" {
		t.Errorf("mappings are %s", got)
	}
}

func rssFile(t *testing.T) (kib int) {
	t.Helper()
	b, err := os.ReadFile("/proc/self/status")
	if err != nil {
		t.Fatal(err)
	}
	_, after, _ := strings.Cut(string(b), "RssFile:")
	if _, err := fmt.Sscan(after, &kib); err != nil {
		t.Fatal(err)
	}
	return kib
}

func TestTrim(t *testing.T) {
	before := rssFile(t)
	releaseMemory()
	if after := rssFile(t); after >= before {
		t.Errorf("mapped pages of files: %d KiB before, %d after", before, after)
	}
}
