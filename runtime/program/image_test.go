// SPDX-License-Identifier: Apache-2.0

package program

import (
	"bytes"
	"debug/elf"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"unsafe"

	"golang.org/x/sys/unix"
)

// The table must be what the assembler makes today, here and for the other architecture.
func TestInterpreterTable(t *testing.T) {
	table := machines[runtime.GOARCH].interp
	at := interpAddr()
	addr := *(*unsafe.Pointer)(unsafe.Pointer(&at)) // code, not memory of Go's
	assembled := unsafe.Slice((*byte)(addr), len(table))
	if !bytes.Equal(table, assembled) {
		t.Error("code.go does not match the assembled interpreter; run go generate")
	}
	if testing.Short() {
		t.Skip("the other architecture's half builds a test binary; not with -short")
	}
	if _, err := exec.LookPath("go"); err != nil {
		t.Skip("the other architecture's half needs the go command: ", err)
	}
	cmd := exec.Command("go", "run", "gen.go", "-check")
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Errorf("%s: %v: %s", cmd, err, out)
	}
}

func TestImage(t *testing.T) {
	for arch, want := range map[string]elf.Machine{"amd64": elf.EM_X86_64, "arm64": elf.EM_AARCH64} {
		image, err := Program{{Nr: unix.SYS_CHDIR, Args: []Arg{Str("/")}}}.Compile(arch)
		if err != nil {
			t.Fatal(err)
		}
		again, _ := Program{{Nr: unix.SYS_CHDIR, Args: []Arg{Str("/")}}}.Compile(arch)
		if !bytes.Equal(image, again) {
			t.Errorf("%s: two compilations of one program differ", arch)
		}
		f, err := elf.NewFile(bytes.NewReader(image))
		if err != nil {
			t.Fatal(err)
		}
		if f.Machine != want || f.Type != elf.ET_EXEC {
			t.Errorf("%s: %v %v", arch, f.Machine, f.Type)
		}
		stack := false
		for _, p := range f.Progs {
			if p.Flags&elf.PF_W != 0 && p.Flags&elf.PF_X != 0 {
				t.Errorf("%s: a segment is both writable and executable", arch)
			}
			if p.Type == elf.PT_LOAD && (p.Vaddr-p.Off)%p.Align != 0 {
				t.Errorf("%s: segment at %#x, file offset %#x, is not aligned", arch, p.Vaddr, p.Off)
			}
			stack = stack || p.Type == elf.PT_GNU_STACK && p.Flags&elf.PF_X == 0
		}
		if !stack {
			t.Errorf("%s: the stack would be executable", arch)
		}
	}
}

func TestCompileErrors(t *testing.T) {
	two := &Blob{Name: "b", Data: make([]byte, 8), Refs: []Ref{{0, Result("x")}, {4, Result("x")}}}
	for want, p := range map[string]Program{
		`no call has the label "x"`:                   {{IfZero: "x"}},
		`open: argument 0: no call has the label "y"`: {{Name: "open", Args: []Arg{Result("y")}}},
		`label "x" is used twice`:                     {{Label: "x"}, {Label: "x"}},
		`7 arguments`:                                 {{Args: make([]Arg, 7)}},
		`argument 0: an argument cannot be a <nil>`:   {{Args: []Arg{nil}}},
		`"a\x00b" contains a NUL byte`:                {{Args: []Arg{Str("a\x00b")}}},
		`b has 4 bytes, too few for a reference at 0`: {{Args: []Arg{&Blob{Name: "b", Data: make([]byte, 4), Refs: []Ref{{0, Str("")}}}}}},
		`would be stored in two places`:               {{Label: "x", Args: []Arg{two}}},
	} {
		_, err := p.Compile(runtime.GOARCH)
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("got %v, want %s", err, want)
		}
	}
	if _, err := (Program{}).Compile("riscv64"); err == nil {
		t.Error("compiled for riscv64")
	}
}

// The image for the other architecture runs, too: jumps, results, failure record.
func TestARM64(t *testing.T) {
	qemu, err := exec.LookPath("qemu-aarch64")
	if err != nil {
		t.Skip("needs qemu-aarch64 of Debian's qemu-user: ", err)
	}
	image, err := Program{
		{Nr: unix.SYS_CHDIR, Args: []Arg{Str("/nonexistent")}, OnError: "there"},
		Exit(1),
		{Nr: unix.SYS_GETPID, Label: "there"},
		{Nr: unix.SYS_DUP, Args: []Arg{Int(1)}, Label: "out"},
		{Nr: unix.SYS_WRITE, Args: []Arg{Result("out"), Str("hello"), Int(5)}, Want: Equals(5)},
		{Nr: unix.SYS_CHDIR, Args: []Arg{Str("/")}, IfZero: "zero"},
		Exit(2),
		Report("tell", 7, "out"),
		{Name: "fail", Nr: unix.SYS_WRITE, Args: []Arg{Int(1), Str("x"), Int(1)}, Want: Equals(2), Label: "zero"},
	}.Compile("arm64")
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(t.TempDir(), "image")
	if err := os.WriteFile(file, image, 0o755); err != nil {
		t.Fatal(err)
	}
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	cmd := exec.Command(qemu, file)
	cmd.ExtraFiles = []*os.File{w} // number 3
	out, err := cmd.Output()
	w.Close()
	if code := cmd.ProcessState.ExitCode(); string(out) != "hellox" || code != 126 {
		t.Fatalf("output %q, exit code %d, %v; want hellox and 126", out, code, err)
	}
	c := &Child{report: r, program: make(Program, 9)}
	_, err = c.Next(soon())
	if step, ok := err.(*StepError); !ok || step.Index != 8 || step.Result != 1 {
		t.Errorf("record: %v", err)
	}
}

// Nobody changes an image, not even its execute bits.
func TestSeal(t *testing.T) {
	fd, err := seal([]byte("x"))
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(fd)
	if _, err := unix.Pwrite(fd, []byte("y"), 0); err != unix.EPERM {
		t.Errorf("write: %v", err)
	}
	if err := unix.Ftruncate(fd, 0); err != unix.EPERM {
		t.Errorf("truncate: %v", err)
	}
	seals, err := unix.FcntlInt(uintptr(fd), unix.F_GET_SEALS, 0)
	if err != nil || seals&unix.F_SEAL_SEAL == 0 {
		t.Errorf("seals %#x, %v", seals, err)
	}
	if seals&unix.F_SEAL_EXEC == 0 {
		t.Skip("F_SEAL_EXEC needs Linux 6.3")
	}
	if err := unix.Fchmod(fd, 0o600); err != unix.EPERM {
		t.Errorf("chmod: %v", err)
	}
}
