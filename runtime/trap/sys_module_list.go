// SPDX-License-Identifier: Apache-2.0

package trap

import (
	"bufio"
	"os"
	"path"
	"slices"
	"strings"

	"golang.org/x/sys/unix"
)

// moduleDir is the directory of the running kernel's modules.
func moduleDir() string {
	var u unix.Utsname
	if unix.Uname(&u) != nil {
		return ""
	}
	return "/lib/modules/" + unix.ByteSliceToString(u.Release[:])
}

// allowed reports whether the administrator's list has a module, or has one that depends on it:
// modprobe(8) loads the dependencies first, with one call each.
func allowed(module string, list []string) bool {
	for _, l := range list {
		if moduleName(l) == module {
			return true
		}
	}
	f, err := os.Open(moduleDir() + "/modules.dep")
	if err != nil {
		return false
	}
	defer f.Close()
	needed := false
	for s := bufio.NewScanner(f); s.Scan() && !needed; {
		file, needs, _ := strings.Cut(s.Text(), ":")
		if slices.ContainsFunc(list, func(l string) bool { return moduleName(l) == fileModule(file) }) {
			needed = slices.ContainsFunc(strings.Fields(needs), func(n string) bool { return fileModule(n) == module })
		}
	}
	return needed
}

// fileModule is the name of the module in a file.
func fileModule(file string) string {
	name, _, _ := strings.Cut(path.Base(file), ".ko")
	return moduleName(name)
}
