package uidmap

import (
	"os"
	"strings"
)

// HasShiftfs tells whether the kernel has shiftfs, a file system of some of
// Ubuntu's kernels that shifts ids. It is for reports only and nothing mounts
// it: it saw the most use before Linux 5.12, which the runtime needs for other
// reasons, and from which on there are idmapped mounts.
func HasShiftfs() bool {
	b, err := os.ReadFile("/proc/filesystems")
	return err == nil && hasFilesystem(string(b), "shiftfs")
}

// hasFilesystem looks for a type in the text of /proc/filesystems.
func hasFilesystem(list, fstype string) bool {
	for line := range strings.Lines(list) {
		if f := strings.Fields(line); len(f) > 0 && f[len(f)-1] == fstype {
			return true
		}
	}
	return false
}
