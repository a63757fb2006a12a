// SPDX-License-Identifier: Apache-2.0

package program

import (
	"fmt"
	"runtime"
	"syscall"

	"golang.org/x/sys/unix"
)

// Program is a list of system calls, which are made in order. After the last call the program
// ends with exit status 0.
type Program []Call

// Call is one system call of a [Program].
type Call struct {
	// Name says what the call is for, in errors and listings, for example "unshare the mount
	// namespace". If it is empty, they show the name of the system call.
	Name string
	// Field is the field of the runtime specification that the call serves, such as
	// "process.cwd", and Value is its value there. Errors use both. Both may be empty.
	Field, Value string
	// Nr is the system call's number on the architecture this package is built for,
	// such as unix.SYS_PRCTL.
	Nr uintptr
	// Args are at most six; the rest are zero.
	Args []Arg
	// Label names the call, for jumps and for [Result]. It is unique in its program.
	Label string
	// Marks are further labels, only for jumps. They mark a place in a program, whatever call
	// comes there.
	Marks []string

	// Want is the result that the call must have, or it fails. nil accepts any result that is not
	// an error.
	Want *int64
	// IfZero is the label where the program continues when the result is 0 (the child's side of a
	// fork). Empty means the next call.
	IfZero string
	// OnError is the label where the program continues when the call fails. Empty means that the
	// failure is reported and the process ends with exit status 126.
	OnError string
	// IgnoreError continues with the next call when the call fails. It has no effect if OnError
	// is set.
	IgnoreError bool
	// Errno restricts OnError and IgnoreError to this error. 0 means any error, including a
	// result that is not Want.
	Errno syscall.Errno

	jump bool // made by Goto
}

// name returns the call's name, or that of its system call.
func (c *Call) name() string {
	if c.Name != "" {
		return c.Name
	}
	return sysName(runtime.GOARCH, c.Nr)
}

// Goto is a jump. The interpreter has no jump instruction, so this is a call that changes nothing
// and always "fails". Listings show only the jump.
func Goto(label string) Call {
	return Call{Nr: unix.SYS_GETPID, Want: Equals(0), OnError: label, jump: true}
}

// Equals is a value for [Call.Want].
func Equals(v int64) *int64 { return &v }

// Arg is an argument of a [Call]: [Int], [Sym], [Str], [Bytes], [Strs], *[Blob], *[Buffer],
// [Result] or [ResultAddr].
type Arg interface {
	fmt.Stringer
	arg()
}

// Int is a number.
type Int int64

// Sym is a number that listings show by name, for example {"MNT_DETACH", 2}.
type Sym struct {
	Name  string
	Value int64
}

// Str is a pointer to NUL-terminated text. Text that contains a NUL does not compile.
type Str string

// Bytes is a pointer to a copy of the data, 16-aligned. Each use has its own copy.
type Bytes []byte

// Strs is a pointer to an array of pointers to texts that ends with a null pointer, the form in
// which execve takes its arguments and environment.
type Strs []string

// Blob is a pointer to data that contains other arguments: struct sock_fprog, iovec, clone_args.
// All uses of one *Blob share the memory.
type Blob struct {
	// Name is what listings show.
	Name string
	// Data is the content, in the machine's byte order, which is little-endian on both
	// architectures.
	Data []byte
	// Refs are stored in the data: 8 bytes each, or 4 for a [Result].
	Refs []Ref

	// Named means that the name says what the content is. Then listings show nothing else.
	Named bool
}

// Ref is an argument within a [Blob].
type Ref struct {
	// Off is in bytes from the start of the blob.
	Off int
	// Arg is what is stored there. A [Result] is stored when its call returns. The result of a
	// call can be stored in one place only.
	Arg Arg
}

// Buffer is a pointer to N zeroed bytes that calls write and read. All uses of one *Buffer share
// the memory.
type Buffer struct {
	// Name is what listings show.
	Name string
	// N is the size in bytes.
	N int
}

// Result is the result of the call with this label. It is 0 until that call is made.
type Result string

// ResultAddr is a pointer to the 64-bit result of the call with this label.
type ResultAddr string

func (Int) arg()        {}
func (Sym) arg()        {}
func (Str) arg()        {}
func (Bytes) arg()      {}
func (Strs) arg()       {}
func (*Blob) arg()      {}
func (*Buffer) arg()    {}
func (Result) arg()     {}
func (ResultAddr) arg() {}
