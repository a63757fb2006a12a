// SPDX-License-Identifier: Apache-2.0

package inside

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"strconv"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"sysbox/tests/i386"
)

// callWord makes the program a child that does one system call.
const callWord = "--call"

func init() {
	add(map[string]question{
		"call":   {"the system call made from inside", callInChild},
		"call32": {"the system call made by a 32-bit program", call32},
	})
}

// numbers of the system calls that are asked for; x32's have the bit of that ABI.
var numbers = map[string]uintptr{
	"getpriority": unix.SYS_GETPRIORITY, "getpgid": unix.SYS_GETPGID, "getsid": unix.SYS_GETSID,
	"sync": unix.SYS_SYNC, "sysinfo": unix.SYS_SYSINFO, "personality": unix.SYS_PERSONALITY,
	"getcpu": unix.SYS_GETCPU, "ioprio_get": unix.SYS_IOPRIO_GET, "sched_get_priority_max": unix.SYS_SCHED_GET_PRIORITY_MAX,
	"sched_get_priority_min": unix.SYS_SCHED_GET_PRIORITY_MIN, "flock": unix.SYS_FLOCK, "umask": unix.SYS_UMASK,
	"lseek": unix.SYS_LSEEK, "swapoff": unix.SYS_SWAPOFF, "mlockall": unix.SYS_MLOCKALL, "kcmp": unix.SYS_KCMP,
	"x32:umask": 0x40000000 | 95,
}

// callInChild has a child make the call, as it may be killed for it:
// call NAME ARG... answers "works", an errno, "trapped", "thread killed" or "process killed".
func callInChild(a []string) (string, error) {
	var stdout, stderr bytes.Buffer
	cmd := exec.Command("/proc/self/exe", append([]string{callWord}, a...)...)
	cmd.Args[0], cmd.Stdout, cmd.Stderr = os.Args[0], &stdout, &stderr
	err := cmd.Run()
	var exit *exec.ExitError
	if errors.As(err, &exit) {
		ws := exit.Sys().(syscall.WaitStatus)
		switch {
		case ws.Signaled() && ws.Signal() == unix.SIGSYS:
			return "process killed", nil
		case strings.Contains(stderr.String(), "SIGSYS"):
			return "trapped", nil
		}
		return "", fmt.Errorf("%w: %s", err, stderr.String())
	}
	return strings.TrimSpace(stdout.String()), err
}

// call makes the call on a thread of its own, which may be killed for it.
func call(name string, args []string) int {
	nr, ok := numbers[name]
	if !ok {
		fmt.Println("error: no such call is known here")
		return 0
	}
	var v [6]uintptr
	for i, a := range args {
		n, err := strconv.ParseUint(a, 0, 64)
		if err != nil {
			fmt.Println("error:", err)
			return 0
		}
		v[i] = uintptr(n)
	}
	thread, done := make(chan int, 1), make(chan string, 1)
	go func() {
		runtime.LockOSThread()
		thread <- unix.Gettid()
		_, _, e := unix.Syscall6(nr, v[0], v[1], v[2], v[3], v[4], v[5])
		if e != 0 {
			done <- errno(e)
			return
		}
		done <- "works"
	}()
	// The first thread of a process leaves a zombie.
	state := fmt.Sprintf("/proc/%d/task/%d/stat", os.Getpid(), <-thread)
	for {
		select {
		case s := <-done:
			fmt.Println(s)
			return 0
		case <-time.After(time.Millisecond):
			if s, err := text(state); err != nil || strings.Contains(s, ") Z ") {
				select {
				case s := <-done: // it ended by itself meanwhile
					fmt.Println(s)
				default:
					fmt.Println("thread killed")
				}
				return 0
			}
		}
	}
}

// call32 writes and runs a 32-bit program of one call, by its number there, whose exit
// status is the errno: call32 NUMBER.
func call32(a []string) (string, error) {
	nr, err := strconv.Atoi(a[0])
	if err != nil {
		return "", err
	}
	const name = "/tmp/call32"
	if err := os.WriteFile(name, i386.Executable(oneCall(uint32(nr))), 0o755); err != nil {
		return "", err
	}
	defer os.Remove(name)
	err = exec.Command(name).Run()
	var exit *exec.ExitError
	switch {
	case err == nil:
		return "works", nil
	case errors.As(err, &exit) && exit.Exited():
		return errno(syscall.Errno(exit.ExitCode())), nil
	}
	return "", err
}

// oneCall is code for the i386: mov nr,%eax; zero the arguments; int $0x80; exit(-%eax, or
// 0 for what is no errno).
func oneCall(nr uint32) []byte {
	code := append([]byte{0xb8}, binary.LittleEndian.AppendUint32(nil, nr)...)
	return append(code,
		0x31, 0xdb, // xor %ebx,%ebx
		0x31, 0xc9, // xor %ecx,%ecx
		0x31, 0xd2, // xor %edx,%edx
		0xcd, 0x80, // int $0x80
		0x89, 0xc3, // mov %eax,%ebx
		0xf7, 0xdb, // neg %ebx
		0x81, 0xfb, 0xff, 0x0f, 0x00, 0x00, // cmp $4095,%ebx
		0x76, 0x02, // jbe +2
		0x31, 0xdb, // xor %ebx,%ebx
		0xb8, 1, 0, 0, 0, // mov $1,%eax: exit
		0xcd, 0x80,
	)
}
