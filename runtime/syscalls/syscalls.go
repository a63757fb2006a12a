// SPDX-License-Identifier: Apache-2.0

// Package syscalls has the names and numbers of the kernel's system calls, for each
// architecture that a container's processes can use.
//
// The tables are texts, which the linker puts beside the code. Nothing is parsed and no map
// is built when a program starts; a look-up reads the text, which takes a few microseconds at
// most (BenchmarkNumber). Whoever needs many numbers builds a map out of [All].
//
// What does not belong here: the arguments and flags of system calls (package program), and
// the names of architectures in the runtime-spec (package seccomp).
package syscalls

import (
	"iter"
	"strconv"
	"strings"
)

//go:generate go run gen.go

// Arch is an architecture of system call numbers, named as GOARCH does.
type Arch string

// The architectures with a table. [X32] is an ABI of amd64 kernels that GOARCH does not know.
const (
	AMD64 Arch = "amd64"
	I386  Arch = "386"
	X32   Arch = "x32"
	ARM64 Arch = "arm64"
	ARM   Arch = "arm"
)

// X32Bit is __X32_SYSCALL_BIT (asm/unistd.h), which every number of [X32] has set.
const X32Bit = 0x40000000

// tableX32 has the calls whose number on x32 is not that of x86_64, because the sizes of
// their arguments differ (arch/x86/entry/syscalls/syscall_64.tbl, abi x32).
const tableX32 = "rt_sigaction 512 rt_sigreturn 513 ioctl 514 readv 515 writev 516 recvfrom 517 sendmsg 518 recvmsg 519 execve 520 " +
	"ptrace 521 rt_sigpending 522 rt_sigtimedwait 523 rt_sigqueueinfo 524 sigaltstack 525 timer_create 526 mq_notify 527 kexec_load 528 " +
	"waitid 529 set_robust_list 530 get_robust_list 531 vmsplice 532 move_pages 533 preadv 534 pwritev 535 rt_tgsigqueueinfo 536 " +
	"recvmmsg 537 sendmmsg 538 process_vm_readv 539 process_vm_writev 540 setsockopt 541 getsockopt 542 io_setup 543 io_submit 544 " +
	"execveat 545 preadv2 546 pwritev2 547 "

// tables returns the tables of an architecture, "name number name number ", the one that
// overrides others first, and the bits that all of its numbers have set.
func tables(a Arch) (out [2]string, bit uint32) {
	switch a {
	case AMD64:
		out[0] = tableamd64
	case I386:
		out[0] = table386
	case X32:
		return [2]string{tableX32, tableamd64}, X32Bit
	case ARM64:
		out[0] = tablearm64
	case ARM:
		out[0] = tablearm
	}
	return out, 0
}

// All yields the names and numbers of an architecture, in no order that means anything, and
// nothing for one that has no table.
func All(a Arch) iter.Seq2[string, uint32] {
	return func(yield func(string, uint32) bool) {
		texts, bit := tables(a)
		for i, text := range texts {
			for text != "" {
				var name, number string
				name, text, _ = strings.Cut(text, " ")
				number, text, _ = strings.Cut(text, " ")
				if i > 0 && find(texts[0], name) != "" {
					continue
				}
				n, _ := strconv.ParseUint(number, 10, 32) // TestTables
				if !yield(name, uint32(n)|bit) {
					return
				}
			}
		}
	}
}

// Number returns the number of the system call with this name; false if the architecture has
// no such call.
func Number(a Arch, name string) (uint32, bool) {
	texts, bit := tables(a)
	for _, text := range texts {
		if number := find(text, name); number != "" {
			n, err := strconv.ParseUint(number, 10, 32)
			return uint32(n) | bit, err == nil
		}
	}
	return 0, false
}

// find returns the word that follows a word in a table, which is its number if the word is a
// name, and "" if the word is not there.
func find(table, word string) string {
	for at := 0; word != ""; at++ {
		i := strings.Index(table[at:], word)
		if i < 0 {
			break
		}
		at += i
		if after, whole := strings.CutPrefix(table[at+len(word):], " "); whole && (at == 0 || table[at-1] == ' ') {
			next, _, _ := strings.Cut(after, " ")
			return next
		}
	}
	return ""
}

// Name returns the name of the system call with this number; false if the architecture has
// no such call.
func Name(a Arch, number uint32) (string, bool) {
	texts, bit := tables(a)
	if number&bit != bit {
		return "", false
	}
	word := " " + strconv.FormatUint(uint64(number&^bit), 10) + " "
	for i, text := range texts {
		if at := strings.Index(text, word); at >= 0 {
			name := text[strings.LastIndexByte(text[:at], ' ')+1 : at]
			if i == 0 || find(texts[0], name) == "" {
				return name, true
			}
		}
	}
	return "", false
}
