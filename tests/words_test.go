// SPDX-License-Identifier: Apache-2.0

package tests

import (
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
)

// words are those that this project has given up: home-made names for what the field has a
// word for, and turns of phrase that read as translated. Each is a regular expression without
// regard to case, for whole words. What fine matches, too, stays.
var words = []struct{ gone, instead, fine string }{
	// Names.
	{`folders?|(?-i:\w*[a-z]Folders?\w*)`, "directory", ""},
	{`legs?|(two|first|second)-legged|(?-i:\w*[a-z]Legs?)`, "stage", ""},
	{`lineup`, "assembler", ""},
	{`(?-i:becomeOwner)`, "setOwner", ""},
	{`(?-i:FDGo|GoSize|AskHome)`, "sync pipe", ""},
	{`(?-i:told|tellOOM)OOM|(?-i:tellOOM)`, "oomPublished, publishOOM", ""},
	{`(?-i:neverUnimplemented)`, "asPrecondition", ""},
	{`(?-i:giveTo)`, "chownPipe", ""},
	{`(?-i:handOver)`, "forwardListener", ""},
	{`(?-i:homeNow)`, "lookupHome", ""},
	{`(?-i:errElsewhere|errTaken|errSystem)`, "errNotInUpper, errOverlap, errSystemPath", ""},
	{`(?-i:makeNames)`, "hostnames", ""},
	{`(?-i:WayOut)`, "Hint", ""},
	// Turns of phrase.
	{`anew`, "again", ""},
	{`for ever`, `"forever", or what ends it`, ""},
	{`what there is`, "name the thing", ""},
	{`what else`, `"anything else that", "the rest"`, ""},
	{`(there )?(is|are) no( longer| more)?`, `"is not a", or what it is`, `^there|longer$|more$`},
	{`to be had|is come by|are come by`, `"is obtained", "cannot get"`, ""},
	{`let go on|lets go on`, `"continue"`, ""},
	{`as who|that who|so that who`, "name the actor", ""},
	{`(is|are|was|were) told of`, "name the actor in the active voice", ""},
	{`of (the|an?|its|our|their|each) \w+'s(` + ends + `)`, `"of the host", not "of the host's"`, ""},
	{`of (containerd|systemd|Docker|Debian|runc|CRI-O|kubelet)'s(` + ends + `)`, `"of containerd", not "of containerd's"`, ""},
}

// ends are what stands behind a genitive that has no noun of its own.
const ends = `[,.;:)|]| (that|which|and|or|in|of|is|are|was|has|have|to|on|at|below|alone|for|with|who|where|by|as)\b`

// clean are the files and directories, below the repository's root, that have none of these
// words. Add what you have cleaned.
var clean = []string{
	"README.md",
	"CONTRIBUTING.md",
	"SECURITY.md",
	"MAINTAINERS.md",
	"Makefile",
	".ci",
	".github",
	"docs/architecture.md",
	"docs/compatibility.md",
	"docs/configuration.md",
	"docs/decisions.md",
	"docs/glossary.md",
	"docs/migrating-from-sysbox.md",
	"docs/performance.md",
	"docs/status.md",
	"docs/threat-model.md",
	"docs/troubleshooting.md",
	"docs/where-to-add.md",
	"cmd",
	"tests/*.go",
}

// onDisk is the heading of a file that earlier versions read; it stays.
const onDisk = "whiteouts and opaque folders of inner overlays"

// cleanCode are directories whose Go files have none of them, but for their tests.
var cleanCode = []string{"shim", "runtime", "uidmap"}

var wordForms = func() []*regexp.Regexp {
	var out []*regexp.Regexp
	for _, w := range words {
		out = append(out, regexp.MustCompile(`(?i)\b(?:`+w.gone+`)(?:\b|$| |\|)`))
	}
	return out
}()

// filename is the name of a file or a test in Markdown, which its author has to use as it is.
var filename = regexp.MustCompile("`[^`\\s]*[/.][^`\\s]*`|\\b(?:Test|Fuzz|Benchmark)[A-Z]\\w*")

// TestWords: what is clean has none of the words that are gone.
func TestWords(t *testing.T) {
	for _, pattern := range slices.Concat(clean, cleanCode) {
		roots, err := filepath.Glob(filepath.Join("..", pattern))
		if err != nil {
			t.Fatal(err)
		}
		files := 0
		for _, root := range roots {
			err := filepath.WalkDir(root, func(name string, d fs.DirEntry, err error) error {
				if err != nil || d.IsDir() || filepath.Base(name) == "words_test.go" {
					return err
				}
				if slices.Contains(cleanCode, pattern) && (filepath.Ext(name) != ".go" || strings.HasSuffix(name, "_test.go")) {
					return nil
				}
				files++
				b, err := os.ReadFile(name)
				if err != nil {
					return err
				}
				text := generated.ReplaceAllStringFunc(strings.ReplaceAll(string(b), onDisk, ""), keepLines)
				if filepath.Ext(name) == ".md" {
					text = filename.ReplaceAllStringFunc(text, func(s string) string { return strings.Repeat(" ", len(s)) })
				}
				for _, found := range goneWords(text) {
					t.Errorf("%s:%s", name, found)
				}
				return nil
			})
			if err != nil {
				t.Fatal(err)
			}
		}
		if files == 0 {
			t.Errorf("no file is %s", pattern)
		}
	}
}

// keepLines leaves nothing of a text but its line ends.
func keepLines(s string) string { return strings.Repeat("\n", strings.Count(s, "\n")) }

// goneWords are the words of a text that are gone, each with its line. Lines are joined for
// phrases that a line end divides.
func goneWords(text string) []string {
	var out []string
	flat := strings.ReplaceAll(text, "\n", " ")
	for i, form := range wordForms {
		for _, at := range form.FindAllStringIndex(flat, -1) {
			found := strings.TrimSpace(flat[at[0]:at[1]])
			if fine := words[i].fine; fine != "" && regexp.MustCompile("(?i)"+fine).MatchString(found) {
				continue
			}
			line := 1 + strings.Count(text[:at[0]], "\n")
			out = append(out, strconv.Itoa(line)+": "+found+": write "+words[i].instead)
		}
	}
	slices.Sort(out)
	return out
}

// TestGoneWords: what is found in a text.
func TestGoneWords(t *testing.T) {
	for text, want := range map[string]int{
		"a Folder and folders":                   2,
		"a legend of scaffolders":                0,
		"upperFolder, hostLeg and becomeOwner":   3,
		"a loop device of the\nhost's is needed": 1,
		"of the host's files, in the host's":     0,
		"a file of the host's.":                  1,
		"there is no way, it is no longer there": 0,
		"the host's files, those of the host":    0,
		"it waits for ever, and this is no name": 2,
		"is not, is nothing, is none":            0,
	} {
		if got := goneWords(text); len(got) != want {
			t.Errorf("%q: %q, want %d", text, got, want)
		}
	}
}
