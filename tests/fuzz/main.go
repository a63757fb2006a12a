// SPDX-License-Identifier: Apache-2.0

// Command fuzz runs every fuzz test of the repository in turn, each for a while,
// which go test does for one at a time only. An input that makes one fail is left
// in the package's testdata/fuzz, to be committed with what mends it.
//
// What does not belong here: the tests, which are beside what they test, and
// their seeds, which every go test runs.
package main

import (
	"bytes"
	"flag"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"time"
)

var target = regexp.MustCompile(`(?m)^func (Fuzz\w+)\(f \*testing\.F\)`)

func main() {
	each := flag.Duration("time", time.Minute, "`time` for each")
	only := flag.String("run", "", "`pattern` of the tests to run")
	workers := flag.Int("parallel", 1, "`number` of processes at once")
	flag.Parse()
	pattern, err := regexp.Compile(*only)
	if err != nil {
		fmt.Fprintf(os.Stderr, "-run (FUZZ of make fuzz) is %q: %v\n", *only, err)
		os.Exit(2)
	}
	ran, failed, err := all(*each, pattern, *workers)
	switch {
	case err != nil:
		fmt.Fprintln(os.Stderr, err)
		os.Exit(2)
	case ran == 0:
		fmt.Fprintf(os.Stderr, "-run (FUZZ of make fuzz) is %q: no fuzz test has such a name; git grep 'func Fuzz' lists them\n", *only)
		os.Exit(2)
	case failed > 0:
		fmt.Printf("%d of %d fuzz tests failed\n", failed, ran)
		os.Exit(1)
	}
}

// all runs those whose names match and returns how many, and how many failed.
func all(each time.Duration, only *regexp.Regexp, workers int) (ran, failed int, err error) {
	err = filepath.WalkDir(".", func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if d.IsDir() && path != "." && strings.HasPrefix(d.Name(), ".") {
			return fs.SkipDir
		}
		if !strings.HasSuffix(path, "_test.go") {
			return nil
		}
		b, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		for _, m := range target.FindAllSubmatch(b, -1) {
			name := string(m[1])
			if !only.MatchString(name) {
				continue
			}
			ran++
			if !one("./"+filepath.Dir(path), name, each, workers) {
				failed++
			}
		}
		return nil
	})
	return ran, failed, err
}

// one runs one and tells whether it passed.
func one(dir, name string, each time.Duration, workers int) bool {
	fmt.Printf("%s %s: ", dir, name)
	// An input that is interesting is made smaller for a second, not for the default
	// minute: that would be all the time there is.
	cmd := exec.Command("go", "test", dir, "-run", "^$", "-fuzz", "^"+name+"$", "-fuzztime", each.String(),
		"-fuzzminimizetime", "1s", "-parallel", fmt.Sprint(workers), "-timeout", "0")
	out, err := cmd.CombinedOutput()
	// go test before Go 1.27 fails so, now and then, when the time is over: no input is to
	// blame (go.dev/issue/75804).
	late := bytes.Contains(out, []byte("context deadline exceeded")) && !bytes.Contains(out, []byte("Failing input"))
	if err != nil && !late {
		fmt.Printf("FAIL\n%s\n", out)
		return false
	}
	lines := strings.Split(strings.TrimSpace(string(out)), "\n")
	last := ""
	for _, l := range lines {
		if strings.HasPrefix(l, "fuzz: elapsed") {
			last = strings.TrimPrefix(l, "fuzz: ")
		}
	}
	fmt.Println(last)
	return true
}
