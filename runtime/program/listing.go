package program

import (
	"fmt"
	"runtime"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// String lists the program, one call a line, in the manner of strace. It is the same
// on all architectures, as long as the arguments are.
func (p Program) String() string {
	var b strings.Builder
	for i := range p {
		c := &p[i]
		if c.Label != "" {
			fmt.Fprintf(&b, "%s:\n", c.Label)
		}
		fmt.Fprintf(&b, "%3d  %s", i, c.line())
		if c.Want != nil {
			fmt.Fprintf(&b, " = %d", *c.Want)
		}
		on := "on error"
		if c.Errno != 0 {
			on = "on " + unix.ErrnoName(c.Errno)
		}
		if c.IfZero != "" {
			fmt.Fprintf(&b, ", if 0 goto %s", c.IfZero)
		}
		if c.OnError != "" {
			fmt.Fprintf(&b, ", %s goto %s", on, c.OnError)
		} else if c.IgnoreError {
			fmt.Fprintf(&b, ", %s go on", on)
		}
		if c.Name != "" {
			fmt.Fprintf(&b, "  # %s", c.Name)
		}
		b.WriteByte('\n')
	}
	return b.String()
}

// line is the call without its jumps.
func (c *Call) line() string {
	args := make([]string, len(c.Args))
	for i, a := range c.Args {
		args[i] = "?"
		if a != nil {
			args[i] = a.String()
		}
	}
	return sysName(runtime.GOARCH, c.Nr) + "(" + strings.Join(args, ", ") + ")"
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
	if b.named {
		return b.Name
	}
	var s strings.Builder
	s.WriteString(b.Name + Bytes(b.Data).String())
	for _, r := range b.Refs {
		fmt.Fprintf(&s, "+%d:%s", r.Off, r.Arg)
	}
	return s.String()
}

func (s *Space) String() string { return fmt.Sprintf("%s[%d]", s.Name, s.N) }

func (r Result) String() string { return "$" + string(r) }

func (r ResultAddr) String() string { return "&$" + string(r) }
