// SPDX-License-Identifier: Apache-2.0

package program

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// ReportFD is the number of the report pipe's write end in a program. It is
// close-on-exec from the program's beginning.
const ReportFD = 3

// A record on the report pipe is 16 bytes: uint32 kind, uint32 call index or tag, int64 result or
// value. Its write is atomic, because PIPE_BUF is larger.
const (
	recordSize     = 16
	kindFailure    = 1 // of the program
	kindProgress   = 2
	kindLaunchFail = 3 // of the launch calls, which precede the program
)

// Report is a call that sends tag to the reader and, unless value is empty, the low 32 bits of
// the result of the call with that label.
func Report(name string, tag uint32, value string) Call {
	b := &Blob{Name: fmt.Sprintf("{report %d}", tag), Data: make([]byte, recordSize), Named: true}
	binary.LittleEndian.PutUint32(b.Data, kindProgress)
	binary.LittleEndian.PutUint32(b.Data[4:], tag)
	if value != "" {
		b.Name, b.Refs = fmt.Sprintf("{report %d, $%s}", tag, value), []Ref{{8, Result(value)}}
	}
	return Call{Name: name, Nr: unix.SYS_WRITE, Args: []Arg{Int(ReportFD), b, Int(recordSize)}, Want: Equals(recordSize)}
}

// Progress is the content of a [Report].
type Progress struct {
	Tag   uint32
	Value int32
}

// StepError is the failure of a call in a program. It unwraps to its Errno, if it has one.
type StepError struct {
	// Index counts from 0, in the program or, if Before is set, in the launch calls before it.
	Index  int
	Before bool
	Step   Call
	// Errno is the error. 0 means that the call returned Result instead of what it must return.
	Errno  syscall.Errno
	Result int64
}

func (e *StepError) Error() string {
	why := fmt.Sprintf("returned %d instead of %d", e.Result, want(e.Step))
	if e.Errno != 0 {
		why = e.Errno.Error()
	}
	return fmt.Sprintf("%s: %s: %s", e.Step.name(), e.Step.line(), why)
}

func want(c Call) int64 {
	if c.Want == nil {
		return 0
	}
	return *c.Want
}

// Unwrap returns the Errno, or nil if there is none.
func (e *StepError) Unwrap() error {
	if e.Errno == 0 {
		return nil
	}
	return e.Errno
}

// Fail returns the error of a call with that result, which is a negated errno or not what it must
// be. The error's Step shows results by the calls that gave them.
func (p Program) Fail(index int, result int64) error {
	if index < 0 || index >= len(p) {
		return fmt.Errorf("a record on the report pipe names call %d of %d; this is a bug", index, len(p))
	}
	e := &StepError{Index: index, Step: p.explained(&p[index], 1), Result: result}
	if result < 0 && result >= -4095 {
		e.Errno = syscall.Errno(-result)
	}
	return e
}

// failBefore is Fail for the launch calls.
func failBefore(p Program, index int, result int64) error {
	err := p.Fail(index, result)
	if e, ok := err.(*StepError); ok {
		e.Before = true
	}
	return err
}

// Next waits for the next record, until deadline (zero means without limit). Errors: *[StepError]
// for a call that failed; io.EOF if all processes of the program have executed another file or
// ended; os.ErrDeadlineExceeded. A process that was killed leaves no record, so io.EOF instead of
// a [Progress] means that.
func (c *Child) Next(deadline time.Time) (Progress, error) {
	if err := c.report.SetReadDeadline(deadline); err != nil {
		return Progress{}, fmt.Errorf("set a deadline on the report pipe: %w", err)
	}
	var b [recordSize]byte
	if _, err := io.ReadFull(c.report, b[:]); err != nil {
		if err == io.EOF || errors.Is(err, os.ErrDeadlineExceeded) {
			return Progress{}, err
		}
		return Progress{}, fmt.Errorf("read the report pipe: %w", err)
	}
	kind, index := binary.LittleEndian.Uint32(b[:]), binary.LittleEndian.Uint32(b[4:])
	value := int64(binary.LittleEndian.Uint64(b[8:]))
	switch kind {
	case kindProgress:
		return Progress{index, int32(value)}, nil
	case kindFailure:
		if index == 0 {
			return Progress{}, failBefore(Program{hideReport}, 0, value)
		}
		return Progress{}, c.program.Fail(int(index)-1, value)
	}
	return Progress{}, fmt.Errorf("a record of the unknown kind %d on the report pipe; this is a bug", kind)
}
