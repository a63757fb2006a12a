package runtime

import (
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"

	"github.com/pelletier/go-toml/v2"
	"golang.org/x/sys/unix"

	"sysbox/runtime/sys"
)

const (
	// hostDir is the one directory of the host that no configuration can change: ranges of
	// ids are taken from below it (uidmap.HostDir), and it lists the directories that
	// configurations name. It is empty after a reboot, and state_dir unless that is
	// configured.
	hostDir = "/run/sysbox"
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

// DefaultDirs are those of a host without a configuration.
func DefaultDirs() Dirs { return Dirs{State: hostDir, Data: defaultData} }

// Dirs are the directories that the configuration names.
func (c *Config) Dirs() Dirs { return Dirs{State: c.StateDir, Data: c.DataDir} }

// ConfiguredDirs reads no more of a configuration than its directories, so that what else is
// wrong in it does not matter; name is "" for the file that [ConfigFile] tells.
func ConfiguredDirs(name string) (Dirs, error) {
	named := true
	if name == "" {
		name, named = ConfigFile()
	}
	text, err := os.ReadFile(name)
	if errors.Is(err, fs.ErrNotExist) && !named {
		return DefaultDirs(), nil
	}
	if err != nil {
		return Dirs{}, fmt.Errorf("read the configuration: %w", err)
	}
	c := struct {
		StateDir string `toml:"state_dir"`
		DataDir  string `toml:"data_dir"`
	}{hostDir, defaultData}
	if err := toml.Unmarshal(text, &c); err != nil {
		return Dirs{}, fmt.Errorf("configuration %s: %w", name, err)
	}
	d := Dirs{State: c.StateDir, Data: c.DataDir}
	if err := d.check(); err != nil {
		return Dirs{}, fmt.Errorf("configuration %s: %w", name, err)
	}
	return d, nil
}

func (d Dirs) check() error {
	for key, dir := range map[string]string{"state_dir": d.State, "data_dir": d.Data} {
		if !filepath.IsAbs(dir) {
			return fmt.Errorf("%s is %q; give an absolute path", key, dir)
		}
	}
	return nil
}

// Holds reports whether a container is recorded in the state directory.
func (d Dirs) Holds(namespace, id string) bool {
	name, err := recordPath(d, namespace, id)
	return err == nil && exists(name)
}

// journals is the directory with the journals of chowned trees.
func (d Dirs) journals() string { return filepath.Join(d.Data, "chown") }

// entry is the file by which the host lists the directories.
func (d Dirs) entry() string {
	sum := sha256.Sum256([]byte(d.State + "\x00" + d.Data))
	return filepath.Join(hostDir, "dirs", fmt.Sprintf("%x.json", sum[:8]))
}

// lockEntries locks the list. Whoever lists directories also makes the state directory
// under the lock, so that nobody takes the entry for one of a directory that is gone.
func lockEntries() (unlock func(), err error) {
	name := filepath.Join(hostDir, "dirs")
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

// register lists the directories for the host, so that containers are found when the
// configuration has changed. The default ones are always looked at.
func (d Dirs) register() error {
	if d == DefaultDirs() {
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
	if exists(name) {
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

// KnownDirs are the directories of all configurations with which containers were made since
// the host has booted, the default ones first, and those of more that are not among them.
func KnownDirs(more ...Dirs) []Dirs {
	out := []Dirs{DefaultDirs()}
	add := func(d Dirs) {
		if d.check() == nil && !slices.Contains(out, d) {
			out = append(out, d)
		}
	}
	names, _ := filepath.Glob(globEscaped(hostDir) + "/dirs/*.json")
	for _, name := range names {
		var d Dirs
		if b, err := os.ReadFile(name); err == nil && json.Unmarshal(b, &d) == nil && d.check() == nil && d.entry() == name {
			add(d)
		}
	}
	for _, d := range more {
		add(d)
	}
	return out
}

// forgetDirs takes directories off the list that are gone, with all that can be in them.
func forgetDirs() error {
	if !exists(filepath.Join(hostDir, "dirs")) {
		return nil
	}
	unlock, err := lockEntries()
	if err != nil {
		return err
	}
	defer unlock()
	for _, d := range KnownDirs() {
		if exists(filepath.Join(d.State, "containers")) || exists(filepath.Join(d.Data, "storage")) || exists(d.journals()) {
			continue
		}
		if err := os.Remove(d.entry()); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
	}
	return nil
}

// FindDirs finds the directories of a container of which the bundle does not tell them, as
// versions before did not write them there: those with a record of the container, made from
// this bundle before any other; false if there is none. Besides all that the host knows it
// looks at more.
func FindDirs(namespace, id, bundle string, more ...Dirs) (Dirs, bool) {
	var found Dirs
	any := false
	for _, d := range KnownDirs(more...) {
		name, err := recordPath(d, namespace, id)
		if err != nil || !exists(name) {
			continue
		}
		if r, err := readRecord(name); err == nil && r.Bundle == bundle {
			return d, true
		}
		if !any {
			found, any = d, true
		}
	}
	return found, any
}
