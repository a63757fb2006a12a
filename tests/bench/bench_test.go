// SPDX-License-Identifier: Apache-2.0

package main

import (
	"io"
	"os"
	"slices"
	"strings"
	"testing"
	"time"
)

// The lines are containerd 2.4.2's.
func TestMarks(t *testing.T) {
	m := readMarks(strings.NewReader(`time="2026-01-02T03:04:05.000000001Z" level=info msg="connecting to shim box-1" address="unix:///run/containerd/s/9d" namespace=ns protocol=ttrpc version=3
time="2026-01-02T03:04:05.000000002Z" level=info msg="shim disconnected" id=box-1 namespace=ns
time="2026-01-02T03:04:05.000000003Z" level=info msg="cleaning up after shim disconnected" id=box-1 namespace=ns
time="2026-01-02T03:04:05.000000004Z" level=info msg="cleaning up dead shim" id=box-1 namespace=ns
`), io.Discard)
	<-m.end
	for i, mark := range []string{markStarted, markLeft, "", markDelete} {
		if mark == "" {
			continue
		}
		at, ok := m.at[mark+" box-1"]
		if !ok || at.Nanosecond() != i+1 {
			t.Errorf("%q is at %v, want nanosecond %d", mark, at, i+1)
		}
	}
	if len(m.at) != 3 {
		t.Errorf("marks are %v", m.at)
	}
}

func TestPercentile(t *testing.T) {
	for _, c := range []struct {
		v    []float64
		p    int
		want float64
	}{
		{[]float64{3}, 50, 3},
		{[]float64{3}, 90, 3},
		{[]float64{4, 1}, 50, 2.5},
		{[]float64{3, 1, 2}, 50, 2},
		{[]float64{10, 9, 8, 7, 6, 5, 4, 3, 2, 1}, 90, 9},
		{[]float64{2, 1}, 90, 2},
	} {
		if got := percentile(c.v, c.p); got != c.want {
			t.Errorf("percentile %d of %v is %v, want %v", c.p, c.v, got, c.want)
		}
	}
}

// Without a peer, and without a phase, there are dashes instead of figures.
func TestTable(t *testing.T) {
	peer, own := newTarget("runc", "x"), newTarget(ours, "y")
	peer.add(map[string]time.Duration{phaseRun: 40 * time.Millisecond})
	own.add(map[string]time.Duration{phaseRun: 10 * time.Millisecond, phaseExec: time.Millisecond})
	rows := map[string]string{}
	for line := range strings.Lines(result{Runtimes: []*target{peer, own}}.table()) {
		if f := strings.Fields(line); len(f) > 1 {
			rows[f[0]] = strings.Join(f[1:], " ")
		}
	}
	if got := rows[phaseRun]; got != "40.0 40.0 10.0 10.0 0.25" {
		t.Errorf("run: %s", got)
	}
	if got := rows[phaseExec]; got != "- - 1.0 1.0 -" {
		t.Errorf("exec: %s", got)
	}
}

// TestTwoRounds: everything that is compared is measured, of our runtime and
// of the peers that there are. What the figures are is not looked at.
func TestTwoRounds(t *testing.T) {
	if testing.Short() {
		t.Skip("builds and starts containerd, which -short leaves out")
	}
	if os.Getuid() != 0 {
		t.Skip("makes containers, which takes root")
	}
	res, err := measure(t.Context(), settings{rounds: 2, memory: 1})
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, r := range res.Runtimes {
		names = append(names, r.Name)
		for _, phase := range phases {
			if got := len(r.Samples[phase]); got != 2 {
				t.Errorf("%s, %s: %d samples, want 2", r.Name, phase, got)
			}
		}
		if len(r.Memory) == 0 {
			t.Errorf("%s: no memory was measured", r.Name)
		}
	}
	if !slices.Contains(names, "runc") || !slices.Contains(names, ours) {
		t.Errorf("measured were %v; %v", names, res.Notes)
	}
}
