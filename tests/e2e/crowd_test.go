// SPDX-License-Identifier: Apache-2.0

package e2e

import (
	"fmt"
	"sync"
	"testing"
	"time"

	containerd "github.com/containerd/containerd/v2/client"
	"github.com/containerd/containerd/v2/pkg/cio"
	"github.com/containerd/containerd/v2/pkg/oci"
	"github.com/opencontainers/runtime-spec/specs-go"

	"sysbox/tests/harness"
	"sysbox/tests/pace"
	"sysbox/tests/peers"
)

// one makes a container, calls ready, executes a process in the container and removes it.
// It does not end the test, which only the test's own goroutine may.
func (h *host) one(t *testing.T, id string, ready func()) error {
	ctx := background(t)
	c, err := h.Client.NewContainer(ctx, id, containerd.WithImage(h.busybox), containerd.WithNewSnapshot(id, h.busybox),
		containerd.WithRuntime(harness.Runtime, nil),
		containerd.WithNewSpec(oci.WithDefaultPathEnv, oci.WithImageConfig(h.busybox), oci.WithProcessArgs("sleep", "1000")))
	if err != nil {
		return err
	}
	defer func() { _ = c.Delete(ctx, containerd.WithSnapshotCleanup) }() // a leftover is the leak check's
	task, err := c.NewTask(ctx, cio.NullIO)
	if err != nil {
		return err
	}
	defer func() { _, _ = task.Delete(ctx, containerd.WithProcessKill) }()
	if err := task.Start(ctx); err != nil {
		return err
	}
	ready()
	p, err := task.Exec(ctx, "x", &specs.Process{Args: []string{"/bin/true"}, Cwd: "/"}, cio.NullIO)
	if err != nil {
		return err
	}
	exit, err := p.Wait(ctx)
	if err != nil {
		return err
	}
	if err := p.Start(ctx); err != nil {
		return err
	}
	if s := <-exit; s.ExitCode() != 0 || s.Error() != nil {
		return fmt.Errorf("the exec ended with %d, %w", s.ExitCode(), s.Error())
	}
	_, err = p.Delete(ctx)
	return err
}

// TestTwoHundredAtOnce: as many as a busy node has are made, used and removed beside each
// other.
func TestTwoHundredAtOnce(t *testing.T) {
	h := on(t, peers.Newest)
	n := pace.Rounds(t, 200, 25)
	var together, done sync.WaitGroup
	together.Add(n)
	errs := make([]error, n)
	start := time.Now()
	for i := range n {
		done.Go(func() {
			here := sync.OnceFunc(together.Done)
			defer here() // one that fails holds nobody up
			errs[i] = h.one(t, fmt.Sprintf("crowd-%d", i), func() {
				here()
				together.Wait() // all live at once before any is deleted
			})
		})
	}
	done.Wait()
	for _, err := range errs {
		if err != nil {
			t.Error(err)
		}
	}
	t.Logf("figure: %d containers at once, made, used and removed, in %v", n, time.Since(start).Round(time.Millisecond))
}

// TestThousandInARow: nothing is left, by the leak check too, that would slow the next one
// down; the figures are for people, as no machine's speed is another's.
func TestThousandInARow(t *testing.T) {
	h := on(t, peers.Newest)
	n := pace.Rounds(t, 1000, 20)
	part := n / 10
	var first, last time.Duration // each
	start := time.Now()
	for i := range n {
		if err := h.one(t, fmt.Sprintf("row-%d", i), func() {}); err != nil {
			t.Fatalf("container %d: %v", i, err)
		}
		switch i + 1 {
		case part:
			first = time.Since(start) / time.Duration(part)
		case n - part:
			start = time.Now()
		case n:
			last = time.Since(start) / time.Duration(part)
		}
	}
	t.Logf("figure: %d containers in a row: %v each of the first %d, %v each of the last, %.2f times as long",
		n, first.Round(10*time.Microsecond), part, last.Round(10*time.Microsecond), float64(last)/float64(first))
}
