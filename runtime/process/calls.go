package process

import (
	"encoding/binary"
	"strconv"

	"golang.org/x/sys/unix"

	"sysbox/runtime/program"
)

func newCalls() *calls { return &calls{} }

// calls is a program in the making.
type calls struct {
	p program.Program
	n int // labels given out
}

// ref is the result of a call made earlier.
type ref = program.Result

type integer interface {
	~int | ~int32 | ~int64 | ~uint16 | ~uint32 | ~uint64 | ~uintptr
}

func num[T integer](v T) program.Arg { return program.Int(int64(v)) }

func str(s string) program.Arg { return program.Str(s) }

func strs(s []string) program.Arg { return program.Strs(s) }

func bytes(b []byte) program.Arg { return program.Bytes(b) }

// words is a pointer to 64-bit words.
func words[T integer](ws ...T) program.Arg {
	b := make([]byte, 0, 8*len(ws))
	for _, w := range ws {
		b = binary.LittleEndian.AppendUint64(b, uint64(w))
	}
	return program.Bytes(b)
}

func le32(b []byte, v uint32) []byte { return binary.LittleEndian.AppendUint32(b, v) }

func itoa(n int) string { return strconv.Itoa(n) }

// cwd is where relative paths begin; all of ours are absolute.
var cwd = program.Sym{Name: "AT_FDCWD", Value: unix.AT_FDCWD}

func (c *calls) space(n int) program.Arg { return &program.Space{Name: "buffer", N: n} }

// done returns the program, with labels only where something refers to them.
func (c *calls) done() program.Program {
	used := map[string]bool{"pid": true, secondLeg: true}
	for _, call := range c.p {
		used[call.OnError] = true
		for _, a := range call.Args {
			mark(used, a)
		}
	}
	for i := range c.p {
		if !used[c.p[i].Label] {
			c.p[i].Label = ""
		}
	}
	return c.p
}

// mark notes the calls whose results an argument takes.
func mark(used map[string]bool, a program.Arg) {
	switch a := a.(type) {
	case ref:
		used[string(a)] = true
	case *program.Blob:
		for _, r := range a.Refs {
			mark(used, r.Arg)
		}
	}
}

const secondLeg = "second leg"

// do makes a call whose failure ends the program.
func (c *calls) do(name string, nr uintptr, args ...program.Arg) ref {
	return c.add(program.Call{Name: name, Nr: nr, Args: args})
}

// try makes a call whose failure is of no account.
func (c *calls) try(name string, nr uintptr, args ...program.Arg) ref {
	return c.add(program.Call{Name: name, Nr: nr, Args: args, IgnoreError: true})
}

// want makes a call that must have one result.
func (c *calls) want(name string, result int64, nr uintptr, args ...program.Arg) ref {
	return c.add(program.Call{Name: name, Nr: nr, Args: args, Want: program.Equals(result)})
}

func (c *calls) add(call program.Call) ref {
	c.n++
	call.Label = "r" + itoa(c.n)
	c.p = append(c.p, call)
	return ref(call.Label)
}

// open opens a file below dir, never through a magic link but /proc's own
// "self".
func (c *calls) open(name string, dir program.Arg, path string, flags int) ref {
	return c.do(name, unix.SYS_OPENAT, dir, str(path), num(flags|unix.O_CLOEXEC), num(0))
}

// prelude is what every program begins with.
func (c *calls) prelude(shim int) { c.p = append(c.p, program.Prelude(shim)...) }

// report tells the shim how far the program is.
func (c *calls) report(name string, tag uint32) {
	c.p = append(c.p, program.Report(name, tag, ""))
}

// fork clones the second leg, tells the shim its pid and ends the first.
func (c *calls) fork(flags uint64, unified bool) {
	fd := -1
	if unified {
		fd = FDUnified
	}
	c.p = append(c.p,
		program.Fork("pid", secondLeg, flags, fd),
		program.Report("report the pid", TagPid, "pid"),
		program.Exit(0))
	// The parent-death signal would come when the thread ends that started the
	// first leg; from here on the end of a pipe tells of the shim's death.
	c.p = append(c.p, program.Call{
		Name: "enter the second leg", Label: secondLeg, Nr: unix.SYS_PRCTL,
		Args: []program.Arg{num(unix.PR_SET_PDEATHSIG), num(0)},
	})
}

// env is the environment of the process to be.
type env struct {
	list program.Arg
	// home takes "HOME=…" and its ending NUL bytes from the shim.
	home *program.Space
}

func (c *calls) env(list []string, askHome bool) env {
	e := env{home: &program.Space{Name: "HOME", N: GoSize}}
	if !askHome {
		e.list = strs(list)
		return e
	}
	b := &program.Blob{Name: "environment", Data: make([]byte, 8*(len(list)+2))}
	for i, s := range list {
		b.Refs = append(b.Refs, program.Ref{Off: 8 * i, Arg: program.Str(s)})
	}
	b.Refs = append(b.Refs, program.Ref{Off: 8 * len(list), Arg: e.home})
	e.list = b
	return e
}

// fprog is struct sock_fprog, seccomp(2).
func (c *calls) fprog(insns []byte) program.Arg {
	b := &program.Blob{Name: "filter", Data: make([]byte, 16)}
	binary.LittleEndian.PutUint16(b.Data, uint16(len(insns)/8))
	b.Refs = []program.Ref{{Off: 8, Arg: program.Bytes(insns)}}
	return b
}
