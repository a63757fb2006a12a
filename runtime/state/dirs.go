// SPDX-License-Identifier: Apache-2.0

package state

import (
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"golang.org/x/sys/unix"

	"sysbox/runtime/sys"
)

const (
	// HostDir is the one directory of the host that no configuration can change: ranges of
	// ids are taken from below it (uidmap.HostDir), and it lists the directories that
	// configurations name. It is empty after a reboot, and state_dir unless that is
	// configured.
	HostDir = "/run/sysbox"
	// defaultData is data_dir unless that is configured.
	defaultData = "/var/lib/sysbox"
)

// Dirs are the two directories that a configuration names, and all that is needed to find
// and to remove what containers made with it have left.
type Dirs struct {
	// State is state_dir and Data is data_dir, both absolute.
	State string `json:"state_dir"`
	Data  string `json:"data_dir"`
}

// Defaults are those of a host without a configuration.
func Defaults() Dirs { return Dirs{State: HostDir, Data: defaultData} }

// Check refuses directories that are not absolute paths.
func (d Dirs) Check() error {
	for key, dir := range map[string]string{"state_dir": d.State, "data_dir": d.Data} {
		if !filepath.IsAbs(dir) {
			return fmt.Errorf("%s is %q; give an absolute path", key, dir)
		}
	}
	return nil
}

// Holds reports whether a container is recorded in the state directory.
func (d Dirs) Holds(namespace, id string) bool {
	name, err := Path(d, namespace, id)
	return err == nil && sys.Exists(name)
}

// Journals is the directory with the journals of chowned trees.
func (d Dirs) Journals() string { return filepath.Join(d.Data, "chown") }

// entry is the file by which the host lists the directories.
func (d Dirs) entry() string {
	sum := sha256.Sum256([]byte(d.State + "\x00" + d.Data))
	return filepath.Join(HostDir, "dirs", fmt.Sprintf("%x.json", sum[:8]))
}

// lockEntries locks the list. Whoever lists directories also makes the state directory
// under the lock, so that nobody takes the entry for one of a directory that is gone.
func lockEntries() (unlock func(), err error) {
	name := filepath.Join(HostDir, "dirs")
	f, err := os.OpenFile(name, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_NOFOLLOW, 0)
	if errors.Is(err, fs.ErrNotExist) {
		if err = os.MkdirAll(name, 0o700); err == nil {
			f, err = os.OpenFile(name, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_NOFOLLOW, 0)
		}
	}
	if err != nil {
		return nil, err
	}
	if err := sys.Flock(f, unix.LOCK_EX); err != nil {
		f.Close()
		return nil, err
	}
	return func() { sys.Unlock(f) }, nil
}

// Register lists the directories for the host, so that containers are found when the
// configuration has changed. The default ones are always looked at.
func (d Dirs) Register() error {
	if d == Defaults() {
		return nil
	}
	unlock, err := lockEntries()
	if err != nil {
		return err
	}
	defer unlock()
	if err := os.MkdirAll(filepath.Join(d.State, "containers"), 0o700); err != nil {
		return err
	}
	name := d.entry()
	if sys.Exists(name) {
		return nil
	}
	b, err := json.Marshal(d)
	if err != nil {
		return err
	}
	if err := os.WriteFile(name+".new", append(b, '\n'), 0o600); err != nil {
		os.Remove(name + ".new")
		return err
	}
	return os.Rename(name+".new", name)
}

// Known are the directories of all configurations with which containers were made since
// the host has booted, the default ones first, and those of more that are not among them.
func Known(more ...Dirs) []Dirs {
	out := []Dirs{Defaults()}
	add := func(d Dirs) {
		if d.Check() == nil && !slices.Contains(out, d) {
			out = append(out, d)
		}
	}
	names, _ := filepath.Glob(GlobEscaped(HostDir) + "/dirs/*.json")
	for _, name := range names {
		var d Dirs
		if b, err := os.ReadFile(name); err == nil && json.Unmarshal(b, &d) == nil && d.Check() == nil && d.entry() == name {
			add(d)
		}
	}
	for _, d := range more {
		add(d)
	}
	return out
}

// Forget takes directories off the list that are gone, with all that can be in them.
func Forget() error {
	if !sys.Exists(filepath.Join(HostDir, "dirs")) {
		return nil
	}
	unlock, err := lockEntries()
	if err != nil {
		return err
	}
	defer unlock()
	for _, d := range Known() {
		if sys.Exists(filepath.Join(d.State, "containers")) || sys.Exists(filepath.Join(d.Data, "storage")) || sys.Exists(d.Journals()) {
			continue
		}
		if err := os.Remove(d.entry()); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
	}
	return nil
}

// Find finds the directories of a container of which the bundle does not tell them, as
// versions before did not write them there: those with a record of the container, made from
// this bundle before any other; false if there is none. Besides all that the host knows it
// looks at more.
func Find(namespace, id, bundle string, more ...Dirs) (Dirs, bool) {
	var found Dirs
	any := false
	for _, d := range Known(more...) {
		name, err := Path(d, namespace, id)
		if err != nil || !sys.Exists(name) {
			continue
		}
		if r, err := Read(name); err == nil && r.Bundle == bundle {
			return d, true
		}
		if !any {
			found, any = d, true
		}
	}
	return found, any
}

// GlobEscaped is a path as a pattern that matches nothing else.
func GlobEscaped(p string) string {
	return strings.NewReplacer(`\`, `\\`, "*", `\*`, "?", `\?`, "[", `\[`).Replace(p)
}
