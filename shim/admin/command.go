// SPDX-License-Identifier: Apache-2.0

// Package admin holds the commands that an administrator runs by hand to inspect or clean up
// the host. Each has its own file and an entry in Commands.
//
// What does not belong here: containerd's own actions, start and delete (package shim), and
// how a container is made, tried or cleaned up (package runtime).
package admin

import (
	"io"
	"slices"
	"strings"
)

// Command is one command of the administrator, as in "containerd-shim-sysbox-v1 check".
type Command struct {
	// Name is the word on the command line.
	Name string
	// Summary says what the command does, in one line of -help, without a full stop.
	Summary string
	// Run runs the command and writes its output, lines of text, to w. Its error becomes the
	// error of the program.
	Run func(w io.Writer) error
}

// Commands lists all commands in the order of -help.
var Commands = []Command{
	{"check", "check that this host meets the requirements; creates a container and removes it", check},
	{"reclaim", "clean up after shims that were killed", reclaim},
}

// Find returns the command of that name and whether it exists.
func Find(name string) (Command, bool) {
	i := slices.IndexFunc(Commands, func(c Command) bool { return c.Name == name })
	if i < 0 {
		return Command{}, false
	}
	return Commands[i], true
}

// Names joins the names of all commands for a sentence: "a", "a and b", "a, b and c".
func Names() string {
	var names []string
	for _, c := range Commands {
		names = append(names, c.Name)
	}
	last := len(names) - 1
	if last < 1 {
		return strings.Join(names, "")
	}
	return strings.Join(names[:last], ", ") + " and " + names[last]
}
