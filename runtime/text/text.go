// SPDX-License-Identifier: Apache-2.0

// Package text makes text that a container controls, such as file names and the output of
// its programs, fit for errors and logs.
//
// What does not belong here: what errors say, and where they go.
package text

import (
	"strconv"
	"strings"
	"unicode"
	"unicode/utf8"
)

// Line returns s as one line of printable characters. It joins lines by "; ", and escapes as in
// Go strings (\x1b) whatever a terminal would interpret, not show, or show in another order. It
// also escapes bytes that are not UTF-8, which an answer of the shim cannot hold.
func Line(s string) string {
	var lines []string
	for line := range strings.SplitSeq(s, "\n") {
		if line = escaped(strings.TrimSpace(line)); line != "" {
			lines = append(lines, line)
		}
	}
	return strings.Join(lines, "; ")
}

func escaped(s string) string {
	plain := func(r rune, size int) bool { return unicode.IsPrint(r) && (r != utf8.RuneError || size > 1) }
	var b strings.Builder
	for len(s) > 0 {
		r, size := utf8.DecodeRuneInString(s)
		if plain(r, size) {
			b.WriteString(s[:size])
		} else {
			quoted := strconv.Quote(s[:size])
			b.WriteString(quoted[1 : len(quoted)-1])
		}
		s = s[size:]
	}
	return b.String()
}
