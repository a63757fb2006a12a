// SPDX-License-Identifier: Apache-2.0

package program

import (
	"encoding/binary"
	"fmt"
	"runtime"
	"strings"

	"golang.org/x/sys/unix"
)

// Offsets of a step, the interpreter's form of a call, in bytes. The defines at the
// top of interp_*.s repeat them.
const (
	offNr       = 0
	offArgs     = 8   // six words
	offFlags    = 56  // bits 0-5: argument n is a pointer to its value; flagWant
	offWant     = 64  // compared with the result where flagWant is set
	offIfZero   = 72  // address of the step that follows a result of 0
	offOnError  = 80  // address of the step that follows an error; 0: report and exit
	offStore    = 88  // address of 32 bits that receive the result
	offRecord   = 96  // the failure record begins here: kind and index
	offRet      = 104 // … and ends with the result
	offReportFD = 112
	offErrno    = 120 // the one result that offOnError is for; 0: any
	stepSize    = 128

	flagWant = 1 << 8
)

// assembler lays out the steps of one program, and the data behind them, for one address.
type assembler struct {
	base   uint64
	kind   uint32 // of failure records
	report int
	arch   string

	labels map[string]int
	texts  map[string]uint64
	shared map[Arg]uint64
	out    []byte
	stored map[string]bool
}

// assemble returns steps and data as they must be in memory at base. Their length does not depend
// on base.
func (p Program) assemble(arch string, base uint64, kind uint32, reportFD int) ([]byte, error) {
	l := &assembler{
		base: base, kind: kind, report: reportFD, arch: arch,
		labels: map[string]int{}, texts: map[string]uint64{}, shared: map[Arg]uint64{}, stored: map[string]bool{},
		out: make([]byte, stepSize*(len(p)+1)),
	}
	for i := range p {
		for _, s := range append(p[i].Marks, p[i].Label) {
			if s == "" {
				continue
			}
			if _, dup := l.labels[s]; dup {
				return nil, fmt.Errorf("%s: label %q is used twice", p[i].name(), s)
			}
			l.labels[s] = i
		}
		// This comes before all data, so that a Result within a Blob may override it.
		l.put(i, offStore, l.step(i)+offRet)
	}
	for i := range p {
		if err := l.call(i, &p[i]); err != nil {
			return nil, fmt.Errorf("%s: %w", p[i].name(), err)
		}
	}
	l.put(len(p), offStore, l.step(len(p))+offRet)
	if err := l.call(len(p), &Call{Nr: unix.SYS_EXIT_GROUP}); err != nil {
		return nil, err
	}
	return l.out, nil
}

func (l *assembler) step(i int) uint64 { return l.base + uint64(i*stepSize) }

func (l *assembler) put(step, off int, v uint64) {
	binary.LittleEndian.PutUint64(l.out[step*stepSize+off:], v)
}

func (l *assembler) call(i int, c *Call) error {
	nr, ok := translate(c.Nr, runtime.GOARCH, l.arch)
	if !ok {
		return fmt.Errorf("%s has no system call %s", l.arch, sysName(runtime.GOARCH, c.Nr))
	}
	if len(c.Args) > 6 {
		return fmt.Errorf("%d arguments; a system call has at most 6", len(c.Args))
	}
	l.put(i, offNr, uint64(nr))
	var flags uint64
	for j, a := range c.Args {
		if r, ok := a.(Result); ok {
			flags |= 1 << j
			a = ResultAddr(r)
		}
		v, err := l.value(a)
		if err != nil {
			return fmt.Errorf("argument %d: %w", j, err)
		}
		l.put(i, offArgs+8*j, v)
	}
	if c.Want != nil {
		flags |= flagWant
		l.put(i, offWant, uint64(*c.Want))
	}
	l.put(i, offFlags, flags)
	zero, err := l.target(c.IfZero, i+1)
	if err != nil {
		return err
	}
	l.put(i, offIfZero, zero)
	if c.OnError != "" || c.IgnoreError {
		to, err := l.target(c.OnError, i+1)
		if err != nil {
			return err
		}
		l.put(i, offOnError, to)
	}
	if c.Errno != 0 {
		l.put(i, offErrno, -uint64(c.Errno))
	}
	l.put(i, offRecord, uint64(l.kind)|uint64(uint32(i))<<32)
	l.put(i, offReportFD, uint64(l.report))
	return nil
}

