// SPDX-License-Identifier: Apache-2.0

package cgroup

import (
	"fmt"
	"path"
	"strings"
)

// Driver says how the directories are made.
type Driver string

const (
	// Auto follows the form of the path: three fields with colons mean systemd.
	Auto Driver = ""
	// Cgroupfs: this package makes directories itself.
	Cgroupfs Driver = "cgroupfs"
	// Systemd: the systemd of the host makes a transient scope.
	Systemd Driver = "systemd"
)

// location is a parsed cgroupsPath.
type location struct {
	driver Driver
	path   string // below each hierarchy's mount, cleaned, starts with "/"
	slice  string // systemd only: "kubepods-pod1.slice"
	unit   string // systemd only: "cri-containerd-ID.scope"
}

// defaultParent is the parent of containers whose spec has no absolute path.
const defaultParent = "/sysbox"

// locate parses linux.cgroupsPath of the OCI runtime spec. The result stays within the
// mounts of the hierarchies: ".." above the root is the root, and cgroupfs has no
// symbolic links.
func locate(cgroupsPath string, forced Driver, namespace, id string) (location, error) {
	fields := strings.Split(cgroupsPath, ":")
	systemd := len(fields) == 3 && !strings.Contains(cgroupsPath, "/")
	switch {
	case strings.ContainsAny(cgroupsPath, "\x00\n"):
		return location{}, fmt.Errorf("linux.cgroupsPath %q contains a control character, which cgroupfs does not allow", cgroupsPath)
	case forced == Systemd && !systemd && cgroupsPath != "":
		return location{}, fmt.Errorf("linux.cgroupsPath %q does not have the form slice:prefix:name, which the systemd cgroup driver needs; "+
			"turn SystemdCgroup off, or set the caller's cgroup driver to systemd", cgroupsPath)
	case forced == Cgroupfs && systemd:
		return location{}, fmt.Errorf("linux.cgroupsPath %q has the form slice:prefix:name of the systemd cgroup driver, but cgroupfs is configured; "+
			"turn SystemdCgroup on, or set the caller's cgroup driver to cgroupfs", cgroupsPath)
	}
	if forced == Systemd && cgroupsPath == "" {
		fields, systemd = []string{"", "sysbox-" + namespace, id}, true
	}
	if systemd {
		return locateUnit(cgroupsPath, fields[0], fields[1], fields[2])
	}

	p := path.Clean("/" + cgroupsPath)
	if !path.IsAbs(cgroupsPath) {
		if cgroupsPath == "" {
			p = path.Clean("/" + namespace + "/" + id)
		}
		if p == "/" {
			return location{}, fmt.Errorf("linux.cgroupsPath %q does not name a cgroup; use a path such as /sysbox/my-container", cgroupsPath)
		}
		p = defaultParent + p
	}
	if p == "/" {
		return location{}, fmt.Errorf("linux.cgroupsPath %q is the root cgroup of the host; use a path below it", cgroupsPath)
	}
	return location{driver: Cgroupfs, path: p}, nil
}

func locateUnit(whole, slice, prefix, name string) (location, error) {
	if slice == "" {
		slice = "system.slice"
	}
	dir, err := expandSlice(slice)
	if err != nil {
		return location{}, fmt.Errorf("linux.cgroupsPath %q: %w", whole, err)
	}
	if name == "" {
		return location{}, fmt.Errorf("linux.cgroupsPath %q has no name after the last colon", whole)
	}
	if strings.HasSuffix(name, ".slice") {
		return location{}, fmt.Errorf("linux.cgroupsPath %q names a slice as the unit of the container; use a scope", whole)
	}
	unit := name
	if prefix != "" {
		unit = prefix + "-" + name
	}
	if !strings.HasSuffix(unit, ".scope") {
		unit += ".scope"
	}
	// unit(5): names are at most 255 bytes, of these characters.
	if len(unit) > 255 || strings.IndexFunc(unit, notUnitChar) >= 0 {
		return location{}, fmt.Errorf("linux.cgroupsPath %q: %q is not a valid name of a systemd unit", whole, unit)
	}
	return location{driver: Systemd, path: path.Join(dir, unit), slice: slice, unit: unit}, nil
}

const unitChars = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789:-_.\\@"

func notUnitChar(r rune) bool { return !strings.ContainsRune(unitChars, r) }

// expandSlice returns the path of a slice: a dash is a level, so "a-b.slice" is
// "/a.slice/a-b.slice", and "-.slice" is the root (systemd.slice(5)).
func expandSlice(slice string) (string, error) {
	base, ok := strings.CutSuffix(slice, ".slice")
	switch {
	case !ok:
		return "", fmt.Errorf("%q is not a slice; its name must end in .slice", slice)
	case base == "-":
		return "/", nil
	case base == "", strings.IndexFunc(base, notUnitChar) >= 0:
		return "", fmt.Errorf("%q is not a valid name of a slice", slice)
	}
	dir, prefix := "/", ""
	for part := range strings.SplitSeq(base, "-") {
		if part == "" {
			return "", fmt.Errorf("%q is not a valid name of a slice; a dash needs a name on both sides", slice)
		}
		prefix += part
		dir = path.Join(dir, prefix+".slice")
		prefix += "-"
	}
	return dir, nil
}
