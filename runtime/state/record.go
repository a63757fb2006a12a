// SPDX-License-Identifier: Apache-2.0

// Package state is what is on disk of containers: their records, the locks by which
// processes take turns, and the directories in which all of it lies.
//
// What does not belong here: making and removing what a record names (package runtime), and
// the records of id ranges (package uidmap).
package state

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"hash/crc32"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"sysbox/runtime/cgroup"
	"sysbox/uidmap"
)

// Version is that of the records that this binary writes. It grows when a reader of the one
// before would remove less than there is, or other things; a new field that an older reader
// need not heed leaves it.
const Version = 1

// Record is what is on disk of a container, written before what it names is made: all that
// the delete command needs once the shim is dead.
type Record struct {
	// Version is 0 in records of versions before 0.2, which had the same fields.
	Version   int           `json:"version,omitempty"`
	Namespace string        `json:"namespace"`
	ID        string        `json:"id"`
	Sandbox   string        `json:"sandbox"`
	Bundle    string        `json:"bundle"`
	Shim      Process       `json:"shim"`
	Init      Process       `json:"init"`
	PIDNS     uint64        `json:"pidns"` // the pid namespace of both numbers
	Cgroup    *cgroup.State `json:"cgroup,omitempty"`
	// Storage is the host's directory of the container's storage directories, those that
	// do not lie in its root's upper layer.
	Storage string `json:"storage,omitempty"`
	// Upper is that layer, and InUpper the paths of storage directories in it.
	Upper   string   `json:"upper,omitempty"`
	InUpper []string `json:"in_upper,omitempty"`
	// Mirror is the directory of the caller's mount that is covered, MirrorWork its guarded
	// workdir (package mirror).
	Mirror     string `json:"mirror,omitempty"`
	MirrorWork string `json:"mirror_work,omitempty"`
	// Data is the data directory, "" in records of versions before.
	Data string `json:"data_dir,omitempty"`
	// IDOwner is the name under which the pod's ids are recorded, "" if the
	// container has none of ours.
	IDOwner string `json:"id_owner,omitempty"`
	// UID is how the container's user ids are mapped, by which its FUSE connections are known.
	UID uidmap.Map `json:"uid,omitempty"`
	// Shifted is a root file system that was chowned and must be put back.
	Shifted     string            `json:"shifted,omitempty"`
	Poststop    []specs.Hook      `json:"poststop,omitempty"`
	Annotations map[string]string `json:"annotations,omitempty"`
}

// maxRecord bounds a record that is read back, and maxLine each of its lines,
// of which a container's life has less than eight.
const (
	maxRecord = 16 << 20
	maxLine   = maxRecord / 8
)

// Path is the file with the record of a container, whether it is there or not. An error tells
// of a name that is none.
func Path(d Dirs, namespace, id string) (string, error) {
	for _, s := range []string{namespace, id} {
		if s == "" || s == "." || s == ".." || strings.ContainsAny(s, "/\x00") || len(s) > 200 {
			return "", fmt.Errorf("invalid name of a container or namespace %q: use up to 200 characters and no slashes", s)
		}
	}
	return filepath.Join(d.State, "containers", namespace, id+".json"), nil
}

// Write appends the record's present state to its file, as a line: an append
// costs a tenth of a replacement, and a crash leaves the line before. It begins
// a line of its own, whatever a write that failed has left.
func (r *Record) Write(d Dirs) error { return r.append(d, 0) }

// Create is Write of a record that is not there yet. The error wraps os.ErrExist if it is.
func (r *Record) Create(d Dirs) error { return r.append(d, unix.O_EXCL) }

func (r *Record) append(d Dirs, how int) error {
	name, err := Path(d, r.Namespace, r.ID)
	if err != nil {
		return err
	}
	line, err := r.line()
	if err != nil {
		return err
	}
	flags := unix.O_WRONLY | unix.O_APPEND | unix.O_CREAT | unix.O_NOFOLLOW | unix.O_CLOEXEC | how
	fd, err := unix.Open(name, flags, 0o600)
	if errors.Is(err, unix.ENOENT) {
		if err = os.MkdirAll(filepath.Dir(name), 0o700); err == nil {
			fd, err = unix.Open(name, flags, 0o600)
		}
	}
	if err == nil {
		var n int
		if n, err = unix.Write(fd, line); err == nil && n != len(line) {
			err = unix.ENOSPC
		}
		unix.Close(fd)
	}
	if err != nil {
		return fmt.Errorf("record the container in %s: %w", name, err)
	}
	return nil
}

// line is the record as it is written: a newline, the checksum of the JSON in
// eight hexadecimal digits, a space, the JSON, a newline.
func (r *Record) line() ([]byte, error) {
	r.Version = Version
	b, err := json.Marshal(r)
	if err != nil {
		return nil, err
	}
	line := fmt.Appendf(nil, "\n%08x %s\n", crc32.ChecksumIEEE(b), b)
	if len(line) > maxLine {
		return nil, fmt.Errorf("annotations, hooks.poststop: with them the container's record has %d bytes, and at most %d can be read back; give fewer or shorter ones", len(line), maxLine)
	}
	return line, nil
}

// parseLine reads a line without its newlines; false if it is not just as it was
// written. Directories are removed and processes are killed by what a record says.
func parseLine(line []byte) (*Record, bool) {
	sum, b, ok := bytes.Cut(line, []byte(" "))
	if !ok || string(sum) != fmt.Sprintf("%08x", crc32.ChecksumIEEE(b)) {
		return nil, false
	}
	var r Record
	return &r, json.Unmarshal(b, &r) == nil
}

// ErrEmpty: the first line of a record is not there yet, so that nothing of
// what it names is.
var ErrEmpty = errors.New("nothing is recorded yet")

// Read reads the last whole line of a record, the file name. ErrEmpty if there is none yet.
func Read(name string) (*Record, error) {
	b, err := os.ReadFile(name)
	if err != nil {
		return nil, err
	}
	if len(b) > maxRecord {
		return nil, fmt.Errorf("record %s is larger than %d bytes", name, maxRecord)
	}
	return parse(name, b)
}

func parse(name string, b []byte) (*Record, error) {
	lines := bytes.Split(b, []byte{'\n'})
	whole := lines[:len(lines)-1]
	for _, line := range slices.Backward(whole) {
		if r, ok := parseLine(line); ok {
			if r.Version > Version {
				return nil, fmt.Errorf("record %s is of version %d, and this binary knows none above %d; use the binary that made the container, or a later one", name, r.Version, Version)
			}
			return r, nil
		}
	}
	if !slices.ContainsFunc(whole, func(l []byte) bool { return len(l) > 0 }) {
		return nil, fmt.Errorf("record %s: %w", name, ErrEmpty)
	}
	return nil, fmt.Errorf("record %s is damaged: end by hand what runs of the container, and remove the file", name)
}

// Remove deletes the record and, with the last one, its namespace's directory.
func (r *Record) Remove(d Dirs) error {
	name, err := Path(d, r.Namespace, r.ID)
	if err != nil {
		return err
	}
	if err := os.Remove(name); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	os.Remove(filepath.Dir(name)) // fails while siblings are there
	return nil
}

// State is what hooks read on stdin (runtime-spec, runtime.md, State).
func (r *Record) State(status specs.ContainerState) *specs.State {
	return &specs.State{
		Version: specs.Version, ID: r.ID, Status: status, Pid: r.Init.Pid, Bundle: r.Bundle,
		Annotations: r.Annotations,
	}
}
