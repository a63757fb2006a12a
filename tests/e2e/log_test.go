// SPDX-License-Identifier: Apache-2.0

package e2e

import (
	"strings"
	"testing"
	"time"

	containerd "github.com/containerd/containerd/v2/client"
	"github.com/containerd/containerd/v2/pkg/cio"
	"github.com/containerd/containerd/v2/pkg/oci"
	"github.com/opencontainers/runtime-spec/specs-go"
)

// TestWarnings: what is done otherwise than asked is in containerd's log, with the
// container's id.
func TestWarnings(t *testing.T) {
	both(t, func(t *testing.T, h *host) {
		failing := []specs.Hook{{Path: "/bin/false"}}
		c := h.container(t, h.busybox, oci.WithProcessArgs("sleep", "1000"), edit(func(s *specs.Spec) {
			s.Mounts = append(s.Mounts, specs.Mount{Destination: "/x", Type: "bind", Source: "/proc/version", Options: []string{"bind", "ro"}})
			s.Hooks = &specs.Hooks{Poststart: failing, Poststop: failing}
		}))
		task, _ := h.task(t, c, cio.NullIO)
		adj := -1000
		h.exec(t, task, func(p *specs.Process) { p.OOMScoreAdj = &adj }, "true")
		if _, err := task.Delete(background(t), containerd.WithProcessKill); err != nil {
			t.Fatal(err)
		}
		wanted := []string{
			"/proc/version at /x: ids are not shifted", "hook #1 of poststart", "hook #1 of poststop", "oomScoreAdj raised",
		}
		for end := time.Now().Add(time.Minute * patience()); ; time.Sleep(50 * time.Millisecond) {
			var missing []string
			for _, w := range wanted {
				if !said(h.Log(), w, "container="+c.ID()) {
					missing = append(missing, w)
				}
			}
			if len(missing) == 0 {
				return
			}
			if time.Now().After(end) {
				t.Fatalf("not in the log: %q\n%s", missing, h.Log())
			}
		}
	})
}

// said tells whether a line has all the words.
func said(log string, words ...string) bool {
	for line := range strings.Lines(log) {
		all := true
		for _, w := range words {
			all = all && strings.Contains(line, w)
		}
		if all {
			return true
		}
	}
	return false
}
