package runtime

import (
	"errors"
	"fmt"
	"io"
	"os"
	"strings"

	"golang.org/x/sys/unix"

	"sysbox/runtime/plan"
	"sysbox/runtime/sys"
)

// maxDockerConfig bounds an image's /etc/docker/daemon.json, in bytes.
const maxDockerConfig = 64 << 10

// openInRoot opens a path of an image as its processes would see it, but only
// a regular file: never a device, a FIFO or what a magic link leads to. The
// type is looked at before the file is opened, as opening a device has effects.
func openInRoot(root *os.File, p string) (*os.File, error) {
	h, err := sys.Openat2(root, strings.TrimPrefix(p, "/"), unix.OpenHow{
		Flags:   unix.O_PATH,
		Resolve: unix.RESOLVE_IN_ROOT | unix.RESOLVE_NO_MAGICLINKS,
	})
	if err != nil {
		var e unix.Errno
		if errors.As(err, &e) {
			err = e
		}
		return nil, &os.PathError{Op: "open in the image", Path: p, Err: err}
	}
	defer h.Close()
	var st unix.Stat_t
	if err := unix.Fstat(int(h.Fd()), &st); err != nil || st.Mode&unix.S_IFMT != unix.S_IFREG {
		return nil, &os.PathError{Op: "open in the image", Path: p, Err: errors.New("not a regular file")}
	}
	// A lease on the file must not hold the reader up.
	return os.OpenFile(fmt.Sprintf("/proc/self/fd/%d", h.Fd()), os.O_RDONLY|unix.O_NONBLOCK, 0)
}

// addDockerRoot gives storage to the data-root that the image's Docker is told to use.
func addDockerRoot(p *plan.Plan, root *os.File) error {
	f, err := openInRoot(root, plan.DockerConfig)
	if errors.Is(err, unix.ENOENT) {
		return nil
	}
	var text []byte
	if err == nil {
		defer f.Close()
		text, err = io.ReadAll(io.LimitReader(f, maxDockerConfig+1))
	}
	if err == nil && len(text) > maxDockerConfig {
		err = &os.PathError{Op: "read in the image", Path: plan.DockerConfig, Err: fmt.Errorf("more than %d bytes", maxDockerConfig)}
	}
	if err != nil {
		return fmt.Errorf("no storage for Docker's data-root: %w", err)
	}
	return p.AddDockerRoot(text)
}
