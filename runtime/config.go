package runtime

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/pelletier/go-toml/v2"
)

// configFile is read unless SYSBOX_CONFIG_FILE names another.
const configFile = "/etc/sysbox/config.toml"

// Config is the host's configuration, docs/configuration.md.
type Config struct {
	// StateDir holds what lives as long as the host runs: records of
	// containers, id ranges. An absolute path.
	StateDir string `toml:"state_dir"`
	// DataDir holds what is large or must survive a reboot: storage folders,
	// journals of chowned trees. An absolute path.
	DataDir string `toml:"data_dir"`
	// IDs says where ranges of ids come from.
	IDs IDConfig `toml:"ids"`
	// Unshifted says what to do with a bind whose file system cannot be
	// idmapped: "warn" (mount it as it is) or "refuse".
	Unshifted string `toml:"unshifted_binds"`
	// Modules are the names of kernel modules that containers may have the host
	// load: its own files, by its own modprobe.
	Modules []string `toml:"modules"`
}

// IDConfig is the [ids] table.
type IDConfig struct {
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

// LoadConfig reads the configuration: the file that SYSBOX_CONFIG_FILE names,
// else /etc/sysbox/config.toml if there is one, else the defaults. An unknown
// key or a value of the wrong kind is an error with its line.
func LoadConfig() (*Config, error) {
	c := &Config{
		StateDir:  "/run/sysbox",
		DataDir:   "/var/lib/sysbox",
		IDs:       IDConfig{User: "sysbox", Size: 1 << 18},
		Unshifted: "warn",
	}
	name, named := os.LookupEnv("SYSBOX_CONFIG_FILE")
	if !named {
		name = configFile
	}
	f, err := os.Open(name)
	if err != nil {
		if errors.Is(err, fs.ErrNotExist) && !named {
			return c, nil
		}
		return nil, fmt.Errorf("read the configuration: %w", err)
	}
	defer f.Close()
	d := toml.NewDecoder(f)
	d.DisallowUnknownFields()
	if err := d.Decode(c); err != nil {
		var strict *toml.StrictMissingError
		if errors.As(err, &strict) {
			line, _ := strict.Errors[0].Position()
			return nil, fmt.Errorf("configuration %s, line %d: %s is no key; see docs/configuration.md for those that there are", name, line, strings.Join(strict.Errors[0].Key(), "."))
		}
		var wrong *toml.DecodeError
		if errors.As(err, &wrong) {
			line, _ := wrong.Position()
			return nil, fmt.Errorf("configuration %s, line %d: %s: %w; see docs/configuration.md", name, line, strings.Join(wrong.Key(), "."), err)
		}
		return nil, fmt.Errorf("configuration %s: %w", name, err)
	}
	return c, c.check(name)
}

func (c *Config) check(name string) error {
	for key, dir := range map[string]string{"state_dir": c.StateDir, "data_dir": c.DataDir} {
		if !filepath.IsAbs(dir) {
			return fmt.Errorf("configuration %s: %s is %q; give an absolute path", name, key, dir)
		}
	}
	if c.Unshifted != "warn" && c.Unshifted != "refuse" {
		return fmt.Errorf("configuration %s: unshifted_binds is %q; give \"warn\" or \"refuse\"", name, c.Unshifted)
	}
	if c.IDs.Size < 65536 {
		return fmt.Errorf("configuration %s: ids.range_size is %d; give 65536 or more", name, c.IDs.Size)
	}
	return nil
}
