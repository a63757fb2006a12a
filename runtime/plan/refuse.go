package plan

import (
	"fmt"
	"strconv"
	"strings"
	"unicode/utf8"
)

// Refusal is a spec that cannot be honoured, found before anything is made.
// The shim answers it as InvalidArgument.
type Refusal struct {
	// Field is the spec's name of it, as a path: "linux.namespaces", "mounts[3].options".
	Field string
	// Value is what was there; empty if something is missing.
	Value string
	// Why it cannot be honoured, and what the user can do: parts of a sentence.
	Why, WayOut string
}

// maxValue bounds how much of a refused value is shown: it goes into logs and
// into "kubectl describe pod".
const maxValue = 200

// Error is one sentence.
func (r *Refusal) Error() string {
	var b strings.Builder
	b.WriteString(inLine(r.Field))
	if r.Value != "" {
		v := r.Value
		if len(v) > maxValue {
			v = v[:maxValue] + "…"
		}
		b.WriteString(" is " + strconv.Quote(v))
	}
	b.WriteString(": " + inLine(r.Why))
	if r.WayOut != "" {
		b.WriteString("; " + inLine(r.WayOut))
	}
	return b.String()
}

// inLine makes a part of a sentence, which can have a path or a name out of the spec in
// it, one of a line in a log: of bounded length, and without what is not for the eye.
func inLine(s string) string {
	const most = 1000
	if len(s) > most {
		s = s[:most] + "…"
	}
	if utf8.ValidString(s) && strings.IndexFunc(s, func(r rune) bool { return !strconv.IsPrint(r) }) < 0 {
		return s
	}
	q := strconv.Quote(s)
	return q[1 : len(q)-1]
}

func refuse(field, value, why, wayOut string) error {
	return &Refusal{Field: field, Value: value, Why: why, WayOut: wayOut}
}

// item names an element of a list: item("mounts", 3) is "mounts[3]".
func item(list string, i int) string { return fmt.Sprintf("%s[%d]", list, i) }

// noNUL refuses what no C string can carry.
func noNUL(field, value string) error {
	if strings.ContainsRune(value, 0) {
		return refuse(field, value, "it contains a NUL byte", "remove it")
	}
	return nil
}
