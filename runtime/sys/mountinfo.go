// SPDX-License-Identifier: Apache-2.0

package sys

import (
	"bufio"
	"fmt"
	"io"
	"iter"
	"os"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// MountInfo is one line of /proc/PID/mountinfo (proc_pid_mountinfo(5)), without its octal
// escapes.
type MountInfo struct {
	ID, Parent uint64
	// Dev is the device number of the file system, as in st_dev of stat(2). On btrfs files
	// have the number of their subvolume instead.
	Dev uint64
	// Root is the directory of the file system that the mount shows, and Point its mount
	// point, as seen from the root directory of the process.
	Root, Point string
	// Options are those of the mount, such as "rw,nosuid".
	Options string
	// Propagation has the optional fields, such as "shared:7" and "master:3".
	Propagation []string
	// Type is the type of the file system, such as "overlay" or "fuse.sshfs".
	Type string
	// Source is what the file system was mounted from; "" or "none" if it has none.
	Source string
	// SuperOptions are those of the file system.
	SuperOptions string
}

// Reached reports whether the mount point leads to the mount, for this thread. It does not if a
// later mount covers it, at the mount point or at a parent directory: mountinfo also lists
// covered mounts, in the order of mounting and not of lookup. Reached does not wait for the
// server of a file system (STATX_MNT_ID, Linux 5.8).
func (m MountInfo) Reached() bool {
	var st unix.Statx_t
	err := call(func() error {
		return unix.Statx(unix.AT_FDCWD, m.Point, unix.AT_NO_AUTOMOUNT|unix.AT_STATX_DONT_SYNC, unix.STATX_MNT_ID, &st)
	}, "statx", "%q", m.Point)
	return err == nil && st.Mask&unix.STATX_MNT_ID != 0 && st.Mnt_id == m.ID
}

// maxMountLine bounds a line. The options of an overlay take at most one page with mount(2),
// and with fsconfig(2) up to 500 paths of layers.
const maxMountLine = 4 << 20

// Mounts reads text in the form of mountinfo, one mount at a time. The last value has the
// error, if there is one.
func Mounts(r io.Reader) iter.Seq2[MountInfo, error] {
	return func(yield func(MountInfo, error) bool) {
		lines := bufio.NewScanner(r)
		lines.Buffer(nil, maxMountLine)
		for lines.Scan() {
			m, err := parseMountInfo(lines.Text())
			if !yield(m, err) || err != nil {
				return
			}
		}
		if err := lines.Err(); err != nil {
			yield(MountInfo{}, fmt.Errorf("read mountinfo: %w", err))
		}
	}
}

// MountsOf reads the mountinfo file of a path such as /proc/self/mountinfo.
func MountsOf(path string) iter.Seq2[MountInfo, error] {
	return func(yield func(MountInfo, error) bool) {
		f, err := os.Open(path)
		if err != nil {
			yield(MountInfo{}, err)
			return
		}
		defer f.Close()
		Mounts(f)(yield)
	}
}

func parseMountInfo(line string) (MountInfo, error) {
	var m MountInfo
	left, right, ok := strings.Cut(line, " - ")
	a, b := strings.Fields(left), strings.Split(right, " ")
	if !ok || len(a) < 6 || len(b) < 3 {
		return m, fmt.Errorf("mountinfo line %q: it does not have the form of proc_pid_mountinfo(5)", line)
	}
	major, minor, _ := strings.Cut(a[2], ":")
	var numbers [4]uint64
	for i, s := range []string{a[0], a[1], major, minor} {
		n, err := strconv.ParseUint(s, 10, 32)
		if err != nil {
			return m, fmt.Errorf("mountinfo line %q: %w", line, err)
		}
		numbers[i] = n
	}
	m.ID, m.Parent, m.Dev = numbers[0], numbers[1], unix.Mkdev(uint32(numbers[2]), uint32(numbers[3]))
	m.Root, m.Point, m.Options = unescapeOctal(a[3]), unescapeOctal(a[4]), a[5]
	if len(a) > 6 {
		m.Propagation = a[6:]
	}
	m.Type, m.Source, m.SuperOptions = unescapeOctal(b[0]), unescapeOctal(b[1]), unescapeOctal(b[2])
	return m, nil
}

// unescapeOctal undoes how the kernel escapes white space, backslashes and, in types and
// sources, "#": as a backslash and three octal digits.
func unescapeOctal(s string) string {
	if !strings.Contains(s, `\`) {
		return s
	}
	var b strings.Builder
	for i := 0; i < len(s); i++ {
		if s[i] == '\\' && i+3 < len(s) {
			if n, err := strconv.ParseUint(s[i+1:i+4], 8, 8); err == nil {
				b.WriteByte(byte(n))
				i += 3
				continue
			}
		}
		b.WriteByte(s[i])
	}
	return b.String()
}
