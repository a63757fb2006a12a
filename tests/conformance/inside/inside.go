// SPDX-License-Identifier: Apache-2.0

// Package inside looks at a container from within: it answers questions about
// the process that it runs in, by asking the kernel. The conformance test's own
// binary runs it as a container's process, under the name [Name].
//
// What does not belong here: what the answers should be (package conformance).
package inside

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"slices"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"
)

// Name is what the program is called as, its args[0] but for the folder.
const Name = "inside"

// question is one that can be asked: how it is answered, for the document, and
// the answer, a line of text without an end.
type question struct {
	how    string
	answer func(args []string) (string, error)
}

// questions by their first word. Each file of this package adds its own.
var questions = map[string]question{}

func add(qs map[string]question) { maps.Copy(questions, qs) }

// How tells in a few words how a question is answered; "" if there is none such.
func How(ask string) string {
	word, _, _ := strings.Cut(ask, " ")
	return questions[word].how
}

// Main answers each of the process's arguments on standard output, in one line of
// JSON from question to answer, and then waits for the end of its standard input,
// so that the container can be looked at from outside. It returns the exit status.
func Main() int {
	if len(os.Args) > 2 && os.Args[1] == callWord {
		return call(os.Args[2], os.Args[3:])
	}
	answers := map[string]string{}
	for _, ask := range os.Args[1:] {
		answers[ask] = Answer(ask)
	}
	b, err := json.Marshal(answers)
	if err != nil {
		fmt.Println(err)
		return 1
	}
	fmt.Println(string(b))
	io.Copy(io.Discard, os.Stdin)
	return 0
}

// Answer answers one question, with "error: " and what was wrong if it cannot.
func Answer(ask string) string {
	words := strings.Fields(ask)
	if len(words) == 0 {
		return "error: nothing asked"
	}
	q, ok := questions[words[0]]
	if !ok {
		return fmt.Sprintf("error: nobody knows %q; known are %q", words[0], slices.Sorted(maps.Keys(questions)))
	}
	text, err := q.answer(words[1:])
	if err != nil {
		return "error: " + errno(err)
	}
	return text
}

// errno is the error's name as the kernel's documents have it, or its text.
func errno(err error) string {
	var e syscall.Errno
	if errors.As(err, &e) {
		if name := unix.ErrnoName(e); name != "" {
			return name
		}
	}
	return err.Error()
}

// text of a file, without the end of its last line.
func text(name string) (string, error) {
	b, err := os.ReadFile(name)
	return strings.TrimRight(string(b), "\n\x00"), err
}

// status is one line of /proc/self/status, which is the first thread's.
func status(name string) (string, error) {
	s, err := text("/proc/self/status")
	if err != nil {
		return "", err
	}
	for line := range strings.SplitSeq(s, "\n") {
		if v, ok := strings.CutPrefix(line, name+":"); ok {
			return strings.Join(strings.Fields(v), " "), nil
		}
	}
	return "", fmt.Errorf("/proc/self/status has no %s", name)
}
