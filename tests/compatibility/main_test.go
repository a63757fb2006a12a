// SPDX-License-Identifier: Apache-2.0

package main

import (
	"fmt"
	"strings"
	"testing"
)

func TestTable(t *testing.T) {
	old := parse([]byte("Linux 5.1\nyes     one\nMISSING two (required; Linux 5.3 or newer): EINVAL\n        use another\nno      three (optional; Linux 6.1 or newer): ENOSYS\n        wait\nyes     a container: created\n"))
	newer := parse([]byte("Linux 6.2\nyes     one\nyes     two\nyes     three\n"))
	old.date, newer.date = "2001-02-03", "2001-02-04"
	want := "| | 5.1 (2001-02-03) | 6.2 (2001-02-04) |\n|---|---|---|\n| one | yes | yes |\n| two | no | yes |\n| three | no | yes |\n"
	if got := table([]kernel{old, newer}); got != want {
		t.Errorf("table is\n%swant\n%s", got, want)
	}
}

// TestResults: a run replaces its kernel's row and no other; what failed is told by the
// innermost name, a package without tests that failed by its own.
func TestResults(t *testing.T) {
	o, err := read(strings.NewReader(`{"Time":"2001-02-03T04:05:06Z","Action":"output","Package":"kernel","Output":"6.12.9+deb13-amd64 #1 SMP Debian 6.12.9-1 (2001-01-01)\n"}
{"Action":"output","Package":"check","Output":"Linux 6.12\n"}
{"Action":"pass","Package":"sysbox/a","Test":"T"}
{"Action":"fail","Package":"sysbox/a","Test":"U/sub"}
{"Action":"fail","Package":"sysbox/a","Test":"U"}
{"Action":"skip","Package":"sysbox/a","Test":"S"}
{"Time":"2001-02-03T04:05:06Z","Action":"output","Package":"kernel","Output":"6.12.9+deb13-amd64 #1 SMP Debian 6.12.9-1 (2001-01-01)\n"}
{"Action":"output","Package":"check","Output":"Linux 6.12\n"}
{"Action":"fail","Package":"sysbox/a"}
{"Action":"fail","Package":"sysbox/b"}
`))
	if err != nil {
		t.Fatal(err)
	}
	head := resultTable("", nil)
	first := "| 6.1.1-1 | 2000-01-01 | 1 | 0 | 0 |  |\n"
	want := head + first + "| 6.12.9-1 | 2001-02-03 | 1 | 2 | 1 | failed: a U/sub; failed: b; skipped: a S |\n"
	if got := resultTable(head+first+"| 6.12.1-1 | 2000-01-01 | 5 | 0 | 0 |  |\n", []*outcome{o}); got != want {
		t.Errorf("table is\n%swant\n%s", got, want)
	}
	if o.check != "Linux 6.12\n" {
		t.Errorf("check is %q", o.check)
	}
}

// TestMerge: a later run of a part stands for the tests that it ran, and the row tells
// which of them had failed; a package has failed as long as one of its tests has.
func TestMerge(t *testing.T) {
	run := func(at, part string, events ...string) *outcome {
		var b strings.Builder
		fmt.Fprintf(&b, `{"Time":%q,"Action":"output","Package":"kernel","Output":"6.12.9+deb13-amd64 #1 SMP Debian 6.12.9-1 (2001-01-01)\n"}`, at)
		if part != "" {
			fmt.Fprintf(&b, `{"Action":"output","Package":"part","Output":%q}`, part)
		}
		for _, e := range events {
			action, name, _ := strings.Cut(e, " ")
			pkg, test, _ := strings.Cut(name, " ")
			fmt.Fprintf(&b, `{"Action":%q,"Package":%q,"Test":%q}`, action, pkg, test)
		}
		o, err := read(strings.NewReader(b.String()))
		if err != nil {
			t.Fatal(err)
		}
		return o
	}
	whole := func() *outcome {
		return run("2001-02-03T00:00:00Z", "", "pass sysbox/a A", "fail sysbox/a B", "fail sysbox/a C/c", "fail sysbox/a C", "fail sysbox/a")
	}
	for _, c := range []struct {
		name  string
		later *outcome
		want  string
	}{
		{"one of two", run("2001-02-04T00:00:00Z", "-run B", "pass sysbox/a B", "pass sysbox/a"), "| 6.12.9-1 | 2001-02-03 | 2 | 1 | 0 | failed: a C/c; failed, and passed when run again: a B |\n"},
		{"both", run("2001-02-04T00:00:00Z", "-run B|C", "pass sysbox/a B", "pass sysbox/a C/c", "pass sysbox/a C", "pass sysbox/a"), "| 6.12.9-1 | 2001-02-03 | 4 | 0 | 0 | failed, and passed when run again: a B; failed, and passed when run again: a C/c |\n"},
		{"what had passed", run("2001-02-04T00:00:00Z", "-run A", "fail sysbox/a A", "fail sysbox/a"), "| 6.12.9-1 | 2001-02-03 | 0 | 3 | 0 | failed: a A; failed: a B; failed: a C/c |\n"},
		{"what the run had not", run("2001-02-04T00:00:00Z", "-run D", "pass sysbox/d D", "pass sysbox/d"), "| 6.12.9-1 | 2001-02-03 | 2 | 2 | 0 | besides, part: `-run D`; failed: a B; failed: a C/c |\n"},
		{"which was cut off", run("2001-02-04T00:00:00Z", "", "pass sysbox/a A", "run sysbox/a B"), "| 6.12.9-1 | 2001-02-04 | 1 | 0 | 0 | cut off in a B |\n"},
		{"an earlier part", run("2001-02-02T00:00:00Z", "-run B", "pass sysbox/a B", "pass sysbox/a"), "| 6.12.9-1 | 2001-02-03 | 1 | 2 | 0 | failed: a B; failed: a C/c |\n"},
		{"a whole run", run("2001-02-04T00:00:00Z", "", "pass sysbox/a A"), "| 6.12.9-1 | 2001-02-04 | 1 | 0 | 0 |  |\n"},
	} {
		if got := strings.TrimPrefix(resultTable("", merge([]*outcome{c.later, whole()})), resultTable("", nil)); got != c.want {
			t.Errorf("%s: the row is\n%swant\n%s", c.name, got, c.want)
		}
	}

	var b strings.Builder
	for _, e := range []string{
		`"Package":"kernel","Output":"6.12.9+deb13-amd64 #1 SMP Debian 6.12.9-1 (2001-01-01)\n"`, `"Action":"pass","Package":"sysbox/a","Test":"A"`,
		`"Package":"part","Output":"-skip C"`, `"Package":"kernel","Output":"again"`, `"Action":"pass","Package":"sysbox/b","Test":"B"`,
	} {
		fmt.Fprintf(&b, "{\"Time\":\"2001-02-03T00:00:00Z\",%s}\n", e)
	}
	o, err := read(strings.NewReader(b.String()))
	if err != nil {
		t.Fatal(err)
	}
	want := "| 6.12.9-1 | 2001-02-03 | 2 | 0 | 0 | in the second boot, part: `-skip C` |\n"
	if got := strings.TrimPrefix(resultTable("", []*outcome{o}), resultTable("", nil)); got != want {
		t.Errorf("two boots: the row is\n%swant\n%s", got, want)
	}
}
