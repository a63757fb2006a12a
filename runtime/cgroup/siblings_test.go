// SPDX-License-Identifier: Apache-2.0

package cgroup

import (
	"context"
	"fmt"
	"sync"
	"testing"

	"github.com/opencontainers/runtime-spec/specs-go"
)

// Siblings come and go at once: the parents that the last one removes are the
// ones that the next is about to use.
func TestSiblingsAtOnce(t *testing.T) {
	l := host(t, "pids")
	var wg sync.WaitGroup
	for i := range 4 {
		wg.Go(func() {
			for range 25 {
				c, err := Create(Config{
					Path:      fmt.Sprintf("%s/x/y/%d", top, i),
					Resources: &specs.LinuxResources{Pids: &specs.LinuxPids{Limit: ptr(int64(9))}},
				})
				if err != nil {
					t.Error(err)
					return
				}
				if err := c.Delete(context.Background()); err != nil {
					t.Error(err)
					return
				}
			}
		})
	}
	wg.Wait()
	for _, m := range l.mounts() {
		if exists(m + top) {
			t.Errorf("%s is still there", m+top)
		}
	}
}
