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
	date   string
	check  string // what check printed
	part   string // which of the tests, "" for all
	passed int
	// failed and skipped are names with their packages, without the subtests of those
	// that have already been named.
	failed, skipped []string
}

// read reads the events that `tests/vm/run -test` writes.
func read(in io.Reader) (*outcome, error) {
	var o outcome
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
		if !e.Time.IsZero() {
			o.date = e.Time.Format(time.DateOnly)
		}
		name := strings.TrimSpace(strings.TrimPrefix(e.Package, "sysbox/") + " " + e.Test)
		switch {
		case e.Package == "kernel":
			o.kernel += debianName(e.Output)
		case e.Package == "check":
			o.check += e.Output
		case e.Package == "part":
			o.part = "part: `" + e.Output + "`"
		case e.Action == "pass" && e.Test != "":
			o.passed++
		case e.Action == "skip" && e.Test != "":
			o.skipped = append(o.skipped, name)
		case e.Action == "fail":
			o.failed = append(o.failed, name)
		}
	}
	if o.kernel == "" {
		return nil, errors.New("the events do not say which kernel it was")
	}
	o.failed = causes(o.failed)
	return &o, nil
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
		if o.part != "" {
			which = append(which, o.part)
		}
		for _, n := range o.failed {
			which = append(which, "failed: "+n)
		}
		for _, n := range o.skipped {
			which = append(which, "skipped: "+n)
		}
		for k := range rows { // of the same version
			if older(k, o.kernel) == 0 {
				delete(rows, k)
			}
		}
		rows[o.kernel] = fmt.Sprintf("| %s | %s | %d | %d | %d | %s |\n", o.kernel, o.date, o.passed, len(o.failed), len(o.skipped), strings.ReplaceAll(strings.Join(which, "; "), "|", "\\|"))
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
