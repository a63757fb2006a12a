package netdev

import (
	"encoding/binary"
	"fmt"
	"os"
	"syscall"

	"golang.org/x/sys/unix"

	"sysbox/runtime/sys"
)

// side is a network namespace and a socket that speaks rtnetlink(7) in it. These five
// messages are all that is needed, which is less than a library's interface would be.
type side struct {
	ns  *os.File
	fd  int
	seq uint32
}

// openSide opens a socket in a namespace; the thread that called stays where it is. The
// side owns ns.
func openSide(ns *os.File) (*side, error) {
	s := &side{ns: ns, fd: -1}
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

func (s *side) close() {
	unix.Close(s.fd)
	s.ns.Close()
}

// ask sends one message and returns the messages of the answer. The kernel has answered
// when the sending returns, so that nothing is waited for.
func (s *side) ask(kind, flags uint16, body ...[]byte) ([]syscall.NetlinkMessage, error) {
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
			return nil, fmt.Errorf("read an answer of rtnetlink's: %w", err)
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
				return nil, unix.EAGAIN // others changed what is being listed
			default:
				out = append(out, m)
			}
		}
	}
}

// attr is a struct rtattr with its value, padded.
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

// attributes are those of a message behind its fixed part, by their kind.
func attributes(m syscall.NetlinkMessage) (map[uint16][]byte, error) {
	list, err := syscall.ParseNetlinkRouteAttr(&m)
	out := map[uint16][]byte{}
	for _, a := range list {
		out[a.Attr.Type] = a.Value
	}
	return out, err
}

// info is a struct ifinfomsg: device index (0: the attributes name it), and flags where
// change has bits.
func info(index int32, flags, change uint32) []byte {
	b := make([]byte, unix.SizeofIfInfomsg)
	binary.NativeEndian.PutUint32(b[4:], uint32(index))
	binary.NativeEndian.PutUint32(b[8:], flags)
	binary.NativeEndian.PutUint32(b[12:], change)
	return b
}
