package runtime

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"os"
	"path"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// maxPasswd bounds how much of an image's /etc/passwd is looked at.
const maxPasswd = 1 << 20

// openInRoot opens a path of an image as its processes would see it, but only
// a regular file: never a device, a FIFO or what a magic link leads to. The
// type is looked at before the file is opened, as opening a device has effects.
func openInRoot(root *os.File, p string) (*os.File, error) {
	fd, err := unix.Openat2(int(root.Fd()), strings.TrimPrefix(p, "/"), &unix.OpenHow{
		Flags:   unix.O_PATH | unix.O_CLOEXEC,
		Resolve: unix.RESOLVE_IN_ROOT | unix.RESOLVE_NO_MAGICLINKS,
	})
	if err != nil {
		return nil, &os.PathError{Op: "open in the image", Path: p, Err: err}
	}
	h := os.NewFile(uintptr(fd), p)
	defer h.Close()
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil || st.Mode&unix.S_IFMT != unix.S_IFREG {
		return nil, &os.PathError{Op: "open in the image", Path: p, Err: errors.New("not a regular file")}
	}
	return os.Open(fmt.Sprintf("/proc/thread-self/fd/%d", fd))
}

// homes reads the home folders of an image's /etc/passwd by uid. An image
// without one, or with nonsense there, has none.
func homes(root *os.File) map[uint32]string {
	f, err := openInRoot(root, "/etc/passwd")
	if err != nil {
		return nil
	}
	defer f.Close()
	return parseHomes(io.LimitReader(f, maxPasswd))
}

// parseHomes reads passwd(5); of lines for one uid the first counts.
func parseHomes(passwd io.Reader) map[uint32]string {
	out := map[uint32]string{}
	s := bufio.NewScanner(passwd)
	for s.Scan() {
		fields := strings.Split(s.Text(), ":")
		if len(fields) < 6 || !path.IsAbs(fields[5]) || strings.ContainsRune(fields[5], 0) {
			continue
		}
		uid, err := strconv.ParseUint(fields[2], 10, 32)
		if err != nil {
			continue
		}
		if _, ok := out[uint32(uid)]; !ok {
			out[uint32(uid)] = strings.Clone(fields[5])
		}
	}
	return out
}
