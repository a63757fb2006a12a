// SPDX-License-Identifier: Apache-2.0

package uidmap

import (
	"encoding/json"
	"errors"
	"fmt"
)

// laterError: a later version of this program wrote a file in a form that this version does
// not know. Such a file is not damaged: it is never removed, and a caller that needs its
// content gets this error.
type laterError struct {
	name      string
	has, read int // the version of the file, and the highest version read
}

func (e laterError) Error() string {
	return fmt.Sprintf("%s has the format version %d, but this version only reads up to %d; use the version that wrote it", e.name, e.has, e.read)
}

func isLater(err error) bool { return errors.As(err, new(laterError)) }

// checkVersion returns a laterError if the content of a file, a JSON object, has a version
// above the highest that is read; without a version it has 0. The caller checks content that
// cannot be parsed. Other fields may have any name and type.
func checkVersion(name string, content []byte, highest int) error {
	var v struct{ Version int }
	if json.Unmarshal(content, &v) == nil && v.Version > highest {
		return laterError{name, v.Version, highest}
	}
	return nil
}
