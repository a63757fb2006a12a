// Stuck makes processes that SIGKILL does not end, by FUSE file systems whose server does
// not answer. It prints "ready" when that is so.
//
// What does not belong here: what is to become of them (package e2e).
package main

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"strings"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"
)

func main() {
	err := fmt.Errorf("what shall it be, %q?", os.Args[1:])
	switch a := os.Args[1:]; {
	case len(a) == 2 && a[0] == "flush":
		err = flush(a[1])
	case len(a) == 2 && a[0] == "read":
		err = read(a[1])
	case len(a) == 2 && a[0] == "hidden":
		err = hidden(a[1])
	case len(a) == 2 && a[0] == "rooted":
		err = rooted(a[1])
	case len(a) > 1 && a[0] == "child":
		err = child(a[1:])
	case len(a) == 2 && a[0] == "serve":
		err = serve(a[1])
	case len(a) == 3 && a[0] == "lend":
		err = lend(a[1], a[2])
	case len(a) == 2 && a[0] == "borrow":
		err = borrow(a[1])
	case len(a) == 3 && a[0] == "enter":
		err = enter(a[1], a[2])
	}
	if err != nil {
		fmt.Println(err)
		os.Exit(1)
	}
}

// ready tells whoever waits for it, and waits itself.
func ready() error {
	fmt.Println("ready")
	for {
		time.Sleep(time.Hour)
	}
}

// flush keeps a file of its own file system open: its closing asks the server, which has
// ended by then, with the process.
func flush(dir string) error {
	if err := opened(dir); err != nil {
		return err
	}
	return ready()
}

func opened(dir string) error {
	s, err := mount(dir)
	if err != nil {
		return err
	}
	go s.serve()
	if _, err := unix.Open(dir+"/x", unix.O_RDONLY, 0); err != nil {
		return fmt.Errorf("open: %w", err)
	}
	return nil
}

// read reads from its own file system, which does not answer that.
func read(dir string) error {
	s, err := mount(dir)
	if err != nil {
		return err
	}
	go s.serve()
	fd, err := unix.Open(dir+"/x", unix.O_RDONLY, 0)
	if err != nil {
		return fmt.Errorf("open: %w", err)
	}
	go unix.Read(fd, make([]byte, 10)) //nolint:errcheck // it never returns
	<-s.read
	return ready()
}

// hidden is flush of a file system that is mounted nowhere any more.
func hidden(dir string) error {
	if err := errors.Join(opened(dir), unix.Unmount(dir, unix.MNT_DETACH)); err != nil {
		return err
	}
	return ready()
}

// rooted is flush by a process that does not see where its file system is mounted.
func rooted(dir string) error {
	if err := errors.Join(opened(dir), unix.Chroot("/etc")); err != nil {
		return err
	}
	return ready()
}

// child does the same in another process.
func child(args []string) error {
	cmd := exec.Command("/proc/self/exe", args...)
	cmd.Stdout = os.Stdout
	return cmd.Run()
}

// enter has a process behind a socket serve its file system, mounts an overlay over it,
// makes that its root, and calls mknod, of which the shim learns, when there are no answers
// any more.
func enter(socket, dir string) error {
	s, err := mount(dir)
	if err != nil {
		return err
	}
	server, err := net.DialUnix("unix", nil, &net.UnixAddr{Name: socket})
	if err != nil {
		return err
	}
	if _, _, err := server.WriteMsgUnix([]byte("serve"), unix.UnixRights(s.dev), nil); err != nil {
		return err
	}
	unix.Close(s.dev)
	if err := overlay(dir); err != nil {
		return err
	}
	if err := errors.Join(unix.Chroot(over), unix.Chdir("/")); err != nil {
		return err
	}
	if _, err := server.Write([]byte("stop!")); err != nil {
		return err
	}
	if _, err := server.Read(make([]byte, 10)); err != nil { // it has stopped
		return err
	}
	go unix.Mknod("/n", unix.S_IFCHR|0o666, int(unix.Mkdev(1, 3))) //nolint:errcheck // it never returns
	if _, err := server.Read(make([]byte, 10)); err != nil {       // it was asked something
		return err
	}
	return ready()
}

const over = "/over"

// overlay mounts one over a directory, which lets in who is not in its user namespace.
func overlay(dir string) error {
	err := errors.Join(os.Mkdir(over, 0o755), os.Mkdir("/low", 0o755), unix.Mount("o", over, "overlay", 0, "lowerdir="+dir+":/low"))
	if err != nil {
		return fmt.Errorf("overlay: %w", err)
	}
	return nil
}

// lend gives who is behind a socket a file that can be read, but without an answer.
func lend(socket, dir string) error {
	s, err := mount(dir)
	if err != nil {
		return err
	}
	go s.serve()
	if err := overlay(dir); err != nil {
		return err
	}
	fd, err := unix.Open(over+"/x", unix.O_RDONLY, 0)
	if err != nil {
		return err
	}
	conn, err := accept(socket)
	if err != nil {
		return err
	}
	if _, _, err := conn.WriteMsgUnix([]byte("x"), unix.UnixRights(fd), nil); err != nil {
		return err
	}
	<-s.read
	if _, err := conn.Write([]byte("asked")); err != nil {
		return err
	}
	return ready()
}

