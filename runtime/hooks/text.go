package hooks

import (
	"strings"
	"unicode"
)

// oneLine makes what a program wrote fit to be part of an error: valid UTF-8,
// no control characters (a terminal may show it), lines joined by "; ".
func oneLine(b []byte, cut bool) string {
	var lines []string
	for line := range strings.SplitSeq(strings.ToValidUTF8(string(b), "?"), "\n") {
		line = strings.TrimSpace(strings.Map(func(r rune) rune {
			if unicode.IsControl(r) {
				return ' '
			}
			return r
		}, line))
		if line != "" {
			lines = append(lines, line)
		}
	}
	s := strings.Join(lines, "; ")
	if cut {
		s = "…" + s
	}
	return s
}
