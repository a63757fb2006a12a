// SPDX-License-Identifier: Apache-2.0

// Package bundle reads and writes the shim's own files in a bundle, the directory
// that containerd or CRI-O makes for each container.
//
// What does not belong here: what the files mean for a container (package
// runtime reads config.json as a whole), and anything that outlives the bundle.
package bundle

import (
	"bytes"
	"encoding/json"
	"fmt"
	"hash/crc32"
	"io"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"time"
)

// Names in the bundle. Callers rely on config.json, log and address (CRI-O
// finds the shim again by address). The others are ours.
const (
	Config     = "config.json"
	Log        = "log"
	Address    = "address"
	InitPid    = "init.pid"
	ExitStatus = "exit.json"
	ConfigPath = "sysbox.config"
	Dirs       = "sysbox.dirs"
)

// maxSmall bounds the files that we write and read back.
const maxSmall = 64 << 10

// Exit is how the first process of the container exited, kept where the delete
// action finds it if the shim was killed.
type Exit struct {
	Pid    int       `json:"pid"`
	Status int       `json:"status"`
	At     time.Time `json:"timestamp"`
}

// WriteExit records the exit of init.
func WriteExit(dir string, e Exit) error {
	b, err := json.Marshal(e)
	if err != nil {
		return err
	}
	return replace(filepath.Join(dir, ExitStatus), b)
}

// ReadExit reads what WriteExit wrote. It fails if the file has anything else, such
// as half of it: a missing status must not be read as status 0.
func ReadExit(dir string) (Exit, error) {
	var e Exit
	name := filepath.Join(dir, ExitStatus)
	b, err := readSmall(name, maxSmall)
	if err != nil {
		return e, err
	}
	if e, err = parseExit(b); err != nil {
		return Exit{}, fmt.Errorf("read %s: %w", name, err)
	}
	return e, nil
}

func parseExit(b []byte) (Exit, error) {
	var e Exit
	d := json.NewDecoder(bytes.NewReader(b))
	d.DisallowUnknownFields()
	if err := d.Decode(&e); err != nil {
		return e, err
	}
	if d.More() || e.Pid <= 0 || e.Status < 0 || e.Status > 255 || e.At.IsZero() {
		return e, fmt.Errorf("%q does not record an exit", b)
	}
	return e, nil
}

// WriteInitPid records the pid of init on the host.
func WriteInitPid(dir string, pid int) error {
	return writeLine(dir, InitPid, strconv.Itoa(pid))
}

// ReadInitPid reads what WriteInitPid wrote.
func ReadInitPid(dir string) (int, error) {
	s, err := readLine(dir, InitPid)
	if err != nil {
		return 0, err
	}
	pid, err := strconv.Atoi(s)
	if err != nil || pid <= 0 || strconv.Itoa(pid) != s {
		return 0, fmt.Errorf("read %s: %q is not a pid", filepath.Join(dir, InitPid), s)
	}
	return pid, nil
}

// WriteAddress records the address of the container's shim.
func WriteAddress(dir, address string) error {
	return replace(filepath.Join(dir, Address), []byte(address))
}

// addressForm is the form of start's answer. By the contract with callers the file ends
// without a newline; its 64 digits show that it is complete.
var addressForm = regexp.MustCompile(`\Aunix:///[^\x00]*[0-9a-f]{64}\z`)

// ReadAddress reads what WriteAddress wrote.
func ReadAddress(dir string) (string, error) {
	name := filepath.Join(dir, Address)
	b, err := readSmall(name, maxSmall)
	if err != nil {
		return "", err
	}
	if !addressForm.Match(b) {
		return "", fmt.Errorf("read %s: %q is not a shim address", name, b)
	}
	return string(b), nil
}

// dirs is the content of [Dirs]: the checksum of the JSON in eight hexadecimal digits, a space,
// the JSON, a newline. A path with one letter changed would name an empty directory.
type dirs struct {
	State string `json:"state_dir"`
	Data  string `json:"data_dir"`
}

// WriteDirs records the state and the data directory that the container uses, for the
// delete action: the configuration may have changed by then. Both are absolute.
func WriteDirs(dir, state, data string) error {
	b, err := json.Marshal(dirs{state, data})
	if err != nil {
		return err
	}
	return writeLine(dir, Dirs, fmt.Sprintf("%08x %s", crc32.ChecksumIEEE(b), b))
}

// ReadDirs reads what WriteDirs wrote; fs.ErrNotExist in a bundle of an earlier version.
func ReadDirs(dir string) (state, data string, err error) {
	line, err := readLine(dir, Dirs)
	if err != nil {
		return "", "", err
	}
	var x dirs
	sum, b, _ := strings.Cut(line, " ")
	if sum != fmt.Sprintf("%08x", crc32.ChecksumIEEE([]byte(b))) || json.Unmarshal([]byte(b), &x) != nil || !filepath.IsAbs(x.State) || !filepath.IsAbs(x.Data) {
		return "", "", fmt.Errorf("read %s: the checksum of %q is wrong", filepath.Join(dir, Dirs), line)
	}
	return x.State, x.Data, nil
}

// WriteConfigPath records the configuration file that Create's options named. The delete
// action of earlier versions reads it, after a downgrade.
func WriteConfigPath(dir, path string) error { return writeLine(dir, ConfigPath, path) }

// ReadConfigPath reads what WriteConfigPath wrote.
func ReadConfigPath(dir string) (string, error) { return readLine(dir, ConfigPath) }

func writeLine(dir, name, line string) error {
	return replace(filepath.Join(dir, name), []byte(line+"\n"))
}

// readLine reads a file of one line; the newline shows that it is complete.
func readLine(dir, name string) (string, error) {
	path := filepath.Join(dir, name)
	b, err := readSmall(path, maxSmall)
	if err != nil {
		return "", err
	}
	line, ok := strings.CutSuffix(string(b), "\n")
	if !ok || line == "" {
		return "", fmt.Errorf("read %s: it is incomplete", path)
	}
	return line, nil
}

// replace writes a file atomically: a reader sees the old content or the new.
func replace(path string, b []byte) error {
	tmp := filepath.Join(filepath.Dir(path), "."+filepath.Base(path)+".new")
	if err := os.WriteFile(tmp, b, 0o600); err != nil {
		return err
	}
	if err := os.Rename(tmp, path); err != nil {
		os.Remove(tmp)
		return err
	}
	return nil
}

// readSmall reads a regular file of at most limit bytes.
func readSmall(path string, limit int64) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	b, err := io.ReadAll(io.LimitReader(f, limit+1))
	if err != nil {
		return nil, err
	}
	if int64(len(b)) > limit {
		return nil, fmt.Errorf("read %s: larger than %d bytes", path, limit)
	}
	return b, nil
}