// borrow reads that file.
func borrow(socket string) error {
	conn, err := net.DialUnix("unix", nil, &net.UnixAddr{Name: socket})
	if err != nil {
		return err
	}
	fd, err := receive(conn)
	if err != nil {
		return err
	}
	go unix.Read(fd, make([]byte, 10)) //nolint:errcheck // it never returns
	if _, err := conn.Read(make([]byte, 10)); err != nil {
		return err
	}
	return ready()
}

// accept waits for who dials.
func accept(socket string) (*net.UnixConn, error) {
	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: socket})
	if err != nil {
		return nil, err
	}
	if err := os.Chmod(socket, 0o777); err != nil {
		return nil, err
	}
	fmt.Println("listening")
	return l.AcceptUnix()
}

// receive takes a file.
func receive(conn *net.UnixConn) (int, error) {
	oob := make([]byte, 100)
	_, n, _, _, err := conn.ReadMsgUnix(make([]byte, 5), oob)
	if err != nil {
		return -1, err
	}
	messages, err := unix.ParseSocketControlMessage(oob[:n])
	if err != nil || len(messages) != 1 {
		return -1, fmt.Errorf("%d messages: %w", len(messages), err)
	}
	fds, err := unix.ParseUnixRights(&messages[0])
	if err != nil || len(fds) != 1 {
		return -1, fmt.Errorf("%d files: %w", len(fds), err)
	}
	return fds[0], nil
}

// serve serves a file system that it is handed, until it is told to stop.
func serve(socket string) error {
	conn, err := accept(socket)
	if err != nil {
		return err
	}
	fd, err := receive(conn)
	if err != nil {
		return err
	}
	s := newServer(fd)
	go s.serve()
	if _, err := conn.Read(make([]byte, 5)); err != nil {
		return err
	}
	s.silent.Store(true)
	if _, err := conn.Write([]byte("stopped")); err != nil {
		return err
	}
	<-s.ignored
	if _, err := conn.Write([]byte("asked")); err != nil {
		return err
	}
	return ready()
}

// server is that of a file system with one file, x, of which nothing can be read.
type server struct {
	dev    int
	silent atomic.Bool // it answers nothing
	// read and ignored have an element for each reading of a file, and for each request
	// that was left without an answer because of silent.
	read, ignored chan struct{}
}

func newServer(dev int) *server {
	return &server{dev: dev, read: make(chan struct{}, 1000), ignored: make(chan struct{}, 1000)}
}

func mount(dir string) (*server, error) {
	dev, err := unix.Open("/dev/fuse", unix.O_RDWR|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, fmt.Errorf("/dev/fuse: %w", err)
	}
	_ = os.Mkdir(dir, 0o755) // or it is there
	options := fmt.Sprintf("fd=%d,rootmode=40000,user_id=0,group_id=0,allow_other", dev)
	if err := unix.Mount("stuck", dir, "fuse", 0, options); err != nil {
		return nil, fmt.Errorf("mount: %w", err)
	}
	return newServer(dev), nil
}

// serve speaks FUSE, linux/fuse.h, as far as it is needed.
func (s *server) serve() {
	const (
		lookup, forget, getattr, open, read, statfs, release, flush      = 1, 2, 3, 14, 15, 17, 18, 25
		initialise, opendir, readdir, releasedir, interrupt, batchForget = 26, 27, 28, 29, 36, 42

		file, root = 2, 1
	)
	le := binary.LittleEndian
	attr := func(b []byte, node uint64) {
		le.PutUint64(b, node)
		le.PutUint64(b[8:], 4096) // size
		mode := uint32(unix.S_IFREG | 0o666)
		if node == root {
			mode = unix.S_IFDIR | 0o777
		}
		le.PutUint32(b[60:], mode)
		le.PutUint32(b[64:], 1) // links
	}
	b := make([]byte, 1<<18)
	for {
		n, err := unix.Read(s.dev, b)
		if err == unix.EINTR || err == unix.ENOENT {
			continue
		}
		if err != nil {
			return
		}
		op, unique, node := le.Uint32(b[4:]), le.Uint64(b[8:]), le.Uint64(b[16:])
		if op == forget || op == batchForget || op == interrupt {
			continue
		}
		if s.silent.Load() {
			s.ignored <- struct{}{}
			continue
		}
		var out []byte
		errno := unix.Errno(0)
		switch op {
		case initialise:
			out = make([]byte, 64)
			le.PutUint32(out, 7)
			le.PutUint32(out[4:], 31)
			le.PutUint32(out[20:], 4096) // max_write
		case lookup:
			if strings.TrimRight(string(b[40:n]), "\x00") != "x" {
				errno = unix.ENOENT
				break
			}
			out = make([]byte, 128)
			le.PutUint64(out, file)
			attr(out[40:], file)
		case getattr: // to be asked again at once
			out = make([]byte, 104)
			attr(out[16:], node)
		case open, opendir:
			out = make([]byte, 16)
		case read:
			s.read <- struct{}{}
			continue
		case statfs:
			out = make([]byte, 80)
		case readdir, release, releasedir, flush: // after ENOSYS no flush would be asked for again
		default:
			errno = unix.ENOSYS
		}
		reply := le.AppendUint32(nil, uint32(16+len(out)))
		reply = le.AppendUint32(reply, uint32(-int32(errno)))
		_, _ = unix.Write(s.dev, append(le.AppendUint64(reply, unique), out...))
	}
}
