// SPDX-License-Identifier: Apache-2.0

package uidmap

import (
	"fmt"
	"os"
	"path/filepath"
	"testing"
	"time"
)

// BenchmarkChown times Shift and Revert of a small image's tree, on a disk to which somebody
// else writes meanwhile, 16 MiB at a time, as on a host with other containers.
func BenchmarkChown(b *testing.B) {
	if os.Getuid() != 0 {
		b.Skip("changes owners, which takes root")
	}
	for _, busy := range []bool{false, true} {
		b.Run(map[bool]string{false: "idle disk", true: "busy disk"}[busy], func(b *testing.B) {
			dir := b.TempDir()
			root := filepath.Join(dir, "tree")
			if err := os.MkdirAll(filepath.Join(root, "bin"), 0o755); err != nil {
				b.Fatal(err)
			}
			for i := range 280 {
				if err := os.Symlink("busybox", fmt.Sprintf("%s/bin/%d", root, i)); err != nil {
					b.Fatal(err)
				}
			}
			if err := os.WriteFile(root+"/bin/busybox", make([]byte, 2<<20), 0o4755); err != nil {
				b.Fatal(err)
			}
			if err := os.Chmod(root+"/bin/busybox", 0o755|os.ModeSetuid); err != nil {
				b.Fatal(err)
			}
			noise := make([]byte, 16<<20)
			var shift, revert time.Duration
			for b.Loop() {
				for i := range 16 {
					if busy {
						if err := os.WriteFile(fmt.Sprint(dir, "/noise", i), noise, 0o600); err != nil {
							b.Fatal(err)
						}
					}
				}
				t := time.Now()
				if err := Shift(dir+"/journal", root, treeMap, treeMap); err != nil {
					b.Fatal(err)
				}
				shift += time.Since(t)
				t = time.Now()
				if err := Revert(dir+"/journal", root); err != nil {
					b.Fatal(err)
				}
				revert += time.Since(t)
			}
			b.ReportMetric(float64(shift.Microseconds())/float64(b.N)/1e3, "shift-ms")
			b.ReportMetric(float64(revert.Microseconds())/float64(b.N)/1e3, "revert-ms")
		})
	}
}
