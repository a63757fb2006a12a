// SPDX-License-Identifier: Apache-2.0

package uidmap

import (
	"fmt"
	"sync"
	"testing"
)

// BenchmarkRange times what a pod's first container and its last deletion ask of the host's
// ranges, with other pods beside it, each by an allocator of its own as in a shim: "at once"
// is for 200 pods that come at the same time.
func BenchmarkRange(b *testing.B) {
	p := Pool{Start: nobodys.Start, Size: 500 << 18, etc: "/nonexistent"}
	life := func(b *testing.B, dir, owner string) {
		a, err := Open(dir, p)
		if err != nil {
			b.Error(err)
			return
		}
		defer a.Close()
		l, err := a.Acquire(owner)
		if err != nil {
			b.Error(err)
		} else if err := l.Release(); err != nil {
			b.Error(err)
		}
	}
	for _, beside := range []int{0, 200} {
		b.Run(fmt.Sprint("beside ", beside), func(b *testing.B) {
			dir := b.TempDir()
			for i := range beside {
				a, err := Open(dir, p)
				if err == nil {
					_, err = a.Acquire(fmt.Sprint("ns/beside", i))
				}
				if err != nil {
					b.Fatal(err)
				}
				defer a.Close()
			}
			for i := 0; b.Loop(); i++ {
				life(b, dir, fmt.Sprint("ns/", i))
			}
		})
	}
	b.Run("at once", func(b *testing.B) {
		dir := b.TempDir()
		for b.Loop() {
			var wg sync.WaitGroup
			for i := range 200 {
				wg.Go(func() { life(b, dir, fmt.Sprint("ns/", i)) })
			}
			wg.Wait()
		}
	})
}
