package trap

import (
	"regexp"
	"strings"

	"golang.org/x/sys/unix"
)

// plainOption are those of a mount that a server is given: libfuse's for file systems
// without owners. Others are each server's own, and are given by the administrator.
var plainOption = regexp.MustCompile(`^(uid|gid|umask|fmask|dmask)=[0-9]{1,10}$|^norecovery$`)

// fuseOptions are the options of a FUSE mount that is like the kernel's: everybody's, by
// the modes of the files. bad is one that is not known.
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
