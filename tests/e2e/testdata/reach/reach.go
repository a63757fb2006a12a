// Command reach tells in a container how far some calls go: what the kernel starts for a key
// that is not there, whose log it shows, and whether the container reaches itself.
//
// What does not belong here: what a test wants to see of these.
package main

import (
	"errors"
	"fmt"
	"net"
	"unsafe"

	"golang.org/x/sys/unix"
)

func main() {
	word := func(s string) uintptr { p, _ := unix.BytePtrFromString(s); return uintptr(unsafe.Pointer(p)) }
	_, _, key := unix.Syscall6(unix.SYS_REQUEST_KEY, word("user"), word("sysbox:reach"), word("text"), 0, 0, 0)
	fmt.Println("key:", key)

	log := make([]byte, 1<<20)
	n, err := unix.Klogctl(unix.SYSLOG_ACTION_READ_ALL, log)
	fmt.Println("log:", n, err)

	fmt.Println("127.0.0.1:", connect("127.0.0.1:0"))
	fmt.Println("::1:", connect("[::1]:0"))
	fmt.Println("ping:", ping())
}

func connect(address string) error {
	l, err := net.Listen("tcp", address)
	if err != nil {
		return err
	}
	defer l.Close()
	c, err := net.Dial("tcp", l.Addr().String())
	if err == nil {
		c.Close()
	}
	return err
}

// ping sends an echo request as ping(8) does without rights, and takes the answer.
func ping() error {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM, unix.IPPROTO_ICMP)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	if err := unix.Sendto(fd, []byte{8, 0, 0, 0, 0, 0, 0, 1}, 0, &unix.SockaddrInet4{Addr: [4]byte{127, 0, 0, 1}}); err != nil {
		return err
	}
	b := make([]byte, 64)
	n, _, err := unix.Recvfrom(fd, b, 0)
	if err == nil && (n != 8 || b[0] != 0) {
		return errors.New("no answer")
	}
	return err
}
