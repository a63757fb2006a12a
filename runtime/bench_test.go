// SPDX-License-Identifier: Apache-2.0

package runtime_test

import (
	"os"
	"testing"
	"time"

	"github.com/opencontainers/runtime-spec/specs-go"

	"sysbox/runtime"
	"sysbox/tests/testcontainer"
)

// BenchmarkLife times the parts of a container's life without containerd.
func BenchmarkLife(b *testing.B) {
	if os.Getuid() != 0 {
		b.Skip("makes containers, which takes root")
	}
	p := testcontainer.NewPod(b)
	bundle := testcontainer.Busybox(b, nil, "sleep", "1000")
	var create, start, exec, del time.Duration
	for b.Loop() {
		t := time.Now()
		c, err := p.Create(b.Context(), runtime.CreateRequest{ID: "c1", Bundle: bundle})
		if err != nil {
			b.Fatal(err)
		}
		create += time.Since(t)
		t = time.Now()
		if err := c.Start(b.Context()); err != nil {
			b.Fatal(err)
		}
		start += time.Since(t)
		t = time.Now()
		e, err := c.Exec(b.Context(), runtime.ExecRequest{Process: &specs.Process{Args: []string{"/bin/true"}, Cwd: "/"}})
		if err != nil {
			b.Fatal(err)
		}
		if _, err := e.Wait(b.Context()); err != nil {
			b.Fatal(err)
		}
		exec += time.Since(t)
		t = time.Now()
		if err := c.Delete(b.Context()); err != nil {
			b.Fatal(err)
		}
		del += time.Since(t)
	}
	n := float64(b.N) * 1e3
	b.ReportMetric(float64(create)/n, "create-µs")
	b.ReportMetric(float64(start)/n, "start-µs")
	b.ReportMetric(float64(exec)/n, "exec-µs")
	b.ReportMetric(float64(del)/n, "delete-µs")
}
