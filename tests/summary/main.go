// Command summary reads the stream of `go test -json`, shows failures and
// skips with their reasons, and closes with one line of counts. It fails if a
// test failed, or skipped where every test must run ($CI set).
//
// What does not belong here: running the tests.
package main

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"strings"
)

type event struct {
	Action, Package, Test, Output, ImportPath string
}

func main() {
	if !summarize(os.Stdin, os.Stdout, os.Getenv("CI") != "") {
		os.Exit(1)
	}
}

// expectedSkips are tests that may skip even in CI, by package and name, each
// for what the machine lacks. They run in the virtual machine (tests/vm).
var expectedSkips = map[string]string{
	"sysbox/runtime TestModuleOfTheList": "loads a module into the host's kernel",
	"sysbox/runtime/cgroup TestScope":    "needs systemd as the host's init",
	"sysbox/tests/e2e TestAppArmor":      "needs a kernel with AppArmor",
	"sysbox/tests/e2e TestSystemdDriver": "needs systemd as the host's init",
}

func summarize(in io.Reader, out io.Writer, strict bool) bool {
	said := map[string]*strings.Builder{}
	var passed, failed, skipped int
	ok := true
	s := bufio.NewScanner(in)
	s.Buffer(nil, 16<<20)
	for s.Scan() {
		var e event
		if json.Unmarshal(s.Bytes(), &e) != nil {
			fmt.Fprintln(out, s.Text()) // of the build
			continue
		}
		key := e.Package + " " + e.Test
		switch e.Action {
		case "output", "build-output":
			if e.Action == "build-output" {
				fmt.Fprint(out, e.Output)
				break
			}
			if said[key] == nil {
				said[key] = &strings.Builder{}
			}
			said[key].WriteString(e.Output)
		case "pass", "skip", "fail":
			if e.Test == "" {
				if e.Action == "fail" {
					ok = false
					fmt.Fprintf(out, "FAIL %s\n%s", e.Package, text(said[key]))
				} else if e.Action == "pass" {
					fmt.Fprintf(out, "ok   %s\n", e.Package)
				}
				break
			}
			switch e.Action {
			case "pass":
				passed++
			case "skip":
				skipped++
				fmt.Fprintf(out, "skip %s\n%s", key, text(said[key]))
				if _, expected := expectedSkips[key]; strict && !expected {
					ok = false
					fmt.Fprintln(out, "     which no test may do in CI")
				}
			case "fail":
				failed++
				ok = false
				fmt.Fprintf(out, "FAIL %s\n%s", key, text(said[key]))
			}
			delete(said, key)
		}
	}
	if err := s.Err(); err != nil {
		fmt.Fprintln(out, err)
		ok = false
	}
	if passed+failed == 0 {
		ok = false
	}
	fmt.Fprintf(out, "%d passed, %d failed, %d skipped\n", passed, failed, skipped)
	return ok
}

func text(b *strings.Builder) string {
	if b == nil {
		return ""
	}
	return b.String()
}
