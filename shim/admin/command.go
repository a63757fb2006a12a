// Package admin is what an administrator runs by hand: commands that look at the host or put
// it in order. Each is a file, and an entry of Commands.
//
// What does not belong here: containerd's own actions, start and delete (package shim), and
// how a container is made, tried or cleaned up (package runtime).
package admin

import (
	"io"
	"slices"
	"strings"
)

// Command is one thing that an administrator can ask for, as in
// "containerd-shim-sysbox-v1 check".
type Command struct {
	// Name is the word on the command line.
	Name string
	// Summary says what the command does, in one line of -help, without a full stop.
	Summary string
	// Run does it and writes what there is to say to w, lines of text. Its error is the
	// program's.
	Run func(w io.Writer) error
}

// Commands are all of them, in the order in which -help has them.
var Commands = []Command{
	{"check", "make a container, and say what this host lacks", check},
	{"reclaim", "remove what dead shims left", reclaim},
}

// Find returns the command of a name, and whether there is one.
func Find(name string) (Command, bool) {
	i := slices.IndexFunc(Commands, func(c Command) bool { return c.Name == name })
	if i < 0 {
		return Command{}, false
	}
	return Commands[i], true
}

// Names are the names of all commands as words of a sentence: "a", "a and b", "a, b and c".
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
