// SPDX-License-Identifier: Apache-2.0

package inside

import (
	"fmt"
	"os"
	"path"
	"slices"
	"strings"

	"golang.org/x/sys/unix"

	"sysbox/runtime/sys"
)

func init() {
	add(map[string]question{
		"read":        {"read from inside", func(a []string) (string, error) { return text(a[0]) }},
		"first":       {"read from inside", first},
		"stat":        {"stat(2)", stat},
		"size":        {"stat(2)", size},
		"label":       {"the extended attribute `security.selinux`", label},
		"keylabel":    {"keyctl_get_security(3)", keyLabel},
		"link":        {"readlink(2)", func(a []string) (string, error) { return os.Readlink(a[0]) }},
		"list":        {"the folder's entries", list},
		"write":       {"a write from inside", write},
		"open":        {"open(2) from inside", open},
		"namespace":   {"`/proc/self/ns`", func(a []string) (string, error) { return os.Readlink("/proc/self/ns/" + a[0]) }},
		"flag":        {"the mount's flags in `/proc/self/mountinfo`", flag},
		"super":       {"the file system's options in `/proc/self/mountinfo`", super},
		"type":        {"`/proc/self/mountinfo`", func(a []string) (string, error) { m, err := find(a[0]); return m.Type, err }},
		"mounted":     {"`/proc/self/mountinfo`", mounted},
		"propagation": {"the mount's peers in `/proc/self/mountinfo`", propagation},
	})
}

// first is the first word of a file.
func first(a []string) (string, error) {
	s, err := text(a[0])
	if f := strings.Fields(s); len(f) > 0 {
		s = f[0]
	}
	return s, err
}

// stat tells kind, device number, permissions and owner; it does not follow links.
func stat(a []string) (string, error) {
	var st unix.Stat_t
	if err := unix.Lstat(a[0], &st); err != nil {
		return "", err
	}
	kind := map[uint32]string{unix.S_IFCHR: "c", unix.S_IFBLK: "b", unix.S_IFIFO: "p", unix.S_IFDIR: "d", unix.S_IFREG: "f", unix.S_IFLNK: "l"}[st.Mode&unix.S_IFMT]
	if kind == "c" || kind == "b" {
		kind += fmt.Sprintf(" %d:%d", unix.Major(uint64(st.Rdev)), unix.Minor(uint64(st.Rdev)))
	}
	return fmt.Sprintf("%s %04o %d:%d", kind, st.Mode&0o7777, st.Uid, st.Gid), nil
}

func size(a []string) (string, error) {
	info, err := os.Stat(a[0])
	if err != nil {
		return "", err
	}
	return fmt.Sprint(info.Size()), nil
}

func list(a []string) (string, error) {
	entries, err := os.ReadDir(a[0])
	var names []string
	for _, e := range entries {
		names = append(names, e.Name())
	}
	return strings.Join(names, " "), err
}

// write makes a file in a folder, or opens one for writing, and tells what came of it.
func write(a []string) (string, error) {
	name := a[0]
	if info, err := os.Stat(name); err == nil && info.IsDir() {
		name = path.Join(name, ".written")
		defer os.Remove(name)
	}
	f, err := os.OpenFile(name, os.O_WRONLY|os.O_CREATE, 0o600)
	if err != nil {
		return errno(err), nil
	}
	return "works", f.Close()
}

// open opens a node: open r|w|rw PATH.
func open(a []string) (string, error) {
	mode := map[string]int{"r": unix.O_RDONLY, "w": unix.O_WRONLY, "rw": unix.O_RDWR}[a[0]]
	fd, err := unix.Open(a[1], mode|unix.O_NONBLOCK|unix.O_CLOEXEC, 0)
	if err != nil {
		return errno(err), nil
	}
	return "works", unix.Close(fd)
}

// find is the topmost mount at a place.
func find(at string) (sys.MountInfo, error) {
	var found sys.MountInfo
	for m, err := range sys.MountsOf("/proc/self/mountinfo") {
		if err != nil {
			return found, err
		}
		if m.Point == at {
			found = m
		}
	}
	if found.Type == "" {
		return found, fmt.Errorf("nothing is mounted at %s", at)
	}
	return found, nil
}

// flag tells whether the mount has each of the flags: flag PATH FLAG...
func flag(a []string) (string, error) {
	m, err := find(a[0])
	var out []string
	for _, f := range a[1:] {
		word := "no " + f
		if slices.Contains(strings.Split(m.Options, ","), f) {
			word = f
		}
		out = append(out, word)
	}
	return strings.Join(out, ", "), err
}

// super tells the value of an option of the file system, or whether it has it.
func super(a []string) (string, error) {
	m, err := find(a[0])
	for _, o := range strings.Split(m.SuperOptions, ",") {
		if k, _, _ := strings.Cut(o, "="); k == a[1] {
			return o, err
		}
	}
	return "no " + a[1], err
}

func mounted(a []string) (string, error) {
	if _, err := find(a[0]); err != nil {
		return "no", nil
	}
	return "yes", nil
}

func propagation(a []string) (string, error) {
	m, err := find(a[0])
	out := []string{}
	for _, p := range m.Propagation {
		word, _, _ := strings.Cut(p, ":")
		if word == "master" {
			word = "slave"
		}
		out = append(out, word)
	}
	if len(out) == 0 {
		return "private", err
	}
	return strings.Join(out, " "), err
}

// label is a file's label of SELinux.
func label(a []string) (string, error) {
	b := make([]byte, 256)
	n, err := unix.Getxattr(a[0], "security.selinux", b)
	return strings.TrimRight(string(b[:max(n, 0)]), "\x00"), err
}

// keyLabel is the session keyring's.
func keyLabel([]string) (string, error) {
	return unix.KeyctlString(unix.KEYCTL_GET_SECURITY, unix.KEY_SPEC_SESSION_KEYRING)
}
