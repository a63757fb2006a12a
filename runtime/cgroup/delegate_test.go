// SPDX-License-Identifier: Apache-2.0

package cgroup

import (
	"context"
	"errors"
	"math/rand/v2"
	"os"
	"strconv"
	"testing"

	"golang.org/x/sys/unix"
)

// TestShares: whatever containers have come and gone, those that are there can together not
// take what is kept for the host. A container among a few gets enough for a Kubernetes node.
func TestShares(t *testing.T) {
	if n := Share(7, 1000); n < 900 {
		t.Errorf("the eighth container gets %d cgroups, fewer than a Kubernetes node has", n)
	}
	if n := Share(1<<20, 1000); n != leastCgroups {
		t.Errorf("one of a million gets %d cgroups, want %d", n, leastCgroups)
	}
	if n := Share(0, hostCgroups); n != 0 {
		t.Errorf("of a host that has none left a container gets %d cgroups", n)
	}
	eight := 0
	for others := range 8 {
		eight += Share(others, 0)
	}
	if eight > hostCgroups/4 {
		t.Errorf("eight containers get %d of the host's %d cgroups", eight, hostCgroups)
	}
	for others, total := 0, 0; others < 400; others++ {
		if total += Share(others, 0); total > hostCgroups-ownCgroups {
			t.Fatalf("%d containers, of which none has gone, get %d cgroups", others+1, total)
		}
	}
	for seed := range uint64(20) {
		random := rand.New(rand.NewPCG(seed, 1))
		var there []int
		total := 0
		for range 20000 {
			if len(there) == 400 || len(there) > 0 && random.IntN(100) < 30+int(seed) {
				// Mostly those that got little go, which is the worst case.
				i := len(there) - 1
				if random.IntN(4) == 0 {
					i = random.IntN(len(there))
				}
				total -= there[i]
				there = append(there[:i], there[i+1:]...)
				continue
			}
			n := Share(len(there), 0)
			there = append(there, n)
			if total += n; total > hostCgroups-ownCgroups {
				t.Fatalf("%d containers get %d cgroups", len(there), total)
			}
		}
	}
}

// TestDescendants: the kernel holds a container to its share, for memory cgroups as well
// where version 2 has them.
func TestDescendants(t *testing.T) {
	l := host(t)
	if l.Unified == "" {
		t.Skip("this host has no cgroup v2")
	}
	const others = 1000
	c := create(t, Config{System: true})
	if _, err := c.Delegate(Owner{UID: 100000, GID: 100000}, others); err != nil {
		t.Fatal(err)
	}
	root := l.Unified + c.Path()
	if l.version("memory") == 2 {
		if err := writeFile(root+"/cgroup.subtree_control", "+memory"); err != nil {
			t.Fatal(err)
		}
	}
	n := 0
	for ; n < 1000; n++ {
		if err := unix.Mkdir(root+"/"+strconv.Itoa(n), 0o755); err != nil {
			if !errors.Is(err, unix.EAGAIN) {
				t.Fatal(err)
			}
			break
		}
	}
	if n != leastCgroups {
		t.Errorf("%d cgroups were made, want %d", n, leastCgroups)
	}
	if _, err := os.Stat(root + "/0/memory.max"); l.version("memory") == 2 && err != nil {
		t.Error(err)
	}
	if err := c.Delete(context.Background()); err != nil {
		t.Error(err)
	}
}
