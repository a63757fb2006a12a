package main

import (
	"strings"
	"testing"
)

func TestTable(t *testing.T) {
	old := parse([]byte("Linux 5.1\nyes   one\nNO    two, without which no container starts (since Linux 5.3): EINVAL\n      use another\nno    three (since Linux 6.1): ENOSYS\n      wait\n"))
	newer := parse([]byte("Linux 6.2\nyes   one\nyes   two\nyes   three\n"))
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
