// SPDX-License-Identifier: Apache-2.0

// Package config is the host's configuration: the file, its keys with their defaults, and
// what is said of a value that cannot be used.
//
// What does not belong here: what a container's own spec asks for (package plan), and what
// the configuration's directories hold (package state).
package config

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"

	"sysbox/runtime/plan"
	"sysbox/runtime/state"
	"sysbox/uidmap"
)

// configFile is read unless SYSBOX_CONFIG_FILE names another.
const configFile = "/etc/sysbox/config.toml"

// Config is the host's configuration, docs/configuration.md.
type Config struct {
	// StateDir holds what lives as long as the host runs: records of
	// containers, id ranges. An absolute path.
	StateDir string `toml:"state_dir"`
	// DataDir holds what is large or must survive a reboot: storage directories,
	// journals of chowned trees. An absolute path.
	DataDir string `toml:"data_dir"`
	// IDs says where ranges of ids come from.
	IDs IDs `toml:"ids"`
	// Unshifted says what to do with a bind whose file system cannot be
	// idmapped: "warn" (mount it as it is) or "refuse".
	Unshifted string `toml:"unshifted_binds"`
	// Modules are the names of kernel modules that containers may have the host
	// load: its own files, by its own modprobe.
	Modules []string `toml:"modules"`
	// BlockDevices are absolute paths, or patterns of them (path.Match), of the host's
	// block devices that specs may give to containers.
	BlockDevices []string `toml:"block_devices"`
	// FUSEMounts maps the type of a file system to the program in the container, and its first
	// arguments, that mounts it from a block device. Spaces separate them.
	FUSEMounts map[string]string `toml:"fuse_mounts"`
	// Settings are what holds for containers, and who may set it for one.
	Settings Settings `toml:"settings"`

	// Policy is what Settings says to a plan; Load fills it in.
	Policy plan.Policy `toml:"-"`
	// Testing is for tests alone.
	Testing Testing `toml:"-"`
}

// IDs is the [ids] table.
type IDs struct {
	// User is the name in /etc/subuid and /etc/subgid whose ranges are the pool.
	User string `toml:"subid_user"`
	// Size is how many ids a pod gets.
	Size uint32 `toml:"range_size"`
	// PoolStart and PoolSize are the pool where User has no entry; 0: the
	// default of package uidmap.
	PoolStart uint32 `toml:"pool_start"`
	PoolSize  uint32 `toml:"pool_size"`
	// AllowHostRoot lets a spec map the host's root into a container.
	AllowHostRoot bool `toml:"allow_host_root"`
}

// File is the file that holds the configuration, and whether SYSBOX_CONFIG_FILE
// names it: then it has to be there. An empty variable is one that is not set.
func File() (name string, named bool) {
	if name := os.Getenv("SYSBOX_CONFIG_FILE"); name != "" {
		return name, true
	}
	return configFile, false
}

// Load reads the configuration: the file name, or if that is "" the one that
// SYSBOX_CONFIG_FILE names, else /etc/sysbox/config.toml if there is one, else the defaults.
// An unknown key or a value of the wrong kind is an error with its line.
func Load(name string) (*Config, error) {
	c := &Config{
		StateDir:  state.Defaults().State,
		DataDir:   state.Defaults().Data,
		IDs:       IDs{User: "sysbox", Size: 1 << 18},
		Unshifted: "warn",
	}
	from, named := "ConfigPath of the runtime's options", true
	if name == "" {
		from = "SYSBOX_CONFIG_FILE"
		name, named = File()
	}
	if !filepath.IsAbs(name) {
		return nil, fmt.Errorf("%s is %q; give an absolute path", from, name)
	}
	text, err := os.ReadFile(name)
	switch {
	case errors.Is(err, fs.ErrNotExist) && !named:
		return c, nil
	case err != nil && named:
		return nil, fmt.Errorf("read the configuration that %s names: %w; make the file, or correct the name in containerd's environment or in the runtime's options", from, err)
	case err != nil:
		return nil, fmt.Errorf("read the configuration: %w", err)
	}
	if err := decodeConfig(text, c); err != nil {
		return nil, fmt.Errorf("configuration %s, %w", name, err)
	}
	lines := keyLines(text)
	if c.Policy, err = c.Settings.policy(name, lines); err != nil {
		return nil, err
	}
	return c, c.check(name, lines)
}

