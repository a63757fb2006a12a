// SPDX-License-Identifier: Apache-2.0

package trap

import (
	"bytes"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"sysbox/runtime/plan"
)

// identity is what the kernel checks before it does something for a caller. Ids are those of the
// host.
type identity struct {
	process      int // the number of its leading thread
	euid, egid   uint32
	fsuid, fsgid uint32
	groups       []uint32
	effective    uint64 // capabilities in the caller's user namespace
	umask        int
	filters      int // of seccomp; -1 if the kernel does not say
	noNewPrivs   bool
}

func (i *identity) has(capability int) bool { return i.effective&(1<<capability) != 0 }

// identity reads the caller's credentials, proc_pid_status(5).
func (c *caller) identity() (*identity, error) {
	fd, err := c.file("status", unix.O_RDONLY)
	if err != nil {
		return nil, errGone
	}
	defer unix.Close(fd)
	var buf []byte
	for {
		buf = append(buf, make([]byte, pageSize)...)
		n, err := unix.Pread(fd, buf[len(buf)-pageSize:], int64(len(buf)-pageSize))
		if err != nil {
			return nil, errGone
		}
		if buf = buf[:len(buf)-pageSize+n]; n < pageSize {
			return parseIdentity(buf)
		}
	}
}

var errStatus = errors.New("the kernel's /proc/PID/status has an unexpected form")

func parseIdentity(status []byte) (*identity, error) {
	out := &identity{umask: -1, filters: -1, noNewPrivs: true}
	var seen []string
	for line := range bytes.Lines(status) {
		line, whole := bytes.CutSuffix(line, []byte("\n"))
		if !whole {
			return nil, errStatus
		}
		key, value, _ := bytes.Cut(line, []byte(":"))
		switch string(key) {
		case "Uid", "Gid", "Groups":
			var ids []uint32
			for f := range bytes.FieldsSeq(value) {
				n, err := strconv.ParseUint(string(f), 10, 32)
				if err != nil {
					return nil, errStatus
				}
				ids = append(ids, uint32(n))
			}
			switch {
			case key[0] == 'G' && key[1] == 'r':
				out.groups = ids
			case len(ids) != 4: // real, effective, saved, file system
				return nil, errStatus
			case key[0] == 'U':
				out.euid, out.fsuid = ids[1], ids[3]
			default:
				out.egid, out.fsgid = ids[1], ids[3]
			}
			seen = append(seen, string(key))
		case "Tgid":
			n, err := strconv.ParseUint(string(bytes.TrimSpace(value)), 10, 31)
			if err != nil {
				return nil, errStatus
			}
			out.process = int(n)
			seen = append(seen, string(key))
		case "Umask":
			n, err := strconv.ParseUint(string(bytes.TrimSpace(value)), 8, 16)
			if err != nil {
				return nil, errStatus
			}
			out.umask = int(n)
			seen = append(seen, string(key))
		case "CapEff":
			n, err := strconv.ParseUint(string(bytes.TrimSpace(value)), 16, 64)
			if err != nil {
				return nil, errStatus
			}
			out.effective = n
			seen = append(seen, string(key))
		case "NoNewPrivs":
			out.noNewPrivs = string(bytes.TrimSpace(value)) != "0"
		case "Seccomp_filters":
			if n, err := strconv.Atoi(string(bytes.TrimSpace(value))); err == nil {
				out.filters = n
			}
		}
	}
	if slices.Sort(seen); !slices.Equal(seen, []string{"CapEff", "Gid", "Groups", "Tgid", "Uid", "Umask"}) {
		return nil, errStatus
	}
	return out, nil
}

// limits returns the caller's resource limits in the order of their numbers (proc_pid_limits(5)).
// prlimit(2) would need CAP_SYS_RESOURCE, which root does not have on every host.
func (c *caller) limits() (out []plan.Rlimit, err error) {
	fd, err := c.file("limits", unix.O_RDONLY)
	if err != nil {
		return nil, err
	}
	defer unix.Close(fd)
	buf := make([]byte, pageSize)
	n, err := unix.Pread(fd, buf, 0)
	if err != nil {
		return nil, err
	}
	lines := strings.Split(string(buf[:n]), "\n")
	if len(lines) < unix.RLIMIT_RTTIME+2 {
		return nil, errStatus
	}
	for r := range unix.RLIMIT_RTTIME + 1 {
		line := lines[r+1] // below the heading; columns: name, soft limit, hard limit
		if len(line) < 67 {
			return nil, errStatus
		}
		l := plan.Rlimit{Type: r, Name: fmt.Sprint("resource limit ", r)}
		for to, text := range map[*uint64]string{&l.Soft: line[26:46], &l.Hard: line[47:67]} {
			if text = strings.TrimSpace(text); text == "unlimited" {
				*to = unix.RLIM_INFINITY
			} else if *to, err = strconv.ParseUint(text, 10, 64); err != nil {
				return nil, errStatus
			}
		}
		out = append(out, l)
	}
	return out, nil
}
