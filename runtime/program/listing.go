// SPDX-License-Identifier: Apache-2.0

package program

import (
	"fmt"
	"maps"
	"runtime"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// String lists the program, one call per line, as strace does: flags, capabilities and structures
// by name, results as $name if a later call takes them, and jumps as goto. It is the same on all
// architectures if the arguments are.
func (p Program) String() string {
	targets, results := p.references()
	var b strings.Builder
	for i := range p {
		c := &p[i]
		for _, m := range append(c.Marks, c.Label) {
			if targets[m] {
				fmt.Fprintf(&b, "%s:\n", m)
			}
		}
		fmt.Fprintf(&b, "%3d  ", i)
		if results[c.Label] {
			fmt.Fprintf(&b, "$%s = ", c.Label)
		}
		b.WriteString(c.listed())
		if c.Name != "" {
			fmt.Fprintf(&b, "  # %s", c.Name)
		}
		b.WriteByte('\n')
	}
	return b.String()
}

// references returns the labels that the program jumps to, and those whose results it uses.
func (p Program) references() (targets, results map[string]bool) {
	targets, results = map[string]bool{}, map[string]bool{}
	for i := range p {
		for _, to := range []string{p[i].IfZero, p[i].OnError} {
			if to != "" {
				targets[to] = true
			}
		}
		for _, a := range p[i].Args {
			noteResults(results, a)
		}
	}
	return targets, results
}

// noteResults records the calls whose results an argument uses.
func noteResults(taken map[string]bool, a Arg) {
	switch a := a.(type) {
	case Result:
		taken[string(a)] = true
	case ResultAddr:
		taken[string(a)] = true
	case *Blob:
		for _, r := range a.Refs {
			noteResults(taken, r.Arg)
		}
	}
}

// listed returns a call with the result that it must have and with its jumps.
func (c *Call) listed() string {
	if c.jump {
		return "goto " + c.OnError
	}
	s := c.line()
	if c.Want != nil {
		s += fmt.Sprintf(" = %d", *c.Want)
	}
	on := "on error"
	if c.Errno != 0 {
		on = "on " + unix.ErrnoName(c.Errno)
	}
	if c.IfZero != "" {
		s += ", if 0 goto " + c.IfZero
	}
	if c.OnError != "" {
		s += fmt.Sprintf(", %s goto %s", on, c.OnError)
	} else if c.IgnoreError {
		s += fmt.Sprintf(", %s go on", on)
	}
	return s
}

// line returns the call without its jumps.
func (c *Call) line() string {
	name := sysName(runtime.GOARCH, c.Nr)
	return name + "(" + strings.Join(decode(name, c.Args), ", ") + ")"
}

func (a Int) String() string {
	if a > 0xffff {
		return "0x" + strconv.FormatInt(int64(a), 16)
	}
	return strconv.FormatInt(int64(a), 10)
}

func (a Sym) String() string { return a.Name }

func (a Str) String() string { return strconv.Quote(string(a)) }

func (a Bytes) String() string {
	if len(a) > 32 {
		return fmt.Sprintf("{% x … %d bytes}", []byte(a[:32]), len(a))
	}
	return fmt.Sprintf("{% x}", []byte(a))
}

func (a Strs) String() string {
	q := make([]string, len(a))
	for i, s := range a {
		q[i] = strconv.Quote(s)
	}
	return "[" + strings.Join(q, ", ") + "]"
}

func (b *Blob) String() string {
	if b.Named {
		return b.Name
	}
	var s strings.Builder
	s.WriteString(b.Name + Bytes(b.Data).String())
	for _, r := range b.Refs {
		fmt.Fprintf(&s, "+%d:%s", r.Off, r.Arg)
	}
	return s.String()
}

func (s *Buffer) String() string { return fmt.Sprintf("%s[%d]", s.Name, s.N) }

func (r Result) String() string { return "$" + string(r) }

func (r ResultAddr) String() string { return "&$" + string(r) }

// explained returns a call in which each result is shown by the call that gave it, because a
// label means nothing in an error. Below that depth, calls are shown by name.
func (p Program) explained(c *Call, depth int) Call {
	out := *c
	out.Args = make([]Arg, len(c.Args))
	for i, a := range c.Args {
		out.Args[i] = p.explain(a, depth)
	}
	return out
}

func (p Program) explain(a Arg, depth int) Arg {
	switch a := a.(type) {
	case Result:
		return source(p.source(string(a), depth))
	case ResultAddr:
		return source("&" + p.source(string(a), depth))
	case *Blob:
		b := *a
		b.Refs = slices.Clone(a.Refs)
		for i, r := range b.Refs {
			b.Refs[i].Arg = p.explain(r.Arg, depth)
		}
		results := map[string]bool{}
		noteResults(results, a)
		for _, label := range slices.Backward(slices.Sorted(maps.Keys(results))) { // r10 before r1
			b.Name = strings.ReplaceAll(b.Name, Result(label).String(), p.source(label, depth))
		}
		return &b
	}
	return a
}

func (p Program) source(label string, depth int) string {
	for i := range p {
		switch {
		case p[i].Label != label:
		case depth == 0:
			return "<" + p[i].name() + ">"
		default:
			c := p.explained(&p[i], depth-1)
			return c.line()
		}
	}
	return "<an earlier result>"
}

// source shows a result in an error.
type source string

func (s source) String() string { return string(s) }

func (source) arg() {}