// target returns the address of a label's step, or of step i if the label is empty.
func (l *assembler) target(label string, i int) (uint64, error) {
	if label != "" {
		var ok bool
		if i, ok = l.labels[label]; !ok {
			return 0, fmt.Errorf("no call has the label %q", label)
		}
	}
	return l.step(i), nil
}

// value returns the word for an argument. It lays out the argument's data.
func (l *assembler) value(a Arg) (uint64, error) {
	switch a := a.(type) {
	case Int:
		return uint64(a), nil
	case Sym:
		return uint64(a.Value), nil
	case Str:
		return l.text(string(a))
	case Bytes:
		return l.data(a), nil
	case Strs:
		ptrs := make([]byte, 0, 8*len(a)+8)
		for _, s := range a {
			v, err := l.text(s)
			if err != nil {
				return 0, err
			}
			ptrs = binary.LittleEndian.AppendUint64(ptrs, v)
		}
		return l.data(append(ptrs, make([]byte, 8)...)), nil
	case *Buffer:
		return l.once(a, make([]byte, a.N)), nil
	case *Blob:
		return l.blob(a)
	case ResultAddr:
		i, ok := l.labels[string(a)]
		if !ok {
			return 0, fmt.Errorf("no call has the label %q", string(a))
		}
		return l.step(i) + offRet, nil
	}
	return 0, fmt.Errorf("an argument cannot be a %T", a)
}

func (l *assembler) text(s string) (uint64, error) {
	if strings.IndexByte(s, 0) >= 0 {
		return 0, fmt.Errorf("%q contains a NUL byte, which ends a text for the kernel; remove it", s)
	}
	v, ok := l.texts[s]
	if !ok {
		v = l.base + uint64(len(l.out))
		l.out = append(append(l.out, s...), 0)
		l.texts[s] = v
	}
	return v, nil
}

func (l *assembler) data(b []byte) uint64 {
	for len(l.out)%16 != 0 {
		l.out = append(l.out, 0)
	}
	v := l.base + uint64(len(l.out))
	l.out = append(l.out, b...)
	return v
}

func (l *assembler) once(a Arg, b []byte) uint64 {
	v, ok := l.shared[a]
	if !ok {
		v = l.data(b)
		l.shared[a] = v
	}
	return v
}

func (l *assembler) blob(b *Blob) (uint64, error) {
	if v, ok := l.shared[b]; ok {
		return v, nil
	}
	at := l.once(b, b.Data)
	for _, r := range b.Refs {
		result, isResult := r.Arg.(Result)
		size := 8
		if isResult {
			size = 4
		}
		if r.Off < 0 || r.Off+size > len(b.Data) {
			return 0, fmt.Errorf("%s has %d bytes, too few for a reference at %d", b.Name, len(b.Data), r.Off)
		}
		if !isResult {
			v, err := l.value(r.Arg)
			if err != nil {
				return 0, fmt.Errorf("%s at %d: %w", b.Name, r.Off, err)
			}
			binary.LittleEndian.PutUint64(l.out[at-l.base+uint64(r.Off):], v)
			continue
		}
		i, ok := l.labels[string(result)]
		if !ok {
			return 0, fmt.Errorf("no call has the label %q", string(result))
		}
		if l.stored[string(result)] {
			return 0, fmt.Errorf("the result of %q would be stored in two places; use ResultAddr", string(result))
		}
		l.stored[string(result)] = true
		l.put(i, offStore, at+uint64(r.Off))
	}
	return at, nil
}
