package runtime

import (
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"sysbox/tests/pace"
	"sysbox/tests/testcontainer"
)

// silence is a FUSE file system of a container's in which there is only a file, "file", and
// which never answers who asks for a name that begins with "silent".
type silence struct {
	asked chan bool // one for each of these
}

// newSilence mounts one at a folder, which it makes.
func newSilence(dir string) (*silence, error) {
	dev, err := unix.Open("/dev/fuse", unix.O_RDWR|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, err
	}
	options := fmt.Sprintf("fd=%d,rootmode=40000,user_id=0,group_id=0,allow_other", dev)
	if err := errors.Join(os.Mkdir(dir, 0o755), unix.Mount("silence", dir, "fuse", 0, options)); err != nil {
		return nil, err
	}
	s := &silence{asked: make(chan bool, 1000)}
	go s.serve(dev)
	return s, nil
}

// serve speaks FUSE, linux/fuse.h, as far as it is needed.
func (s *silence) serve(dev int) {
	const lookup, forget, open, statfs, initialise, interrupt, batchForget = 1, 2, 14, 17, 26, 36, 42
	le := binary.LittleEndian
	reply := func(unique uint64, errno unix.Errno, data []byte) {
		b := le.AppendUint32(nil, uint32(16+len(data)))
		b = le.AppendUint32(b, uint32(-int32(errno)))
		_, _ = unix.Write(dev, append(le.AppendUint64(b, unique), data...))
	}
	b := make([]byte, 1<<16)
	for {
		n, err := unix.Read(dev, b)
		if err == unix.EINTR || err == unix.ENOENT {
			continue
		}
		if err != nil {
			return
		}
		unique := le.Uint64(b[8:])
		switch le.Uint32(b[4:]) {
		case initialise:
			out := make([]byte, 64)
			le.PutUint32(out, 7)
			le.PutUint32(out[4:], 31)
			le.PutUint32(out[12:], 1<<18) // FUSE_PARALLEL_DIROPS
			le.PutUint32(out[20:], 4096)  // max_write
			reply(unique, 0, out)
		case lookup:
			if strings.HasPrefix(string(b[40:n]), "silent") {
				s.asked <- true
				continue
			}
			if string(b[40:n]) == "file\x00" {
				out := make([]byte, 128)
				le.PutUint64(out, 2)                        // node
				le.PutUint32(out[100:], unix.S_IFREG|0o666) // mode
				le.PutUint32(out[104:], 1)                  // links
				reply(unique, 0, out)
				continue
			}
			reply(unique, unix.ENOENT, nil)
		case open:
			reply(unique, 0, make([]byte, 16))
		case statfs:
			reply(unique, 0, make([]byte, 80))
		case forget, interrupt, batchForget:
		default:
			reply(unique, unix.ENOSYS, nil)
		}
	}
}

// TestTrapSilentFileSystem: a file system of the container's that never answers holds up
// the calls that are about it: others of the same container's are answered. With more of
// them than are worked on at a time another container's are, and the first can be deleted.
func TestTrapSilentFileSystem(t *testing.T) {
	p := testPod(t, "pod")
	w, _ := pipe(t)
	r, ready, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	bundle := insideBundle(t, "trap silence", func(s *specs.Spec) {
		s.Mounts = append(s.Mounts, specs.Mount{Destination: "/t", Type: "tmpfs", Source: "tmpfs"})
	})
	c := create(t, p, CreateRequest{ID: "c1", Bundle: bundle, Stdio: Stdio{Stdout: ready, Stderr: w}})
	if err := c.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	ready.Close()
	_ = r.SetReadDeadline(time.Now().Add(time.Minute * pace.Patience()))
	buf := make([]byte, 1000)
	if n, _ := r.Read(buf); string(buf[:n]) != "silent\n" {
		t.Fatalf("the container says %q", buf[:n])
	}
	other := create(t, p, CreateRequest{ID: "c2", Bundle: testcontainer.Busybox(t, nil, "mknod", "/root/n", "c", "1", "3")})
	if err := other.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	if exit := wait(t, other.Init()); exit.Status != 0 {
		t.Errorf("mknod in the other container: exit status %d", exit.Status)
	}
	if err := c.Delete(t.Context()); err != nil {
		t.Error(err)
	}
}

func init() {
	routines["trap silence"] = func() error {
		s, err := newSilence("/root/f")
		if err != nil {
			return err
		}
		// The kernel's answer, and no bind of ours.
		if err := unix.Mknod("/root/f/n", charDev, nullDev); err != unix.EPERM {
			return fmt.Errorf("mknod on a FUSE file system: %w", err)
		}
		// As these calls are made by processes in the container's user namespace, they wait.
		hang := func(n int) error {
			m := fmt.Sprintf("/t/%d", n)
			go unix.Mount("o", m, "overlay", 0, fmt.Sprintf("lowerdir=/root/f/silent%d:/root", n))
			return os.Mkdir(m, 0o755)
		}
		if err := hang(0); err != nil {
			return err
		}
		<-s.asked
		if err := unix.Mknod("/root/n", charDev, nullDev); err != nil {
			return fmt.Errorf("while a call is not answered: %w", err)
		}
		for i := range 40 { // more than are worked on at a time
			if err := hang(1 + i); err != nil {
				return err
			}
		}
		for range 31 {
			<-s.asked
		}
		fmt.Println("silent")
		select {}
	}
}
