// Command compatibility writes the table of kernels and features in
// docs/compatibility.md, from the shim's own check in virtual machines.
//
// What does not belong here: the checks (package feature).
package main

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"

	"sysbox/tests/peers"
)

// The table stands between these lines.
const (
	begin = "<!-- kernels: made by `make compatibility` -->\n"
	end   = "<!-- end of kernels -->\n"
)

func main() {
	if err := run(context.Background()); err != nil {
		fmt.Fprintln(os.Stderr, "compatibility:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context) error {
	root, err := peers.Repository()
	if err != nil {
		return err
	}
	shim, err := peers.Shim()
	if err != nil {
		return err
	}
	check := []string{filepath.Join(shim, "containerd-shim-sysbox-v1"), "check"}
	var kernels []kernel
	for _, name := range []string{"6.1", "6.12", "", "newest"} { // "" is this host's
		cmd := exec.CommandContext(ctx, check[0], check[1:]...)
		if name != "" {
			cmd = exec.CommandContext(ctx, filepath.Join(root, "tests/vm/run"), append([]string{"-kernel", name}, check...)...)
		}
		cmd.Stderr = os.Stderr
		out, err := cmd.Output()
		var exit *exec.ExitError
		if err != nil && !errors.As(err, &exit) { // by its exit status check says that something is lacking
			return err
		}
		k := parse(out)
		if k.release == "" {
			return fmt.Errorf("the check on kernel %q printed no release:\n%s", name, out)
		}
		kernels = append(kernels, k)
	}
	file := filepath.Join(root, "docs/compatibility.md")
	text, err := os.ReadFile(file)
	if err != nil {
		return err
	}
	before, rest, ok := strings.Cut(string(text), begin)
	_, after, found := strings.Cut(rest, end)
	if !ok || !found {
		return fmt.Errorf("%s lacks the lines between which the table stands", file)
	}
	return os.WriteFile(file, []byte(before+begin+table(kernels)+end+after), 0o644)
}

// kernel is what check printed on one.
type kernel struct {
	release  string
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
		case "yes", "no", "NO":
			name, _, _ := strings.Cut(rest, " (since Linux")
			name, _, _ = strings.Cut(name, ", without which no container starts")
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
		fmt.Fprintf(&b, " %s |", k.release)
	}
	b.WriteString("\n|---|" + strings.Repeat("---|", len(kernels)) + "\n")
	for _, f := range kernels[0].features {
		fmt.Fprintf(&b, "| %s |", f)
		for _, k := range kernels {
			fmt.Fprintf(&b, " %s |", map[bool]string{true: "yes", false: "no"}[k.has[f]])
		}
		b.WriteString("\n")
	}
	return b.String()
}
