package stdio

import (
	"fmt"
	"net/url"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"
)

// localPath is the path of a FIFO, given as such or as fifo:///path.
func localPath(s string) (string, error) {
	if !strings.Contains(s, "://") {
		return s, nil
	}
	u, err := url.Parse(s)
	if err != nil {
		return "", err
	}
	if u.Scheme != "fifo" && u.Scheme != "file" {
		return "", fmt.Errorf("scheme %q is for stdout only: give a FIFO's path", u.Scheme)
	}
	return u.Path, nil
}

func isFIFO(f *os.File) bool {
	st, err := f.Stat()
	return err == nil && st.Mode()&os.ModeNamedPipe != 0
}

// openSink opens a FIFO, or another file that is there, for output.
//
// A FIFO is opened for reading too, fifo(7): the open does not wait for a
// reader, and the stream outlives readers that come and go.
func openSink(path string) (*os.File, error) {
	st, err := os.Stat(path)
	if err != nil {
		return nil, err
	}
	if st.Mode()&os.ModeNamedPipe != 0 {
		return os.OpenFile(path, os.O_RDWR|unix.O_NONBLOCK, 0)
	}
	return os.OpenFile(path, os.O_WRONLY|os.O_APPEND|unix.O_NONBLOCK, 0)
}

// openFile opens the log file of a file:// URI, which it makes if need be.
func openFile(path string) (*os.File, error) {
	if !filepath.IsAbs(path) {
		return nil, fmt.Errorf("file:// URI has the path %q: give an absolute one", path)
	}
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return nil, err
	}
	return os.OpenFile(path, os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o644)
}
