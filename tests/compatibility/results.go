// SPDX-License-Identifier: Apache-2.0

package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"
)

// outcome is what the events of a run tell.
type outcome struct {
	kernel string // Debian's name of it
	began  time.Time
	check  string // what check printed
	part   string // which of the tests, "" for all
	less   string // which of the second boot's, "" for all
	cut    string // in which test the run was ended, "" if it came to its end
	// actions are how each test ended (pass, fail or skip) by its name with its package,
	// and a package by its own name; names are in the order of the run.
	actions map[string]string
	names   []string
	again   []string // what failed and passed when it was run again
}

// read reads the events that `tests/vm/run -test` writes.
func read(in io.Reader) (*outcome, error) {
	o := outcome{actions: map[string]string{}}
	var began []string // tests, not subtests
	d := json.NewDecoder(in)
	for {
		var e struct {
			Time                          time.Time
			Action, Package, Test, Output string
		}
		if err := d.Decode(&e); errors.Is(err, io.EOF) {
			break
		} else if err != nil {
			return nil, err
		}
		if o.began.IsZero() {
			o.began = e.Time
		}
		switch {
		case len(o.names) > 0 && e.Package == "part":
			if part := "part: `" + e.Output + "`"; part != o.part {
				o.less = "in the second boot, " + part
			}
		case len(o.names) > 0 && (e.Package == "kernel" || e.Package == "check"):
			// A second boot says it again.
		case e.Package == "kernel":
			o.kernel += debianName(e.Output)
		case e.Package == "check":
			o.check += e.Output
		case e.Package == "part":
			o.part = "part: `" + e.Output + "`"
		case e.Action == "run" && !strings.Contains(e.Test, "/"):
			began = append(began, testName(e.Package, e.Test))
		case e.Action == "pass" || e.Action == "skip" || e.Action == "fail":
			o.note(testName(e.Package, e.Test), e.Action)
		}
	}
	if o.kernel == "" {
		return nil, errors.New("the events do not say which kernel it was")
	}
	for _, n := range began {
		if o.actions[n] == "" {
			o.cut = strings.TrimPrefix(o.cut+"; cut off in "+n, "; ")
		}
	}
	return &o, nil
}

func testName(pkg, test string) string {
	return strings.TrimSpace(strings.TrimPrefix(pkg, "sysbox/") + " " + test)
}

func (o *outcome) note(name, action string) {
	if _, ok := o.actions[name]; !ok {
		o.names = append(o.names, name)
	}
	o.actions[name] = action
}

// that are the names of what ended so, in the order of the run.
func (o *outcome) that(action string) []string {
	var names []string
	for _, n := range o.names {
		if o.actions[n] == action {
			names = append(names, n)
		}
	}
	return names
}

// tests is the number of those of names that are no packages.
func tests(names []string) int {
	n := 0
	for _, name := range names {
		if strings.Contains(name, " ") {
			n++
		}
	}
	return n
}

// merge makes one outcome of each kernel: what a later run of a part says of tests stands
// instead of what the run before said of them, and what has passed by it is told, as is
// that it ran what the one before had not.
func merge(runs []*outcome) []*outcome {
	slices.SortStableFunc(runs, func(a, b *outcome) int { return a.began.Compare(b.began) })
	var out []*outcome
	for _, o := range runs {
		i := slices.IndexFunc(out, func(before *outcome) bool { return before.kernel == o.kernel })
		switch {
		case i < 0:
			out = append(out, o)
		case o.part == "":
			out[i] = o
		default:
			failed := causes(out[i].that("fail"))
			if slices.ContainsFunc(o.names, func(n string) bool { return strings.Contains(n, " ") && out[i].actions[n] == "" }) {
				out[i].part = strings.TrimPrefix(out[i].part+"; besides, "+o.part, "; ")
			}
			for _, n := range o.names {
				if !strings.Contains(n, " ") && slices.ContainsFunc(out[i].that("fail"), func(f string) bool { return strings.HasPrefix(f, n+" ") }) {
					continue // a package whose other tests have not been run again
				}
				if o.actions[n] == "pass" && slices.Contains(failed, n) {
					out[i].again = append(out[i].again, n)
				}
				out[i].note(n, o.actions[n])
			}
		}
	}
	return out
}

// debianName is the package version in what uname -rv prints, and the release.
func debianName(uname string) string {
	release, rest, _ := strings.Cut(strings.TrimSpace(uname), " ")
	if _, v, ok := strings.Cut(rest, "Debian "); ok {
		version, _, _ := strings.Cut(v, " ")
		return version
	}
	return release
}

// causes leaves out the tests that failed by their subtests, and the packages by their
// tests.
func causes(names []string) []string {
	return slices.DeleteFunc(slices.Clone(names), func(n string) bool {
		return slices.ContainsFunc(names, func(o string) bool {
			return strings.HasPrefix(o, n+"/") || strings.HasPrefix(o, n+" ")
		})
	})
}

// resultTable is in Markdown; rows of old whose kernel was not run again stay.
func resultTable(old string, runs []*outcome) string {
	const head = "| Debian's kernel | run on | passed | failed | skipped | which |\n|---|---|---|---|---|---|\n"
	rows := map[string]string{}
	for line := range strings.Lines(strings.TrimPrefix(old, head)) {
		if cells := strings.Split(line, "|"); len(cells) > 2 {
			rows[strings.TrimSpace(cells[1])] = line
		}
	}
	for _, o := range runs {
		var which []string
		for _, s := range []string{o.cut, o.part, o.less} {
			if s != "" {
				which = append(which, s)
			}
		}
		failed, skipped := causes(o.that("fail")), o.that("skip")
		for _, n := range failed {
			which = append(which, "failed: "+n)
		}
		for _, n := range o.again {
			which = append(which, "failed, and passed when run again: "+n)
		}
		for _, n := range skipped {
			which = append(which, "skipped: "+n)
		}
		for k := range rows { // of the same version
			if older(k, o.kernel) == 0 {
				delete(rows, k)
			}
		}
		rows[o.kernel] = fmt.Sprintf("| %s | %s | %d | %d | %d | %s |\n", o.kernel, o.began.Format(time.DateOnly), tests(o.that("pass")), len(failed), tests(skipped), strings.ReplaceAll(strings.Join(which, "; "), "|", "\\|"))
	}
	var b strings.Builder
	b.WriteString(head)
	names := make([]string, 0, len(rows))
	for k := range rows {
		names = append(names, k)
	}
	slices.SortFunc(names, older)
	for _, k := range names {
		b.WriteString(rows[k])
	}
	return b.String()
}
