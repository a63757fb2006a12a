// SPDX-License-Identifier: Apache-2.0

package conformance

import (
	"fmt"
	"slices"
	"strings"

	"sysbox/tests/conformance/inside"
)

// The document's part stands between these lines.
const (
	Begin = "<!-- specification: made by `make compatibility` -->\n"
	End   = "<!-- end of specification -->\n"
)

// Verdict is what becomes of a field.
type Verdict string

// Verdicts, by what is said of a field's rows.
const (
	Honoured Verdict = "honoured"
	Refused  Verdict = "refused"
	Partly   Verdict = "honoured or refused, by value"
	Host     Verdict = "honoured where the host can"
)

// Fields are the fields of the table in its order, without the promises, with what
// becomes of each: a value that no runtime could honour does not count against it.
func Fields() (names []string, verdicts map[string]Verdict) {
	verdicts = map[string]Verdict{}
	type kinds struct{ honoured, refused, conditional bool }
	seen := map[string]*kinds{}
	for _, r := range Table() {
		if r.promise() {
			continue
		}
		k := seen[r.Field]
		if k == nil {
			k = &kinds{}
			seen[r.Field] = k
			names = append(names, r.Field)
		}
		if r.Refused == "" || r.Want != "" || r.Fails != "" {
			k.honoured = true
		}
		if r.Refused != "" && r.Want == "" {
			k.refused = true
			k.conditional = k.conditional || r.When != nil
		}
		k.conditional = k.conditional || r.Refused != "" && r.Want != ""
	}
	for name, k := range seen {
		switch {
		case !k.honoured:
			verdicts[name] = Refused
		case k.conditional:
			verdicts[name] = Host
		default:
			verdicts[name] = Honoured
		}
	}
	return names, verdicts
}

// promise tells a row of no field of config.json's.
func (r *Row) promise() bool { return r.Field[0] >= 'A' && r.Field[0] <= 'Z' }

// Counts sums the fields up, for docs/status.md.
func Counts() string {
	names, verdicts := Fields()
	n := map[Verdict]int{}
	for _, name := range names {
		n[verdicts[name]]++
	}
	return fmt.Sprintf("%d fields: %d honoured, %d where the host can, %d refused", len(names), n[Honoured], n[Host], n[Refused])
}

// line is what the document says of some cases of a field.
type line struct {
	verdict, how string
	cases        []string
	exec, init   bool // rows of further processes, and of the first
}

// Document is the table in Markdown: for each field a line of what becomes of it and how
// that is looked at, with the cases; fields of which the same is said stand together.
func Document() string {
	var fields []string
	lines := map[string][]*line{}
	for _, r := range Table() {
		if lines[r.Field] == nil {
			fields = append(fields, r.Field)
		}
		verdict, how := r.verdict(), r.how(inside.How)
		i := slices.IndexFunc(lines[r.Field], func(l *line) bool { return l.verdict == verdict && l.how == how })
		if i < 0 {
			i = len(lines[r.Field])
			lines[r.Field] = append(lines[r.Field], &line{verdict: verdict, how: how})
		}
		l := lines[r.Field][i]
		l.exec, l.init = l.exec || r.Exec != nil, l.init || r.Exec == nil
		if c := strings.TrimSuffix(strings.TrimSuffix(r.Case, "of exec"), ", "); c != "" && !slices.Contains(l.cases, c) {
			l.cases = append(l.cases, c)
		}
	}
	var texts []string
	names := map[string][]string{}
	for _, f := range fields {
		var b strings.Builder
		for i, l := range lines[f] {
			if i > 0 {
				b.WriteString("| ")
			}
			fmt.Fprintf(&b, "| %s | %s | %s |\n", l.text(), l.verdict, l.how)
		}
		if names[b.String()] == nil {
			texts = append(texts, b.String())
		}
		if r := (Row{Field: f}); !r.promise() {
			f = "`" + f + "`"
		}
		names[b.String()] = append(names[b.String()], f)
	}
	var b strings.Builder
	b.WriteString("| field | cases | | looked at by |\n|---|---|---|---|\n")
	for _, t := range texts {
		b.WriteString("| " + strings.Join(names[t], ", ") + " " + t)
	}
	return b.String()
}

// text is the cases in the document.
func (l *line) text() string {
	s := strings.Join(l.cases, "; ")
	switch {
	case l.exec && !l.init:
		s = strings.TrimPrefix(s+"; of exec", "; ")
	case l.exec:
		s = strings.TrimPrefix(s+"; of exec too", "; ")
	}
	return strings.ReplaceAll(s, "|", `\|`)
}

// verdict of one row, for the document.
func (r *Row) verdict() string {
	var words []string
	switch {
	case r.Refused != "" && r.Want != "":
		words = append(words, "honoured or refused, as the kernel can")
	case r.Refused != "":
		words = append(words, "refused")
	default:
		words = append(words, "honoured")
	}
	if r.Note != "" {
		words[0] += ": " + r.Note
	}
	if r.When != nil {
		words = append(words, "with "+r.When.Name)
		if strings.HasPrefix(r.When.Name, "no ") || strings.HasPrefix(r.When.Name, "without ") || strings.HasPrefix(r.When.Name, "on ") {
			words[len(words)-1] = r.When.Name
		}
	}
	return strings.Join(words, ", ")
}
