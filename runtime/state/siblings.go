// SPDX-License-Identifier: Apache-2.0

package state

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
)

// Others counts the records of all containers of the host but this one, those of other
// namespaces and configurations and of containers that are being made or removed included.
func (r *Record) Others(d Dirs) (int, error) {
	n := 0
	seen := map[string]bool{}
	for _, k := range Known(d) {
		if seen[k.State] {
			continue
		}
		seen[k.State] = true
		m, err := k.Containers()
		if err != nil {
			return 0, err
		}
		n += m
	}
	return max(0, n-1), nil
}

// Containers counts the records of containers in the state directory.
func (d Dirs) Containers() (int, error) {
	all := filepath.Join(d.State, "containers")
	namespaces, err := os.ReadDir(all)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return 0, err
	}
	n := 0
	for _, ns := range namespaces {
		dir, err := os.Open(filepath.Join(all, ns.Name()))
		if errors.Is(err, fs.ErrNotExist) {
			continue // its last container has gone
		}
		if err != nil {
			return 0, err
		}
		names, err := dir.Readdirnames(-1)
		dir.Close()
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return 0, err
		}
		for _, name := range names {
			if filepath.Ext(name) == ".json" {
				n++
			}
		}
	}
	return n, nil
}

// Journals are the directories that can have the journal of the record's tree. Versions
// before did not record which it is.
func (r *Record) Journals(d Dirs) []string {
	if r.Data != "" {
		return []string{Dirs{Data: r.Data}.Journals()}
	}
	var out []string
	for _, k := range Known(d) {
		if dir := k.Journals(); !slices.Contains(out, dir) {
			out = append(out, dir)
		}
	}
	return out
}

// Siblings are the records of the same sandbox, r's own excluded. One that is
// damaged could be a sibling's, and counts as such: what the sandbox's
// containers share stays while one of them may be there.
func (r *Record) Siblings(d Dirs) ([]*Record, error) {
	name, err := Path(d, r.Namespace, r.ID)
	if err != nil {
		return nil, err
	}
	entries, err := os.ReadDir(filepath.Dir(name))
	if err != nil {
		if errors.Is(err, fs.ErrNotExist) {
			return nil, nil
		}
		return nil, err
	}
	var out []*Record
	for _, e := range entries {
		if filepath.Ext(e.Name()) != ".json" || e.Name() == r.ID+".json" {
			continue
		}
		s, err := Read(filepath.Join(filepath.Dir(name), e.Name()))
		if errors.Is(err, fs.ErrNotExist) || errors.Is(err, ErrEmpty) {
			continue // gone meanwhile, or not yet there
		}
		if err != nil {
			s = &Record{Namespace: r.Namespace, Sandbox: r.Sandbox, IDOwner: r.IDOwner}
		}
		if s.Sandbox == r.Sandbox {
			out = append(out, s)
		}
	}
	return out, nil
}

// Alone tells whether no other container has the ids of this one's. Ids of the caller may be
// anybody's.
func (r *Record) Alone(d Dirs) bool {
	if r.IDOwner == "" {
		return false
	}
	siblings, err := r.Siblings(d)
	return err == nil && !slices.ContainsFunc(siblings, func(s *Record) bool { return s.IDOwner == r.IDOwner })
}
