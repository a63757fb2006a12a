// SPDX-License-Identifier: Apache-2.0

// Command compatibility writes the tables of kernels in docs/compatibility.md: what the
// shim's check said and how the tests went, in the runs of `make test-vm` whose events are
// in the given files, and what check says on this host.
//
//	go run ./tests/compatibility .cache/runs/*.json
//
// A row of results whose kernel has no file stays as it is. A later run of a part (make
// test-vm AGAIN=…) mends the row of its kernel, which then says what was run again. The table of the runtime
// specification's fields is written as well; with -specification it alone is.
//
// What does not belong here: the checks (package feature), the runs (command tests/vm), the
// fields (package conformance).
package main

import (
	"bufio"
	"bytes"
	"cmp"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"sysbox/tests/conformance"
	"sysbox/tests/peers"
)

// A table stands between two lines.
const (
	features      = "<!-- kernels: made by `make compatibility` -->\n"
	endOfFeatures = "<!-- end of kernels -->\n"
	results       = "<!-- results: made by `make compatibility` -->\n"
	endOfResults  = "<!-- end of results -->\n"
)

func main() {
	alone := flag.Bool("specification", false, "write the table of the specification's fields alone")
	flag.Parse()
	err := writeSpecification()
	if err == nil && !*alone {
		err = write(flag.Args())
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "compatibility:", err)
		os.Exit(1)
	}
}

func writeSpecification() error {
	root, err := peers.Repository()
	if err != nil {
		return err
	}
	file := filepath.Join(root, "docs/compatibility.md")
	text, err := os.ReadFile(file)
	if err != nil {
		return err
	}
	s, err := replace(string(text), conformance.Begin, conformance.End, func(string) string { return conformance.Document() })
	if err != nil {
		return err
	}
	return os.WriteFile(file, []byte(s), 0o644)
}

func write(files []string) error {
	root, err := peers.Repository()
	if err != nil {
		return err
	}
	shim, err := peers.Shim()
	if err != nil {
		return err
	}
	out, err := exec.Command(filepath.Join(shim, "containerd-shim-sysbox-v1"), "check").Output()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) { // by its exit status check says that something is lacking
		return err
	}
	var runs []*outcome
	for _, name := range files {
		f, err := os.Open(name)
		if err != nil {
			return err
		}
		o, err := read(f)
		f.Close()
		if err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
		runs = append(runs, o)
	}
	runs = merge(runs)
	kernels := []kernel{parse(out)}
	kernels[0].date = time.Now().Format(time.DateOnly)
	for _, o := range runs {
		k := parse([]byte(o.check))
		if k.release == "" {
			return fmt.Errorf("check printed no release on %s: %q", o.kernel, o.check)
		}
		k.date = o.began.Format(time.DateOnly)
		kernels = append(kernels, k)
	}
	slices.SortFunc(kernels, func(a, b kernel) int { return older(a.release, b.release) })
	file := filepath.Join(root, "docs/compatibility.md")
	text, err := os.ReadFile(file)
	if err != nil {
		return err
	}
	s, err := replace(string(text), features, endOfFeatures, func(string) string { return table(kernels) })
	if err != nil {
		return err
	}
	if s, err = replace(s, results, endOfResults, func(old string) string { return resultTable(old, runs) }); err != nil {
		return err
	}
	return os.WriteFile(file, []byte(s), 0o644)
}

// older compares releases such as 6.1 and 6.12.
func older(a, b string) int {
	var x, y [2]int
	_, _ = fmt.Sscanf(a, "%d.%d", &x[0], &x[1])
	_, _ = fmt.Sscanf(b, "%d.%d", &y[0], &y[1])
	return cmp.Or(cmp.Compare(x[0], y[0]), cmp.Compare(x[1], y[1]))
}

// replace changes what stands between two lines.
func replace(text, begin, end string, change func(old string) string) (string, error) {
	before, rest, ok := strings.Cut(text, begin)
	old, after, found := strings.Cut(rest, end)
	if !ok || !found {
		return "", fmt.Errorf("the document lacks the line %q or %q", begin, end)
	}
	return before + begin + change(old) + end + after, nil
}

// kernel is what check printed on one.
type kernel struct {
	release  string
	date     string   // of the run
	features []string // in the order of the list
	has      map[string]bool
}

func parse(out []byte) kernel {
	k := kernel{has: map[string]bool{}}
	for s := bufio.NewScanner(bytes.NewReader(out)); s.Scan(); {
		word, rest, _ := strings.Cut(s.Text(), " ")
		rest = strings.TrimSpace(rest)
		switch word {
		case "Linux":
			k.release = rest
		case "yes", "no", "MISSING":
			if strings.HasPrefix(rest, "a container:") {
				continue // not a feature of the kernel
			}
			name, _, _ := strings.Cut(rest, " (optional; Linux")
			name, _, _ = strings.Cut(name, " (required; Linux")
			k.features = append(k.features, name)
			k.has[name] = word == "yes"
		}
	}
	return k
}

// table is in Markdown.
func table(kernels []kernel) string {
	var b strings.Builder
	b.WriteString("| |")
	for _, k := range kernels {
		fmt.Fprintf(&b, " %s (%s) |", k.release, k.date)
	}
	b.WriteString("\n|---|" + strings.Repeat("---|", len(kernels)) + "\n")
	for _, f := range kernels[0].features {
		fmt.Fprintf(&b, "| %s |", f)
		for _, k := range kernels {
			has := "no"
			if k.has[f] {
				has = "yes"
			}
			fmt.Fprintf(&b, " %s |", has)
		}
		b.WriteString("\n")
	}
	return b.String()
}
