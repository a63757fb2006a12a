// SPDX-License-Identifier: Apache-2.0

package plan

import (
	"fmt"
	"strconv"
	"strings"
	"unicode/utf8"
)

// ValidationError is a spec that cannot be honoured, found before anything is made.
// The shim answers it as InvalidArgument.
type ValidationError struct {
	// Field is its path in the spec: "linux.namespaces", "mounts[3].options".
	Field string
	// Value is the value of the field; empty if the field is missing.
	Value string
	// Reason says why it cannot be honoured and Hint what the user can do: parts of a
	// sentence. Hint is empty where Reason already says what the value must be.
	Reason, Hint string
}

// maxValue bounds how much of the value the error shows: it goes into logs and
// into "kubectl describe pod".
const maxValue = 200

// Error is one sentence.
func (r *ValidationError) Error() string {
	var b strings.Builder
	b.WriteString(inLine(r.Field))
	if r.Value != "" {
		v := r.Value
		if len(v) > maxValue {
			v = v[:maxValue] + "…"
		}
		b.WriteString(" is " + strconv.Quote(v))
	}
	b.WriteString(": " + inLine(r.Reason))
	if r.Hint != "" {
		b.WriteString("; " + inLine(r.Hint))
	}
	return b.String()
}

// inLine makes a part of a sentence fit for one line of a log: the part can contain a path or
// a name from the spec, so its length is bounded and unprintable characters are escaped.
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

func invalid(field, value, reason, hint string) error {
	return &ValidationError{Field: field, Value: value, Reason: reason, Hint: hint}
}

// item names an element of a list: item("mounts", 3) is "mounts[3]".
func item(list string, i int) string { return fmt.Sprintf("%s[%d]", list, i) }

// noNUL rejects a string that C cannot represent.
func noNUL(field, value string) error {
	if strings.ContainsRune(value, 0) {
		return invalid(field, value, "it contains a NUL byte", "remove it")
	}
	return nil
}
