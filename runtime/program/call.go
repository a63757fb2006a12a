package program

import (
	"fmt"
	"runtime"
	"syscall"

	"golang.org/x/sys/unix"
)

// Program is a list of system calls, made in order. A program that runs past its last
// call ends with exit status 0.
type Program []Call

// Call is one system call of a [Program].
type Call struct {
	// Name says what the call is for, as it appears in errors and listings, for
	// example "unshare the mount namespace". Empty: the system
	// call's name.
	Name string
	// Field is the field of the runtime specification that the call serves, such as
	// "process.cwd", and Value what the specification has there: for the error of a call
	// that fails for what the caller asked. Both may be empty.
	Field, Value string
	// Nr is the system call's number on the architecture this package is built for,
	// such as unix.SYS_PRCTL.
	Nr uintptr
	// Args are at most six; the rest are zero.
	Args []Arg
	// Label names the call, for jumps and for [Result]. Unique in its program.
	Label string
	// Marks are further labels, for jumps alone: places in a program, whatever call
	// comes there.
	Marks []string

	// Want is the result that the call must have, or else it fails; nil: any that is
	// not an error.
	Want *int64
	// IfZero is the label where the program goes on when the result is 0 (the child's
	// side of a fork). Empty: the next call.
	IfZero string
	// OnError is the label where the program goes on when the call fails. Empty: the
	// failure is reported and the process ends with exit status 126.
	OnError string
	// IgnoreError goes on with the next call when the call fails. Without effect when
	// OnError is set.
	IgnoreError bool
	// Errno restricts OnError and IgnoreError to this one error. 0: to any, a result
	// that is not the wanted one included.
	Errno syscall.Errno

	jump bool // made by Goto
}

// title is the call's name, or what stands in for it.
func (c *Call) name() string {
	if c.Name != "" {
		return c.Name
	}
	return sysName(runtime.GOARCH, c.Nr)
}

// Goto is a jump: a call that changes nothing and always "fails", as the interpreter knows
// no other. Listings show the jump alone.
func Goto(label string) Call {
	return Call{Nr: unix.SYS_GETPID, Want: Equals(0), OnError: label, jump: true}
}

// Equals is a value for [Call.Want].
func Equals(v int64) *int64 { return &v }

// Arg is an argument of a [Call]: [Int], [Sym], [Str], [Bytes], [Strs], *[Blob],
// *[Space], [Result] or [ResultAddr].
type Arg interface {
	fmt.Stringer
	arg()
}

// Int is a plain number.
type Int int64

// Sym is a number that listings show by name, for example {"MNT_DETACH", 2}.
type Sym struct {
	Name  string
	Value int64
}

// Str is a pointer to the text, NUL-terminated. Text that contains a NUL does not compile.
type Str string

// Bytes is a pointer to a copy of the data, 16-aligned. Each use has its own copy.
type Bytes []byte

// Strs is a pointer to an array of pointers to the texts, terminated by a null pointer,
// as execve takes its arguments and environment.
type Strs []string

// Blob is a pointer to data with other arguments within it: struct sock_fprog, iovec,
// clone_args. All uses of one *Blob share the memory.
type Blob struct {
	// Name is what listings show.
	Name string
	// Data is the content, in the machine's byte order (little-endian on both).
	Data []byte
	// Refs are put into the data: 8 bytes each, except for a [Result], which is 4.
	Refs []Ref

	// Named: the name tells the content, so listings show nothing else.
	Named bool
}

// Ref is an argument within a [Blob].
type Ref struct {
	// Off is in bytes from the start of the blob.
	Off int
	// Arg is what is stored there. A [Result] is stored when its call returns; one
	// call's result can be stored in one place.
	Arg Arg
}

// Space is a pointer to N zeroed bytes that calls write and read. All uses of one
// *Space share the memory.
type Buffer struct {
	// Name is what listings show.
	Name string
	// N is the size in bytes.
	N int
}

// Result is the result of the call that has this label; 0 before that call was made.
type Result string

// ResultAddr is a pointer to the result (64 bits) of the call that has this label.
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
