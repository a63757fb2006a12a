// SPDX-License-Identifier: Apache-2.0

// Command summary reads the stream of `go test -json`, shows failures and
// skips with their reasons and the figures that tests have (lines with
// "figure: "), and closes with one line of counts. It fails if a test failed,
// or skipped where every test must run ($CI set, or -machine).
//
// What does not belong here: running the tests.
package main

import (
	"bufio"
	"encoding/json"
	"flag"
	"fmt"
	"io"
	"os"
	"strings"
)

type event struct {
	Action, Package, Test, Output, ImportPath string
}

func main() {
	inMachine := flag.Bool("machine", false, "the tests ran in a virtual machine, where nearly none may skip")
	flag.Parse()
	var expected map[string]string
	if *inMachine {
		expected = machineSkips
	} else if os.Getenv("CI") != "" {
		expected = expectedSkips
	}
	if !summarize(os.Stdin, os.Stdout, expected) {
		os.Exit(1)
	}
}

// expectedSkips are tests that may skip even in CI, by package and name, each
// for what the machine lacks. They run in the virtual machine (tests/vm).
var expectedSkips = map[string]string{
	"sysbox/runtime/trap TestTrap32":                       "needs a kernel that runs 32-bit programs",
	"sysbox/runtime/trap TestModuleOfTheList":              "loads a module into the host's kernel",
	"sysbox/runtime/process TestOOMFloor":                  "needs CAP_SYS_RESOURCE",
	"sysbox/runtime/cgroup TestScope":                      "needs systemd as the host's init",
	"sysbox/tests/e2e TestAppArmor":                        "needs a kernel with AppArmor",
	"sysbox/tests/e2e TestLastVersion":                     "needs the repository's history",
	"sysbox/tests/e2e TestConfigurationBrokenSinceUpgrade": "needs the repository's history",
	"sysbox/tests/e2e TestModprobe":                        "loads modules into the host's kernel",
	"sysbox/tests/e2e TestNFSOfTheKernel":                  "loads modules into the host's kernel",
	"sysbox/tests/e2e TestSELinux":                         "needs a kernel with SELinux",
	"sysbox/tests/e2e TestSystemdDriver":                   "needs systemd as the host's init",
}

// machineSkips are those that may skip in the virtual machine.
var machineSkips = map[string]string{
	"sysbox/runtime TestCgroup2NotMounted":         "needs a host with cgroup version 1",
	"sysbox/runtime/trap TestNodesOnBtrfs":         "needs a kernel that has loaded btrfs",
	"sysbox/runtime/program TestInterpreterTable":  "needs the go command for the other architecture's half",
	"sysbox/runtime/program TestARM64":             "needs qemu-user",
	"sysbox/runtime/program TestSeal":              "needs Linux 6.3",
	"sysbox/runtime/seccomp TestAgainstLibseccomp": "needs a C compiler",
	"sysbox/tests/e2e TestSELinux":                 "needs a kernel with SELinux, as -lsm selinux has, where it does not skip",
	"sysbox/tests/conformance TestEveryValue":      "reads the sources of the specification's package, which the go command finds",
	"sysbox/tests/conformance TestInfo":            "reads the same",
}

// summarize tells whether all is well. A skip that expected has not is none, unless
// expected is nil.
func summarize(in io.Reader, out io.Writer, expected map[string]string) bool {
	said := map[string]*strings.Builder{}
	var passed, failed, skipped int
	var unexpected []string
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
				fmt.Fprint(out, figures(said[key]))
			case "skip":
				skipped++
				fmt.Fprintf(out, "skip %s\n%s", key, text(said[key]))
				if _, known := expected[key]; expected != nil && !known {
					ok = false
					unexpected = append(unexpected, key)
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
	for _, test := range unexpected {
		fmt.Fprintf(out, "FAIL %s: it may not skip here\n", test)
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

// figures are the lines of a test's output that are for people to compare.
func figures(b *strings.Builder) string {
	var out strings.Builder
	for line := range strings.Lines(text(b)) {
		if _, figure, ok := strings.Cut(line, ": figure: "); ok {
			fmt.Fprintf(&out, "     %s", figure)
		}
	}
	return out.String()
}
