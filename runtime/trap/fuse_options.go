// SPDX-License-Identifier: Apache-2.0

package trap

import (
	"regexp"
	"strings"

	"golang.org/x/sys/unix"
)

// plainOption matches the mount options that are passed to a server: those that libfuse has for
// file systems without owners. The administrator configures the options of a particular server.
var plainOption = regexp.MustCompile(`^(uid|gid|umask|fmask|dmask)=[0-9]{1,10}$|^norecovery$`)

// fuseOptions returns the options of a FUSE mount that behaves like one of the kernel: open to
// everybody, as the files' modes allow. bad is an option that is not known.
func fuseOptions(flags uint64, data string) (options, bad string) {
	if flags&unix.MS_MGC_MSK == unix.MS_MGC_VAL {
		flags &^= unix.MS_MGC_MSK
	}
	out := []string{"allow_other", "default_permissions"}
	for _, f := range []struct {
		flag    uint64
		set, no string
	}{
		{unix.MS_RDONLY, "ro", "rw"},
		{unix.MS_NOSUID, "nosuid", "suid"},
		{unix.MS_NODEV, "nodev", "dev"},
		{unix.MS_NOEXEC, "noexec", ""},
		{unix.MS_SYNCHRONOUS, "sync", ""},
		{unix.MS_DIRSYNC, "dirsync", ""},
		{unix.MS_NOATIME, "noatime", ""},
	} {
		if flags&f.flag != 0 {
			out = append(out, f.set)
		} else if f.no != "" {
			out = append(out, f.no)
		}
	}
	for o := range strings.SplitSeq(data, ",") {
		switch {
		case o == "":
		case plainOption.MatchString(o):
			out = append(out, o)
		default:
			return "", o
		}
	}
	return strings.Join(out, ","), ""
}
