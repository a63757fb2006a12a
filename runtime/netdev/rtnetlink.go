// SPDX-License-Identifier: Apache-2.0

package netdev

import (
	"encoding/binary"
	"fmt"
	"os"
	"syscall"

	"golang.org/x/sys/unix"

	"sysbox/runtime/sys"
)

// netns is a network namespace and an rtnetlink(7) socket in it. It needs only five
// messages, which is less code than the interface of a library.
type netns struct {
	ns  *os.File
	fd  int
	seq uint32
}

// openNetns opens a socket in a namespace; the calling thread does not change its own. The
// result owns ns.
func openNetns(ns *os.File) (*netns, error) {
	s := &netns{ns: ns, fd: -1}
	err := sys.Thread(func() error {
		if err := sys.Setns(ns, unix.CLONE_NEWNET); err != nil {
			return err
		}
		fd, err := unix.Socket(unix.AF_NETLINK, unix.SOCK_RAW|unix.SOCK_CLOEXEC, unix.NETLINK_ROUTE)
		if err != nil {
			return os.NewSyscallError("socket(NETLINK_ROUTE)", err)
		}
		s.fd = fd
		return nil
	})
	return s, err
}

func (s *netns) close() {
	unix.Close(s.fd)
	s.ns.Close()
}

// request sends one message and returns the messages of the answer. The kernel has answered
// when the send returns, so request does not wait.
func (s *netns) request(kind, flags uint16, body ...[]byte) ([]syscall.NetlinkMessage, error) {
	s.seq++
	msg := make([]byte, unix.SizeofNlMsghdr)
	for _, b := range body {
		msg = append(msg, b...)
	}
	binary.NativeEndian.PutUint32(msg, uint32(len(msg)))
	binary.NativeEndian.PutUint16(msg[4:], kind)
	binary.NativeEndian.PutUint16(msg[6:], unix.NLM_F_REQUEST|flags)
	binary.NativeEndian.PutUint32(msg[8:], s.seq)
	if err := unix.Sendto(s.fd, msg, 0, &unix.SockaddrNetlink{Family: unix.AF_NETLINK}); err != nil {
		return nil, os.NewSyscallError("sendto(rtnetlink)", err)
	}
	var out []syscall.NetlinkMessage
	buf := make([]byte, 1<<16)
	for {
		n, _, err := unix.Recvfrom(s.fd, buf, 0)
		if err == unix.EINTR {
			continue
		}
		if err != nil {
			return nil, os.NewSyscallError("recvfrom(rtnetlink)", err)
		}
		part, err := syscall.ParseNetlinkMessage(append([]byte(nil), buf[:n]...))
		if err != nil {
			return nil, fmt.Errorf("read an rtnetlink answer: %w", err)
		}
		for _, m := range part {
			switch {
			case m.Header.Seq != s.seq:
			case m.Header.Type == unix.NLMSG_DONE:
				return out, nil
			case m.Header.Type == unix.NLMSG_ERROR:
				if e := int32(binary.NativeEndian.Uint32(m.Data)); e != 0 {
					return nil, unix.Errno(-e)
				}
				return out, nil
			case m.Header.Flags&unix.NLM_F_DUMP_INTR != 0:
				return nil, unix.EAGAIN // the list changed while it was read
			default:
				out = append(out, m)
			}
		}
	}
}

// attr returns a struct rtattr with its value, padded.
func attr(kind uint16, value []byte) []byte {
	b := make([]byte, unix.SizeofRtAttr, (unix.SizeofRtAttr+len(value)+3)&^3)
	binary.NativeEndian.PutUint16(b, uint16(unix.SizeofRtAttr+len(value)))
	binary.NativeEndian.PutUint16(b[2:], kind)
	return append(b, value...)[:cap(b)]
}

func text(kind uint16, s string) []byte { return attr(kind, append([]byte(s), 0)) }

func number(kind uint16, n uint32) []byte {
	return attr(kind, binary.NativeEndian.AppendUint32(nil, n))
}

// attributes returns those after the fixed part of a message, by type.
func attributes(m syscall.NetlinkMessage) (map[uint16][]byte, error) {
	list, err := syscall.ParseNetlinkRouteAttr(&m)
	out := map[uint16][]byte{}
	for _, a := range list {
		out[a.Attr.Type] = a.Value
	}
	return out, err
}

// info returns a struct ifinfomsg: device index (0: the attributes name it), and flags
// where change has bits set.
func info(index int32, flags, change uint32) []byte {
	b := make([]byte, unix.SizeofIfInfomsg)
	binary.NativeEndian.PutUint32(b[4:], uint32(index))
	binary.NativeEndian.PutUint32(b[8:], flags)
	binary.NativeEndian.PutUint32(b[12:], change)
	return b
}
