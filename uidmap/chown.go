package uidmap

import "errors"

// Shift gives a tree to the container.
func Shift(journalDir, root string, uid, gid Map) error { return errors.New("chown: not built yet") }

// Revert undoes Shift.
func Revert(journalDir, root string) error { return nil }
