// SPDX-License-Identifier: Apache-2.0

// Package contract drives shims as containerd and CRI-O do, by their command line and by
// ttrpc, without either: one table of cases, run against containerd's own shims for runc
// and against ours, whose answers are compared. What is not the same must be listed, with
// the reason, in differences.go.
//
// What does not belong here: what a container is like from inside (packages runtime and
// e2e), and what only a real containerd does (package e2e).
package contract

import (
	"crypto/rand"
	"flag"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"

	"sysbox/tests/harness"
	"sysbox/tests/images"
	"sysbox/tests/leak"
	"sysbox/tests/peers"
)

// session keeps the names of two runs at the same time apart.
var session = "ct" + strings.ToLower(rand.Text()[:6])

// a testCase makes shims do something and notes what is to be seen of it.
type testCase struct {
	name string
	run  func(r *rig)
	// only are the forms of callers that it is about; nil: all.
	only []form
}

// cases are those of all files of this package.
var cases = slices.Concat(startCases, serviceCases, earlyCases, momentCases, raceCases, stdioCases, terminalCases, deleteCases, killedCases, awayCases)

func TestMain(m *testing.M) {
	os.Exit(harness.Main(m, prepare, m.Run))
}

func prepare() error {
	if _, err := images.BusyboxRoot(); err != nil {
		return err
	}
	if _, err := peers.Runc(); err != nil {
		return err
	}
	for _, v := range []string{peers.Newest, peers.OldStart} {
		if _, err := peers.Containerd(v); err != nil {
			return err
		}
	}
	return nil
}

func skipped() string {
	switch {
	case testing.Short():
		return "builds containerd's shims, which -short leaves out"
	case os.Getuid() != 0:
		return "makes containers, which takes root"
	}
	return ""
}

// TestContract runs every case against every target. The targets of a case, and the cases,
// run side by side: mostly they wait.
func TestContract(t *testing.T) {
	if why := skipped(); why != "" {
		t.Skip(why)
	}
	if err := flag.Set("test.parallel", "12"); err != nil {
		t.Fatal(err)
	}
	targets := allTargets(t)
	before, err := leak.Take(leak.Options{})
	if err != nil {
		t.Fatal(err)
	}
	var mu sync.Mutex
	found := map[key]map[string]string{} // by who answered, theirs or ours
	t.Run("cases", func(t *testing.T) {
		for _, c := range cases {
			for _, tg := range targets {
				if c.only != nil && !slices.Contains(c.only, tg.form) {
					continue
				}
				t.Run(c.name+"/"+tg.name, func(t *testing.T) {
					t.Parallel()
					r := newRig(t, tg)
					c.run(r)
					r.finish()
					mu.Lock()
					defer mu.Unlock()
					for field, value := range r.seen {
						k := key{c.name, field, tg.form}
						if found[k] == nil {
							found[k] = map[string]string{}
						}
						found[k][tg.who] = value
					}
				})
			}
		}
	})
	compare(t, found)
	removeParents(t)
	left, err := leak.Compare(before, leak.Options{})
	if err != nil {
		t.Fatal(err)
	}
	for _, s := range left {
		if !strings.Contains(s, "shim socket") { // each case looks at its own
			t.Error(s)
		}
	}
}

// key names one thing that was seen.
type key struct {
	test, field string
	form        form
}

func (k key) String() string { return k.test + "/" + k.field + " (" + string(k.form) + ")" }

// compare says what is not the same and not listed, and what is listed and is the same.
func compare(t *testing.T, found map[key]map[string]string) {
	t.Helper()
	listed := map[key]difference{}
	for _, d := range differences {
		for _, k := range d.keys() {
			if _, twice := listed[k]; twice {
				t.Errorf("%v is listed twice", k)
			}
			listed[k] = d
		}
	}
	ran := map[string]bool{}
	wrong := map[string][]string{} // to the forms of callers
	for k, v := range found {
		for _, who := range []string{theirs, ours} {
			if _, ok := v[who]; !ok {
				v[who] = "(not seen)"
			}
		}
		ran[k.test] = true
		d, ok := listed[k]
		delete(listed, k)
		switch {
		case !ok && v[theirs] == v[ours], ok && v[theirs] == d.theirs && v[ours] == d.ours:
			continue
		}
		text := fmt.Sprintf("{%q, %q, %%q, %q, %q, %q},", k.test, k.field, v[theirs], v[ours], d.why)
		if ok {
			text += fmt.Sprintf(" // listed are %q and %q", d.theirs, d.ours)
		}
		wrong[text] = append(wrong[text], string(k.form))
	}
	for _, text := range slices.Sorted(maps.Keys(wrong)) {
		forms := wrong[text]
		slices.Sort(forms)
		t.Errorf("not the same, and not listed:\n"+text, strings.Join(forms, " "))
	}
	for k := range listed {
		if ran[k.test] {
			t.Errorf("%v is listed as a difference, and there is no such thing to be seen", k)
		}
	}
}

// TestList: every difference is of a case that there is, and has a reason.
func TestList(t *testing.T) {
	for _, d := range differences {
		if len(d.keys()) == 0 {
			t.Errorf("no case is named %q", d.test)
		}
		if d.why == "" || d.theirs == d.ours {
			t.Errorf("%s/%s: it has no reason, or is no difference", d.test, d.field)
		}
	}
}

// TestStatusRow: docs/status.md has the numbers as they are.
func TestStatusRow(t *testing.T) {
	b, err := os.ReadFile(filepath.Join("..", "..", "docs", "status.md"))
	if err != nil {
		t.Fatal(err)
	}
	distinct := map[string]bool{}
	for _, d := range differences {
		for field := range strings.SplitSeq(d.field, " | ") {
			distinct[d.test+"/"+field] = true
		}
	}
	want := fmt.Sprintf("%d cases, %d differences", len(cases), len(distinct))
	row := regexp.MustCompile(`\d+ cases, \d+ differences`).FindString(string(b))
	if row != want {
		t.Errorf("docs/status.md says %q, and there are %s: change tests/status_rows_test.go, and run go test ./tests -run TestStatus -update", row, want)
	}
}
