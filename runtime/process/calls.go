package process

import (
	"encoding/binary"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"sysbox/runtime/program"
)

func newCalls() *calls { return &calls{} }

// calls is a program in the making.
type calls struct {
	p program.Program
	n int // labels given out
	// marks are those of the next call.
	marks []string
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

func (c *calls) buffer(n int) program.Arg { return &program.Buffer{Name: "buffer", N: n} }

const stage2 = "second leg"

// do makes a call whose failure ends the program.
func (c *calls) do(name string, nr uintptr, args ...program.Arg) ref {
	return c.add(program.Call{Name: name, Nr: nr, Args: args})
}

// serve makes a call whose failure ends the program and is one of a field of the spec.
func (c *calls) doFor(field, value, name string, nr uintptr, args ...program.Arg) ref {
	return c.add(program.Call{Name: name, Field: field, Value: value, Nr: nr, Args: args})
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
	c.put(call)
	return ref(call.Label)
}

// put adds a call as it is.
func (c *calls) put(call program.Call) {
	call.Marks, c.marks = append(call.Marks, c.marks...), nil
	c.p = append(c.p, call)
}

// mark names the place where the next call will be, for jumps.
func (c *calls) mark(label string) { c.marks = append(c.marks, label) }

// open opens a file below dir, never through a magic link but /proc's own
// "self".
func (c *calls) open(name string, dir program.Arg, path string, flags int) ref {
	return c.do(name, unix.SYS_OPENAT, dir, str(path), num(flags|unix.O_CLOEXEC), num(0))
}

// prelude is what every program begins with.
func (c *calls) prelude(shim int) { c.p = append(c.p, program.Prelude(shim)...) }

// report tells the shim how far the program is.
func (c *calls) report(name string, tag uint32) {
	c.put(program.Report(name, tag, ""))
}

// fork clones the second leg, tells the shim its pid and ends the first.
func (c *calls) fork(flags uint64, unified bool) {
	fd := -1
	if unified {
		fd = FDUnified
	}
	c.put(program.Fork("pid", stage2, flags, fd))
	c.put(program.Report("report the pid", TagPid, "pid"))
	c.put(program.Exit(0))
	// The parent-death signal would come when the thread ends that started the
	// first leg; from here on the end of a pipe tells of the shim's death.
	c.mark(stage2)
	c.do("enter the second leg", unix.SYS_PRCTL, num(unix.PR_SET_PDEATHSIG), num(0))
}

// env is the environment of the process to be.
type env struct {
	list program.Arg
	// home takes "HOME=…" and its ending NUL bytes from the shim.
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

// environment is what listings show of an environment that ends with what home has.
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
