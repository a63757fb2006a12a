// SPDX-License-Identifier: Apache-2.0

package contract

import (
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"sysbox/tests/peers"
)

// A form is how a caller speaks to a shim: the start action's two protocols and the task
// service's two versions.
type form string

const (
	newForm  form = "new"  // containerd 2.3 and newer: protobuf both ways, task v3
	oldForm  form = "old"  // containerd up to 2.2: options on stdin, task v2
	crioForm form = "crio" // CRI-O: nothing on stdin, no addresses, task v2
)

// Who answers.
const (
	theirs = "theirs"
	ours   = "ours"
)

// A target is a shim's binary and the form in which it is driven.
type target struct {
	name string
	who  string
	form form
	bin  string
	// path has what the binary runs.
	path string
}

func (tg *target) ours() bool { return tg.who == ours }

func allTargets(t *testing.T) []*target {
	t.Helper()
	need := func(dir string, err error) string {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		return dir
	}
	newest := need(peers.Containerd(peers.Newest))
	old := need(peers.Containerd(peers.OldStart))
	runc := need(peers.Runc())
	shim := need(peers.Shim())
	const name, own = "containerd-shim-runc-v2", "containerd-shim-sysbox-v1"
	return []*target{
		{"runc " + peers.Newest + ", new", theirs, newForm, filepath.Join(newest, name), runc},
		{"runc " + peers.OldStart + ", old", theirs, oldForm, filepath.Join(old, name), runc},
		{"runc " + peers.OldStart + ", crio", theirs, crioForm, filepath.Join(old, name), runc},
		{"sysbox, new", ours, newForm, filepath.Join(shim, own), ""},
		{"sysbox, old", ours, oldForm, filepath.Join(shim, own), ""},
		{"sysbox, crio", ours, crioForm, filepath.Join(shim, own), ""},
	}
}

// keys are the things that are seen otherwise.
func (d difference) keys() (out []key) {
	forms := []form{newForm, oldForm, crioForm}
	if d.forms != "" {
		forms = nil
		for f := range strings.FieldsSeq(d.forms) {
			forms = append(forms, form(f))
		}
	}
	prefix, many := strings.CutSuffix(d.test, "*")
	for _, c := range cases {
		if c.name != d.test && (!many || !strings.HasPrefix(c.name, prefix)) {
			continue
		}
		for _, f := range forms {
			if c.only != nil && !slices.Contains(c.only, f) {
				continue
			}
			for field := range strings.SplitSeq(d.field, " | ") {
				out = append(out, key{c.name, field, f})
			}
		}
	}
	return out
}
