// SPDX-License-Identifier: Apache-2.0

package text

import (
	"testing"
	"unicode"
)

func TestLine(t *testing.T) {
	for in, want := range map[string]string{
		"": "", "no storage for /a b: ünïcode … �": "no storage for /a b: ünïcode … �",
		"\none\r\n\n\ttwo  \nthree":        "one; two; three",
		"\x1b]0;t\x07\x00 \x7f\u009b1m":    `\x1b]0;t\a\x00 \x7f\u009b1m`,
		"\xff\xc3 \xe2\x80":                `\xff\xc3 \xe2\x80`,
		"abc\u202edef\u2028\u200b\ufeff\n": `abc\u202edef\u2028\u200b\ufeff`,
	} {
		if got := Line(in); got != want {
			t.Errorf("%q: %s, want %s", in, got, want)
		}
	}
}

// FuzzLine: a line is printable, and as it is stays so.
func FuzzLine(f *testing.F) {
	f.Add("a\n\xffb\u202e")
	f.Fuzz(func(t *testing.T, s string) {
		line := Line(s)
		for _, r := range line {
			if !unicode.IsPrint(r) {
				t.Fatalf("%q: %q", s, line)
			}
		}
		if again := Line(line); again != line {
			t.Errorf("%q: %q, then %q", s, line, again)
		}
	})
}
