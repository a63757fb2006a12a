// SPDX-License-Identifier: Apache-2.0

package cgroup

import (
	"context"
	"os"
	"testing"
	"time"

	"github.com/opencontainers/runtime-spec/specs-go"

	"sysbox/tests/pace"
)

func TestOOM(t *testing.T) {
	host(t, "memory")
	c := create(t, Config{Resources: &specs.LinuxResources{Memory: &specs.LinuxMemory{Limit: ptr(int64(20 << 20)), Swap: ptr(int64(20 << 20))}}})
	told := make(chan uint64, 100)
	stop, err := c.WatchOOM(func(n uint64) { told <- n })
	if err != nil {
		t.Fatal(err)
	}
	err = commandIn(t, c, "head -c 100m /dev/zero | tail").Run()
	if err == nil {
		t.Error("a process with 100 MiB lives with a limit of 20")
	}
	select {
	case n := <-told:
		if n == 0 {
			t.Error("told of no kill")
		}
	case <-time.After(20 * time.Second * pace.Patience()):
		t.Error("not told of the kill")
	}
	stop()
	if c.OOMKills() == 0 {
		t.Error("OOMKills is 0")
	}
	if err := c.Delete(context.Background()); err != nil {
		t.Fatal(err)
	}
	if c.OOMKills() == 0 {
		t.Error("OOMKills is 0 after the end")
	}
}

// A kill that no event came for yet is told by stop.
func TestOOMStopLooksALastTime(t *testing.T) {
	host(t, "memory")
	c := create(t, Config{})
	var got uint64
	w := &oomWatch{c: c, f: func(n uint64) { got = n }, done: make(chan struct{})}
	w.events, _ = os.Open(os.DevNull)
	close(w.done)
	c.oomKills = 3
	w.stop()
	if got != 3 {
		t.Errorf("told of %d kills, want 3", got)
	}
}

func TestWatchEndsWithTheCgroup(t *testing.T) {
	host(t, "memory")
	c := create(t, Config{})
	stop, err := c.WatchOOM(func(n uint64) { t.Errorf("told of %d kills, there were none", n) })
	if err != nil {
		t.Fatal(err)
	}
	if err := c.Delete(context.Background()); err != nil {
		t.Fatal(err)
	}
	stop()
	stop()
}
