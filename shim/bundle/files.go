// Package bundle reads and writes the shim's own files in a bundle, the folder
// that containerd or CRI-O makes for each container.
//
// What does not belong here: what the files mean for a container (config.json
// as a whole is package runtime's), and anything that outlives the bundle.
package bundle

import (
	"encoding/json"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"
)

// Names in the bundle. Those of the contract with callers: config.json, log,
// address (CRI-O finds the shim again by it). The others are ours.
const (
	Config     = "config.json"
	Log        = "log"
	Address    = "address"
	InitPid    = "init.pid"
	ExitStatus = "exit.json"
	ConfigPath = "sysbox.config"
)

// maxSmall bounds the files that we wrote and read back.
const maxSmall = 64 << 10

// Exit is how the container's first process ended, kept where the delete
// command finds it after the shim was killed.
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

// ReadExit reads what WriteExit wrote.
func ReadExit(dir string) (Exit, error) {
	var e Exit
	b, err := readSmall(filepath.Join(dir, ExitStatus), maxSmall)
	if err != nil {
		return e, err
	}
	if err := json.Unmarshal(b, &e); err != nil {
		return e, fmt.Errorf("read %s: %w", filepath.Join(dir, ExitStatus), err)
	}
	return e, nil
}

// WriteInitPid records the pid of init on the host.
func WriteInitPid(dir string, pid int) error {
	return replace(filepath.Join(dir, InitPid), []byte(strconv.Itoa(pid)))
}

// ReadInitPid reads what WriteInitPid wrote.
func ReadInitPid(dir string) (int, error) {
	s, err := readString(dir, InitPid)
	if err != nil {
		return 0, err
	}
	return strconv.Atoi(s)
}

// WriteAddress records the address of the container's shim.
func WriteAddress(dir, address string) error {
	return replace(filepath.Join(dir, Address), []byte(address))
}

// ReadAddress reads what WriteAddress wrote.
func ReadAddress(dir string) (string, error) { return readString(dir, Address) }

// WriteConfigPath records the configuration file that Create's options named,
// for the delete command, which gets no options.
func WriteConfigPath(dir, path string) error {
	return replace(filepath.Join(dir, ConfigPath), []byte(path))
}

// ReadConfigPath reads what WriteConfigPath wrote.
func ReadConfigPath(dir string) (string, error) { return readString(dir, ConfigPath) }

func readString(dir, name string) (string, error) {
	b, err := readSmall(filepath.Join(dir, name), maxSmall)
	return strings.TrimSpace(string(b)), err
}

// replace writes a file so that a reader sees the old content or the new.
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
