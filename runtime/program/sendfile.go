// SPDX-License-Identifier: Apache-2.0

package program

import (
	"encoding/binary"
	"errors"
	"fmt"
	"os"

	"golang.org/x/sys/unix"
)

// SendFile sends a file, together with one byte, over the socket with that number. what is the
// file's name in listings. [ReceiveFile] receives it.
func SendFile(name string, socket int, what string, file Arg) Call {
	// struct cmsghdr with SCM_RIGHTS and one file, unix(7).
	control := &Blob{Name: what, Data: make([]byte, unix.CmsgSpace(4))}
	binary.LittleEndian.PutUint64(control.Data, uint64(unix.CmsgLen(4)))
	binary.LittleEndian.PutUint32(control.Data[8:], unix.SOL_SOCKET)
	binary.LittleEndian.PutUint32(control.Data[12:], unix.SCM_RIGHTS)
	control.Refs = []Ref{{Off: 16, Arg: file}}
	// struct iovec, struct msghdr.
	iov := &Blob{Name: "one byte", Data: binary.LittleEndian.AppendUint64(make([]byte, 8), 1)}
	iov.Refs = []Ref{{Off: 0, Arg: Str("")}}
	msg := &Blob{Name: fmt.Sprintf("{one byte, SCM_RIGHTS: %s}", file), Data: make([]byte, 56), Named: true}
	binary.LittleEndian.PutUint64(msg.Data[24:], 1)
	binary.LittleEndian.PutUint64(msg.Data[40:], uint64(len(control.Data)))
	msg.Refs = []Ref{{Off: 16, Arg: iov}, {Off: 32, Arg: control}}
	return Call{Name: name, Nr: unix.SYS_SENDMSG, Args: []Arg{Int(socket), msg, Int(0)}, Want: Equals(1)}
}

// ReceiveFile receives a file that [SendFile] has sent over the other end of a socket. It does
// not wait: it returns -1 if none was sent.
func ReceiveFile(socket *os.File) (int, error) {
	control := make([]byte, unix.CmsgSpace(4))
	n, oobn, _, _, err := unix.Recvmsg(int(socket.Fd()), make([]byte, 1), control, unix.MSG_DONTWAIT|unix.MSG_CMSG_CLOEXEC)
	if err == unix.EAGAIN || err == nil && n == 0 {
		return -1, nil
	}
	if err != nil {
		return -1, err
	}
	messages, err := unix.ParseSocketControlMessage(control[:oobn])
	if err != nil || len(messages) != 1 {
		return -1, errors.Join(errors.New("no file came with the message"), err)
	}
	fds, err := unix.ParseUnixRights(&messages[0])
	if err != nil || len(fds) != 1 {
		return -1, errors.Join(errors.New("no file came with the message"), err)
	}
	return fds[0], nil
}
