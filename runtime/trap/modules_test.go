// SPDX-License-Identifier: Apache-2.0

package trap_test

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"testing"
	"unsafe"

	"golang.org/x/sys/unix"

	"sysbox/runtime"
	"sysbox/tests/pace"
	"sysbox/tests/testcontainer"
)

// TestModules: a module that the host has counts as loaded, another is refused unless the
// administrator's list has its name, and then it is the host's modprobe that is asked.
// No image of the container's gets to the kernel.
func TestModules(t *testing.T) {
	list, err := os.ReadDir("/sys/module")
	if err != nil || len(list) == 0 {
		t.Skip("this kernel shows no modules")
	}
	loaded := list[0].Name()
	p := testcontainer.NewPod(t)
	p.Config.Modules = []string{"sysbox-no-such"}
	w, text := testcontainer.Pipe(t)
	bundle := modulesInside.Bundle(t, nil)
	if err := os.WriteFile(bundle+"/rootfs/root/name", []byte(loaded), 0o644); err != nil {
		t.Fatal(err)
	}
	c := testcontainer.Create(t, p, runtime.CreateRequest{ID: "c1", Bundle: bundle, Stdio: runtime.Stdio{Stdout: w, Stderr: w}})
	if err := c.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	if exit := testcontainer.Wait(t, c.Init()); exit.Status != 0 {
		t.Error(text())
	}
}

// TestModuleOfTheList: what the administrator's list names is loaded by the host, from
// the host's own files.
func TestModuleOfTheList(t *testing.T) {
	const name = "dummy"
	if !pace.Machine() {
		t.Skip("loads a module into the host's kernel, which is for a machine that the tests have to themselves (tests/vm)")
	}
	p := testcontainer.NewPod(t)
	p.Config.Modules = []string{name}
	w, text := testcontainer.Pipe(t)
	c := testcontainer.Create(t, p, runtime.CreateRequest{ID: "c1", Bundle: aModuleOfTheListInside.Bundle(t, nil), Stdio: runtime.Stdio{Stdout: w, Stderr: w}})
	if err := c.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	if exit := testcontainer.Wait(t, c.Init()); exit.Status != 0 {
		t.Error(text())
	}
	if _, err := os.Stat("/sys/module/" + name); err != nil {
		t.Error(err)
	}
	if out, err := exec.Command("modprobe", "-r", name).CombinedOutput(); err != nil {
		t.Errorf("%v: %s", err, out)
	}
}

var aModuleOfTheListInside = testcontainer.Inside("a module of the list", func() error {
	if err := finit("dummy.ko"); err != nil {
		return fmt.Errorf("the module's file, which is empty: %w", err)
	}
	if err := finit("dummy.ko"); err != unix.EEXIST {
		return fmt.Errorf("once more: %w, want %w", err, unix.EEXIST)
	}
	return nil
})

var modulesInside = testcontainer.Inside("modules", func() error {
	b, err := os.ReadFile("/root/name")
	if err != nil {
		return err
	}
	loaded := strings.ReplaceAll(string(b), "_", "-") // as files are often named
	var errs []error
	check := func(what string, got, want error) {
		if want == unix.EPERM && got == unix.ENOSYS {
			return // the answer of a kernel without modules
		}
		if got != want {
			errs = append(errs, fmt.Errorf("%s: %w, want %w", what, got, want))
		}
	}
	check("a file of a module that is loaded", finit(loaded+".ko"), unix.EEXIST)
	check("the same, compressed", finit(loaded+".ko.zst"), unix.EEXIST)
	check("a file of one that is not", finit("sysbox_other.ko"), unix.EPERM)
	check("a file of one on the list that the host does not have", finit("sysbox_no_such.ko"), unix.ENOENT)
	check("a name with a slash's worth of tricks", finit("..ko"), unix.EPERM)
	check("an image of a module that is loaded", initModule(moduleImage(loaded)), unix.EEXIST)
	check("an image of one that is not", initModule(moduleImage("sysbox_other")), unix.EPERM)
	check("rubbish", initModule([]byte("rubbish")), unix.ENOEXEC)
	huge := moduleImage(loaded)
	binary.LittleEndian.PutUint64(huge[40:], 1<<60) // e_shoff
	check("an image whose sections are nowhere", initModule(huge), unix.ENOEXEC)
	check("no image", initModule(nil), unix.ENOEXEC)
	check("no file", unix.FinitModule(999, "", 0), unix.EBADF)
	return errors.Join(errs...)
})

func finit(name string) error {
	f, err := os.Create("/root/" + name)
	if err != nil {
		return err
	}
	defer f.Close()
	return unix.FinitModule(int(f.Fd()), "", 0)
}

func initModule(image []byte) error {
	empty := []byte{0}
	_, _, e := unix.Syscall(unix.SYS_INIT_MODULE, address(image), uintptr(len(image)), uintptr(unsafe.Pointer(&empty[0])))
	if e != 0 {
		return e
	}
	return nil
}

// moduleImage is an ELF file with nothing but a .modinfo, elf(5).
func moduleImage(name string) []byte {
	info := []byte("license=GPL\x00name=" + name + "\x00")
	names := []byte("\x00.modinfo\x00.shstrtab\x00")
	var b bytes.Buffer
	le := func(v any) { _ = binary.Write(&b, binary.LittleEndian, v) }
	b.WriteString("\x7fELF\x02\x01\x01")
	b.Write(make([]byte, 9))
	le([]uint16{1, 62}) // ET_REL, EM_X86_64
	le(uint32(1))
	at := uint64(64 + len(info) + len(names))
	le([]uint64{0, 0, at})
	le(uint32(0))
	le([]uint16{64, 0, 0, 64, 3, 2})
	b.Write(info)
	b.Write(names)
	section := func(name, kind uint32, off, size uint64) {
		le([]uint32{name, kind})
		le([]uint64{0, 0, off, size})
		le([]uint32{0, 0})
		le([]uint64{1, 0})
	}
	section(0, 0, 0, 0)
	section(1, 1, 64, uint64(len(info)))
	section(10, 3, uint64(64+len(info)), uint64(len(names)))
	return b.Bytes()
}
