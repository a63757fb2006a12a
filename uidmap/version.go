package uidmap

import (
	"encoding/json"
	"errors"
	"fmt"
)

// laterError: a file was written by a later version of this program, in a form that is
// unknown here. Such a file is not damaged: it is never removed, and who needs what it says
// is refused.
type laterError struct {
	name      string
	has, read int // versions: the file's, and the highest that is read here
}

func (e laterError) Error() string {
	return fmt.Sprintf("%s has the form %d, and this version reads forms up to %d; use the version that wrote it", e.name, e.has, e.read)
}

func isLater(err error) bool { return errors.As(err, new(laterError)) }

// checkVersion is a laterError if a file's content, a JSON object, has a version above the
// highest that is read; one without a version has 0. What cannot be parsed is for others to
// judge. Fields of any name and type may stand beside the version.
func checkVersion(name string, content []byte, highest int) error {
	var v struct{ Version int }
	if json.Unmarshal(content, &v) == nil && v.Version > highest {
		return laterError{name, v.Version, highest}
	}
	return nil
}
