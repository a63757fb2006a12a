// SPDX-License-Identifier: Apache-2.0

package config

import (
	"errors"
	"fmt"
	"io/fs"
	"os"

	"github.com/pelletier/go-toml/v2"

	"sysbox/runtime/state"
)

// Dirs are the directories that the configuration names.
func (c *Config) Dirs() state.Dirs { return state.Dirs{State: c.StateDir, Data: c.DataDir} }

// Dirs reads only the directories of a configuration, so that other mistakes in it do not
// matter; name is "" for the file that [File] tells.
func Dirs(name string) (state.Dirs, error) {
	named := true
	if name == "" {
		name, named = File()
	}
	text, err := os.ReadFile(name)
	defaults := state.Defaults()
	if errors.Is(err, fs.ErrNotExist) && !named {
		return defaults, nil
	}
	if err != nil {
		return state.Dirs{}, fmt.Errorf("read the configuration: %w", err)
	}
	c := struct {
		StateDir string `toml:"state_dir"`
		DataDir  string `toml:"data_dir"`
	}{defaults.State, defaults.Data}
	if err := toml.Unmarshal(text, &c); err != nil {
		return state.Dirs{}, fmt.Errorf("configuration %s: %w", name, err)
	}
	d := state.Dirs{State: c.StateDir, Data: c.DataDir}
	if err := d.Check(); err != nil {
		return state.Dirs{}, fmt.Errorf("configuration %s: %w", name, err)
	}
	return d, nil
}