// check refuses values that have the right type, but cannot be used. An error names
// the file and the line, which lines has by the key.
func (c *Config) check(name string, lines map[string]int) error {
	wrong := func(key string, value any, wayOut string) error {
		set, _, _ := strings.Cut(key, "[") // without the index of a list
		return fmt.Errorf("configuration %s, line %d: %s is %#v; %s", name, lines[set], key, value, wayOut)
	}
	for _, d := range [][2]string{{"state_dir", c.StateDir}, {"data_dir", c.DataDir}} {
		if !filepath.IsAbs(d[1]) {
			return wrong(d[0], d[1], "give an absolute path")
		}
	}
	if c.Unshifted != "warn" && c.Unshifted != "refuse" {
		return wrong("unshifted_binds", c.Unshifted, `give "warn" or "refuse"`)
	}
	for i, p := range c.BlockDevices {
		if _, err := filepath.Match(p, ""); err != nil || !filepath.IsAbs(p) {
			return wrong(fmt.Sprintf("block_devices[%d]", i), p, `give an absolute path such as "/dev/vdb" or a pattern such as "/dev/loop*"`)
		}
	}
	for typ, command := range c.FUSEMounts {
		key := "fuse_mounts." + typ
		if typ == "" || strings.ContainsAny(typ, ",/ \t") || typ == "overlay" {
			return wrong(key, command, `give the type of a block file system, as in fuse_mounts = {ext4 = "fuse2fs"}`)
		}
		if words := strings.Fields(command); len(words) == 0 || strings.HasPrefix(words[0], "-") || strings.Contains(words[0], "/") && !filepath.IsAbs(words[0]) {
			return wrong(key, command, `name a program in the container, by its name or an absolute path, as in fuse_mounts = {ext4 = "fuse2fs"}`)
		}
	}
	if c.IDs.Size < 65536 {
		return wrong("ids.range_size", int(c.IDs.Size), "give 65536 or more")
	}
	for key, value := range map[string]uint32{"ids.pool_start": c.IDs.PoolStart, "ids.pool_size": c.IDs.PoolSize} {
		if lines[key] != 0 && value == 0 {
			return wrong(key, 0, "give 1 or more, or remove the line to have the default pool")
		}
	}
	if c.IDs.PoolStart != 0 && c.IDs.PoolSize == 0 {
		return wrong("ids.pool_start", int(c.IDs.PoolStart), "give ids.pool_size as well, or neither")
	}
	for i, m := range c.Modules {
		if m == "" || strings.ContainsAny(m, "/. \t") {
			return wrong(fmt.Sprintf("modules[%d]", i), m, "give a module's name, as lsmod shows it")
		}
	}
	return nil
}

// Pool is where the configuration has ranges of ids come from.
func (c *Config) Pool() uidmap.Pool {
	return uidmap.Pool{User: c.IDs.User, RangeSize: c.IDs.Size, Start: c.IDs.PoolStart, Size: c.IDs.PoolSize}
}

// BlockDeviceNumbers are the numbers of the block devices that the configuration lets
// containers have, as the host has them now.
func (c *Config) BlockDeviceNumbers() map[plan.DeviceNumber]bool {
	out := map[plan.DeviceNumber]bool{}
	for _, pattern := range c.BlockDevices {
		paths, _ := filepath.Glob(pattern)
		for _, p := range paths {
			var st unix.Stat_t
			if unix.Stat(p, &st) == nil && st.Mode&unix.S_IFMT == unix.S_IFBLK {
				out[plan.DeviceNumber{int64(unix.Major(st.Rdev)), int64(unix.Minor(st.Rdev))}] = true
			}
		}
	}
	return out
}
