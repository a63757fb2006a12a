package runtime

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

// record is what is on disk of a container, written before what it names is
// made: all that the delete command needs once the shim is dead.
type record struct {
	Namespace string        `json:"namespace"`
	ID        string        `json:"id"`
	Sandbox   string        `json:"sandbox"`
	Bundle    string        `json:"bundle"`
	Shim      processID     `json:"shim"`
	Init      processID     `json:"init"`
	PIDNS     uint64        `json:"pidns"` // the pid namespace of both numbers
	Cgroup    *cgroup.State `json:"cgroup,omitempty"`
	// Storage is the host's folder of the container's storage folders, those that
	// do not lie in its root's upper layer.
	Storage string `json:"storage,omitempty"`
	// Upper is that layer, and InUpper the paths of storage folders in it.
	Upper   string   `json:"upper,omitempty"`
	InUpper []string `json:"in_upper,omitempty"`
	// Mirror is the folder of the caller's mount that is covered, MirrorWork its guarded
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

// processID names a process beyond the reuse of its pid.
type processID struct {
	Pid   int    `json:"pid"`
	Start uint64 `json:"start"` // clock ticks since boot: field 22 of /proc/PID/stat
}

// maxRecord bounds a record that is read back, and maxLine each of its lines,
// of which a container's life has less than eight.
const (
	maxRecord = 16 << 20
	maxLine   = maxRecord / 8
)

func recordPath(d Dirs, namespace, id string) (string, error) {
	for _, s := range []string{namespace, id} {
		if s == "" || s == "." || s == ".." || strings.ContainsAny(s, "/\x00") || len(s) > 200 {
			return "", fmt.Errorf("%q is no name of a container or namespace: give one without slashes, of 200 characters at most", s)
		}
	}
	return filepath.Join(d.State, "containers", namespace, id+".json"), nil
}

// write appends the record's present state to its file, as a line: an append
// costs a tenth of a replacement, and a crash leaves the line before. It begins
// a line of its own, whatever a write that failed has left.
func (r *record) write(d Dirs) error {
	name, err := recordPath(d, r.Namespace, r.ID)
	if err != nil {
		return err
	}
	line, err := r.line()
	if err != nil {
		return err
	}
	const flags = unix.O_WRONLY | unix.O_APPEND | unix.O_CREAT | unix.O_NOFOLLOW | unix.O_CLOEXEC
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
func (r *record) line() ([]byte, error) {
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
// written. Folders are removed and processes are killed by what a record says.
func parseLine(line []byte) (*record, bool) {
	sum, b, ok := bytes.Cut(line, []byte(" "))
	if !ok || string(sum) != fmt.Sprintf("%08x", crc32.ChecksumIEEE(b)) {
		return nil, false
	}
	var r record
	return &r, json.Unmarshal(b, &r) == nil
}

// errNoRecord: the first line of a record is not there yet, so that nothing of
// what it names is.
var errNoRecord = errors.New("nothing is recorded yet")

// readRecord reads the last whole line of a record.
func readRecord(name string) (*record, error) {
	b, err := os.ReadFile(name)
	if err != nil {
		return nil, err
	}
	if len(b) > maxRecord {
		return nil, fmt.Errorf("record %s is larger than %d bytes", name, maxRecord)
	}
	return parseRecord(name, b)
}

func parseRecord(name string, b []byte) (*record, error) {
	lines := bytes.Split(b, []byte{'\n'})
	whole := lines[:len(lines)-1]
	for _, line := range slices.Backward(whole) {
		if r, ok := parseLine(line); ok {
			return r, nil
		}
	}
	if !slices.ContainsFunc(whole, func(l []byte) bool { return len(l) > 0 }) {
		return nil, fmt.Errorf("record %s: %w", name, errNoRecord)
	}
	return nil, fmt.Errorf("record %s is damaged: end by hand what runs of the container, and remove the file", name)
}

// remove deletes the record and, with the last one, its namespace's folder.
func (r *record) remove(d Dirs) error {
	name, err := recordPath(d, r.Namespace, r.ID)
	if err != nil {
		return err
	}
	if err := os.Remove(name); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	os.Remove(filepath.Dir(name)) // fails while siblings are there
	return nil
}

// others counts the records of all containers of the host but this one, those of other
// namespaces and configurations and of containers that are being made or removed included.
func (r *record) others(d Dirs) (int, error) {
	n := 0
	seen := map[string]bool{}
	for _, k := range KnownDirs(d) {
		if seen[k.State] {
			continue
		}
		seen[k.State] = true
		m, err := k.Containers()
		if err != nil {
			return 0, err
		}
		n += m
	}
	return max(0, n-1), nil
}

// Containers counts the records of containers in the state directory.
func (d Dirs) Containers() (int, error) {
	all := filepath.Join(d.State, "containers")
	namespaces, err := os.ReadDir(all)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return 0, err
	}
	n := 0
	for _, ns := range namespaces {
		dir, err := os.Open(filepath.Join(all, ns.Name()))
		if errors.Is(err, fs.ErrNotExist) {
			continue // its last container has gone
		}
		if err != nil {
			return 0, err
		}
		names, err := dir.Readdirnames(-1)
		dir.Close()
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return 0, err
		}
		for _, name := range names {
			if filepath.Ext(name) == ".json" {
				n++
			}
		}
	}
	return n, nil
}

// journals are the directories that can have the journal of the record's tree. Versions
// before did not record which it is.
func (r *record) journals(d Dirs) []string {
	if r.Data != "" {
		return []string{Dirs{Data: r.Data}.journals()}
	}
	var out []string
	for _, k := range KnownDirs(d) {
		if dir := k.journals(); !slices.Contains(out, dir) {
			out = append(out, dir)
		}
	}
	return out
}

// siblings are the records of the same sandbox, r's own excluded. One that is
// damaged could be a sibling's, and counts as such: what the sandbox's
// containers share stays while one of them may be there.
func (r *record) siblings(d Dirs) ([]*record, error) {
	name, err := recordPath(d, r.Namespace, r.ID)
	if err != nil {
		return nil, err
	}
	entries, err := os.ReadDir(filepath.Dir(name))
	if err != nil {
		if errors.Is(err, fs.ErrNotExist) {
			return nil, nil
		}
		return nil, err
	}
	var out []*record
	for _, e := range entries {
		if filepath.Ext(e.Name()) != ".json" || e.Name() == r.ID+".json" {
			continue
		}
		s, err := readRecord(filepath.Join(filepath.Dir(name), e.Name()))
		if errors.Is(err, fs.ErrNotExist) || errors.Is(err, errNoRecord) {
			continue // gone meanwhile, or not yet there
		}
		if err != nil {
			s = &record{Namespace: r.Namespace, Sandbox: r.Sandbox, IDOwner: r.IDOwner}
		}
		if s.Sandbox == r.Sandbox {
			out = append(out, s)
		}
	}
	return out, nil
}
