// SPDX-License-Identifier: Apache-2.0

package process

import (
	"path"
	"strings"

	"golang.org/x/sys/unix"

	"sysbox/runtime/plan"
	"sysbox/runtime/program"
)

// execute tries each place where the program may be, as execvp(3) does. The program is usually
// args[0]. If the last place fails, the whole program fails.
func (c *calls) execute(p plan.Process, env env) {
	name := p.Args[0]
	if p.Program != "" {
		name = p.Program
	}
	places := Candidates(name, p.Env)
	for i, at := range places {
		c.add(program.Call{
			Name: "execute " + at, Field: FieldArgs, Value: at, Nr: unix.SYS_EXECVE,
			Args: []program.Arg{str(at), strs(p.Args), env.list}, IgnoreError: i < len(places)-1,
		})
	}
}

// lookUp fails at Create if the file that Start will execute does not exist, as callers know it
// from other runtimes.
func (c *calls) lookUp(p plan.Process) {
	const found = "found"
	places := Candidates(p.Args[0], p.Env)
	for i, at := range places {
		if !path.IsAbs(at) {
			at = path.Join(p.Cwd, at)
		}
		call := program.Call{Name: "look for " + at, Field: FieldArgs, Value: at, Nr: unix.SYS_FACCESSAT, Args: []program.Arg{cwd, str(at), num(unix.X_OK)}}
		if i == len(places)-1 {
			c.add(call)
			break
		}
		next := "look " + itoa(i+1)
		call.OnError = next
		c.add(call)
		c.put(program.Goto(found))
		c.mark(next)
	}
	c.mark(found)
}

// defaultPath is searched if a process has no PATH, as in execvp(3).
const defaultPath = "/bin:/usr/bin"

// Candidates returns the paths at which name may be found, in order: name itself if it contains a
// slash, otherwise one path in each directory of the environment's PATH.
func Candidates(name string, env []string) []string {
	if strings.Contains(name, "/") {
		return []string{name}
	}
	search := defaultPath
	for _, e := range env {
		if v, ok := strings.CutPrefix(e, "PATH="); ok {
			search = v
		}
	}
	var out []string
	for dir := range strings.SplitSeq(search, ":") {
		switch {
		case dir == "":
			out = append(out, "./"+name)
		default:
			out = append(out, strings.TrimRight(dir, "/")+"/"+name)
		}
	}
	return out
}
