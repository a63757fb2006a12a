// SPDX-License-Identifier: Apache-2.0

package main

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/containerd/containerd/api/types/runc/options"
)

// ours is the name of the runtime that the others are the measure of.
const ours = "sysbox"

// target is one runtime and what was measured of it.
type target struct {
	Name    string `json:"name"`
	Runtime string `json:"runtime"`
	Binary  string `json:"binary"` // the program that makes the containers
	// Samples in nanoseconds by phase, in the order of the rounds.
	Samples map[string][]time.Duration `json:"samples"`
	// Memory in KiB by moment.
	Memory map[string][]int64 `json:"memory"`

	options any
	daemon  *daemon
}

func newTarget(name, runtime string) *target {
	return &target{Name: name, Runtime: runtime, Samples: map[string][]time.Duration{}, Memory: map[string][]int64{}}
}

func (t *target) add(s map[string]time.Duration) {
	for k, v := range s {
		t.Samples[k] = append(t.Samples[k], v)
	}
}

func (t *target) addMemory(s map[string]int64) {
	for k, v := range s {
		t.Memory[k] = append(t.Memory[k], v)
	}
}

// find looks for the runtimes' programs. A missing peer is left out, with a
// sentence; without our own there is nothing to measure.
func find(o settings) (targets []*target, skipped []string, err error) {
	all := []struct {
		name, runtime, shim, binary string
	}{
		{"runc", "io.containerd.runc.v2", "containerd-shim-runc-v2", "runc"},
		{"crun", "io.containerd.runc.v2", "containerd-shim-runc-v2", "crun"},
		{ours, "io.containerd.sysbox.v1", "containerd-shim-sysbox-v1", "containerd-shim-sysbox-v1"},
	}
	var wanted []string
	if o.only != "" {
		wanted = strings.Split(o.only, ",")
	}
	for _, w := range wanted {
		if !slices.ContainsFunc(all, func(r struct{ name, runtime, shim, binary string }) bool { return r.name == w }) {
			return nil, nil, fmt.Errorf("-runtimes: %q is not one of runc, crun, %s", w, ours)
		}
	}
	for _, r := range all {
		if wanted != nil && !slices.Contains(wanted, r.name) {
			continue
		}
		t := newTarget(r.name, r.runtime)
		_, err := lookPath(o.path, r.shim)
		if err == nil {
			t.Binary, err = lookPath(o.path, r.binary)
		}
		if err != nil {
			if r.name == ours {
				return nil, nil, err
			}
			skipped = append(skipped, fmt.Sprintf("%s was left out: %v", r.name, err))
			continue
		}
		if r.runtime == "io.containerd.runc.v2" {
			t.options = &options.Options{BinaryName: t.Binary}
		}
		targets = append(targets, t)
	}
	for _, b := range o.builds {
		// containerd takes an absolute path for a runtime's name as well.
		t := newTarget(b[0], b[1])
		t.Binary = b[1]
		targets = append(targets, t)
	}
	if len(targets) == 0 {
		return nil, nil, fmt.Errorf("none of the runtimes is there: %s", strings.Join(skipped, "; "))
	}
	return targets, skipped, nil
}

// lookPath is exec.LookPath on a path of the caller's.
func lookPath(path, name string) (string, error) {
	for _, dir := range filepath.SplitList(path) {
		p, err := filepath.Abs(filepath.Join(dir, name))
		if err != nil {
			return "", err
		}
		if st, err := os.Stat(p); err == nil && st.Mode().IsRegular() && st.Mode()&0o111 != 0 {
			return p, nil
		}
	}
	return "", fmt.Errorf("no %s in any folder of %s; build it, or add its folder with -path", name, path)
}
