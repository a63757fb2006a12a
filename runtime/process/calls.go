// SPDX-License-Identifier: Apache-2.0

package process

import (
	"encoding/binary"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"sysbox/runtime/program"
)

func newCalls() *calls { return &calls{} }

// calls builds a program.
type calls struct {
	p program.Program
	n int // how many labels have been used
	// marks are the marks of the next call.
	marks []string
}

// ref is the result of an earlier call.
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

// cwd is where relative paths begin; the programs use only absolute ones.
var cwd = program.Sym{Name: "AT_FDCWD", Value: unix.AT_FDCWD}

func (c *calls) buffer(n int) program.Arg { return &program.Buffer{Name: "buffer", N: n} }

const stage2 = "stage 2"

// do adds a call whose failure ends the program.
func (c *calls) do(name string, nr uintptr, args ...program.Arg) ref {
	return c.add(program.Call{Name: name, Nr: nr, Args: args})
}

// doFor adds a call whose failure ends the program and is an error of a field of the spec.
func (c *calls) doFor(field, value, name string, nr uintptr, args ...program.Arg) ref {
	return c.add(program.Call{Name: name, Field: field, Value: value, Nr: nr, Args: args})
}

// try adds a call whose failure does not matter.
func (c *calls) try(name string, nr uintptr, args ...program.Arg) ref {
	return c.add(program.Call{Name: name, Nr: nr, Args: args, IgnoreError: true})
}

// want adds a call that must have the given result.
func (c *calls) want(name string, result int64, nr uintptr, args ...program.Arg) ref {
	return c.add(program.Call{Name: name, Nr: nr, Args: args, Want: program.Equals(result)})
}

func (c *calls) add(call program.Call) ref {
	c.n++
	call.Label = "r" + itoa(c.n)
	c.put(call)
	return ref(call.Label)
}

// put adds a call unchanged.
func (c *calls) put(call program.Call) {
	call.Marks, c.marks = append(call.Marks, c.marks...), nil
	c.p = append(c.p, call)
}

// mark gives the next call a label for jumps.
func (c *calls) mark(label string) { c.marks = append(c.marks, label) }

// open opens a file below dir. The path has no magic links except /proc's own "self".
func (c *calls) open(name string, dir program.Arg, path string, flags int) ref {
	return c.do(name, unix.SYS_OPENAT, dir, str(path), num(flags|unix.O_CLOEXEC), num(0))
}

// prelude adds what every program begins with.
func (c *calls) prelude(shim int) { c.p = append(c.p, program.Prelude(shim)...) }

// report tells the shim how far the program has come.
func (c *calls) report(name string, tag uint32) {
	c.put(program.Report(name, tag, ""))
}

// fork clones stage 2, reports its pid to the shim, and ends stage 1.
func (c *calls) fork(flags uint64, unified bool) {
	fd := -1
	if unified {
		fd = FDUnified
	}
	c.put(program.Fork("pid", stage2, flags, fd))
	c.put(program.Report("report the pid", TagPid, "pid"))
	c.put(program.Exit(0))
	// The kernel would send the parent-death signal when the thread that started stage 1 ends.
	// From here on, the end of a pipe shows that the shim has died.
	c.mark(stage2)
	c.do("clear the parent-death signal", unix.SYS_PRCTL, num(unix.PR_SET_PDEATHSIG), num(0))
}

// env is the environment of the process that is executed at the end.
type env struct {
	list program.Arg
	// home receives "HOME=…" and NUL bytes from the shim.
	home *program.Buffer
}

func (c *calls) env(list []string, homeFromSync bool) env {
	e := env{home: &program.Buffer{Name: "HOME", N: SyncSize}}
	if !homeFromSync {
		e.list = strs(list)
		return e
	}
	b := &program.Blob{Name: environment(list, e.home), Data: make([]byte, 8*(len(list)+2)), Named: true}
	for i, s := range list {
		b.Refs = append(b.Refs, program.Ref{Off: 8 * i, Arg: program.Str(s)})
	}
	b.Refs = append(b.Refs, program.Ref{Off: 8 * len(list), Arg: e.home})
	e.list = b
	return e
}

// environment is how listings show an environment that ends with what home receives.
func environment(list []string, home *program.Buffer) string {
	quoted := make([]string, 0, len(list)+1)
	for _, s := range list {
		quoted = append(quoted, strconv.Quote(s))
	}
	return "[" + strings.Join(append(quoted, home.String()), ", ") + "]"
}

// fprog is struct sock_fprog, seccomp(2).
func (c *calls) fprog(insns []byte) program.Arg {
	b := &program.Blob{Name: "filter", Data: make([]byte, 16)}
	binary.LittleEndian.PutUint16(b.Data, uint16(len(insns)/8))
	b.Refs = []program.Ref{{Off: 8, Arg: program.Bytes(insns)}}
	return b
}
