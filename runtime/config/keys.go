// SPDX-License-Identifier: Apache-2.0

package config

import (
	"bytes"
	"errors"
	"fmt"
	"strings"

	"github.com/pelletier/go-toml/v2"
)

// configKeys are the keys that there are, with what each takes, for the error of
// another value.
var configKeys = []struct{ name, takes string }{
	{"state_dir", `an absolute path in quotes, as in state_dir = "/run/sysbox"`},
	{"data_dir", `an absolute path in quotes, as in data_dir = "/var/lib/sysbox"`},
	{"unshifted_binds", `"warn" or "refuse", in quotes`},
	{"modules", `a list of names, as in modules = ["wireguard"]`},
	{"block_devices", `a list of paths, as in block_devices = ["/dev/vdb"]`},
	{"fuse_mounts", `a command in quotes for each type, as in fuse_mounts = {ext4 = "fuse2fs"}`},
	{"ids.subid_user", `a user's name in quotes, as in subid_user = "sysbox"`},
	{"ids.range_size", "a number from 65536 to 4294967295"},
	{"ids.pool_start", "a number from 1 to 4294967294"},
	{"ids.pool_size", "a number from 1 to 4294967294"},
	{"ids.allow_host_root", takesBool},
	{"settings.sources", takesSources},
	{"settings.syscont_mode.default", takesBool},
	{"settings.syscont_mode.from", takesSources},
	{"settings.honor_caps.default", takesBool},
	{"settings.honor_caps.from", takesSources},
	{"settings.skip_uid_shift.default", `a list of paths, as in default = ["/data"]`},
	{"settings.skip_uid_shift.from", takesSources},
	{"settings.ignore_sysfs_chown.default", takesBool},
	{"settings.ignore_sysfs_chown.from", takesSources},
	{"settings.allow_trusted_xattr.default", takesBool},
	{"settings.allow_trusted_xattr.from", takesSources},
	{"settings.no_new_privileges.default", `"honour" or "lift", in quotes`},
}

const (
	takesBool    = "true or false, without quotes"
	takesSources = `a list of "annotations" and "environment", as in ["annotations"], or [] for nobody`
)

// decodeConfig reads a configuration's text over the defaults. An error begins with
// the line: "line 2: …".
func decodeConfig(text []byte, c *Config) error {
	var wrong *toml.DecodeError
	// First, whether it is TOML at all: the errors of the struct are then about its keys.
	if err := toml.Unmarshal(text, &map[string]any{}); errors.As(err, &wrong) {
		row, _ := wrong.Position()
		return fmt.Errorf("line %d: %q is not TOML: %s; a line is key = value, with texts in quotes", row, lineOf(text, row), strings.TrimPrefix(wrong.Error(), "toml: "))
	} else if err != nil {
		return err
	}
	d := toml.NewDecoder(bytes.NewReader(text))
	d.DisallowUnknownFields()
	err := d.Decode(c)
	var unknown *toml.StrictMissingError
	switch {
	case errors.As(err, &unknown):
		row, _ := unknown.Errors[0].Position()
		return fmt.Errorf("line %d: %s", row, unknownKey(strings.Join(unknown.Errors[0].Key(), ".")))
	case errors.As(err, &wrong):
		row, _ := wrong.Position()
		key := strings.Join(wrong.Key(), ".")
		var below []string // of what is a table, in which the error need not name the key
		for _, k := range configKeys {
			if k.name == key {
				return fmt.Errorf("line %d: %q: %s takes %s", row, lineOf(text, row), key, k.takes)
			}
			if strings.HasPrefix(k.name, key+".") {
				below = append(below, k.name+" takes "+k.takes)
			}
		}
		if strings.Contains(key, ".") && len(below) > 0 {
			return fmt.Errorf("line %d: %q: %s is a table; %s", row, lineOf(text, row), key, strings.Join(below, ", and "))
		}
		return fmt.Errorf("line %d: %q: %s takes no such value; ids is a table, [ids], with its keys on the lines below, and so is settings", row, lineOf(text, row), key)
	}
	return err
}

// lineOf is a line of a text, from 1 on, without the spaces around it.
func lineOf(text []byte, row int) string {
	lines := bytes.Split(text, []byte("\n"))
	if row < 1 || row > len(lines) {
		return ""
	}
	return string(bytes.TrimSpace(lines[row-1]))
}

// unknownKey says which key is meant, if one is similar.
func unknownKey(key string) string {
	nearest, least := "", len(key)/2
	for _, k := range configKeys {
		if d := distance(key, k.name); d < least {
			nearest, least = k.name, d
		}
	}
	if nearest != "" {
		return fmt.Sprintf("%s is not a key; did you mean %s? docs/configuration.md lists all keys", key, nearest)
	}
	var known []string
	for _, k := range configKeys {
		known = append(known, k.name)
	}
	return fmt.Sprintf("%s is not a key; the keys are %s", key, strings.Join(known, ", "))
}

// distance is how many bytes must be inserted, removed or replaced to turn a into b
// (Levenshtein).
func distance(a, b string) int {
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		diagonal := row[0]
		row[0] = i + 1
		for j := range len(b) {
			replaced := diagonal
			if a[i] != b[j] {
				replaced++
			}
			diagonal = row[j+1]
			row[j+1] = min(replaced, row[j+1]+1, row[j]+1)
		}
	}
	return row[len(b)]
}
