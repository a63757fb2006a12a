package main

import "testing"

func TestTable(t *testing.T) {
	old := parse([]byte("Linux 5.1\nyes   one\nNO    two, without which no container starts (since Linux 5.3): EINVAL\n      use another\nno    three (since Linux 6.1): ENOSYS\n      wait\n"))
	newer := parse([]byte("Linux 6.2\nyes   one\nyes   two\nyes   three\n"))
	want := "| | 5.1 | 6.2 |\n|---|---|---|\n| one | yes | yes |\n| two | no | yes |\n| three | no | yes |\n"
	if got := table([]kernel{old, newer}); got != want {
		t.Errorf("table is\n%swant\n%s", got, want)
	}
}
