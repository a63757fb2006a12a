// SPDX-License-Identifier: Apache-2.0

package uidmap

import (
	"bufio"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"slices"
	"strconv"
	"strings"
)

// The default pool, if neither /etc/subuid nor the configuration names one:
// 133,955,584 ids, 511 ranges of the default size. It avoids the ids that others
// give out:
//
//	0-65535                 system and human users, nobody (65534)
//	100000-600099999        what useradd writes to /etc/subuid (login.defs)
//	524288-1879048191       systemd-nspawn (systemd, UIDS-GIDS)
//	200000-2000200000       users that SSSD maps
//	2147352576-2147418111   systemd's "foreign" ids
//	2147483648 and above    negative for programs with signed ids
//
// Both ends are multiples of 2^18, so the low 16 bits of a host id are the
// container id in every range of 2^16 or more.
const (
	DefaultStart     = 0x78000000 // 2013265920
	DefaultPoolSize  = 0x07fc0000
	DefaultRangeSize = 1 << 18
)

// Pool says which ids ranges come from.
type Pool struct {
	// User is the name in /etc/subuid and /etc/subgid whose ranges are the
	// pool, except for ids that only one of the files has. Empty: no user.
	User string
	// RangeSize is the number of ids in a range; 0: [DefaultRangeSize].
	RangeSize uint32
	// Start and Size are the pool if User has no entry; Size 0: the default
	// pool. Subordinate ids of other users, and ids in /etc/passwd and
	// /etc/group, are excluded.
	Start, Size uint32

	etc string // for tests; else /etc
}

// slots are the ranges that a pool can provide, in order.
type slots struct {
	parts []Range // disjoint, ascending
	size  uint32
	count int
	name  string // describes the pool in errors
}

func (s *slots) at(i int) Range {
	for _, p := range s.parts {
		n := int(p.Size / s.size)
		if i < n {
			return Range{p.HostID + uint32(i)*s.size, s.size}
		}
		i -= n
	}
	return Range{}
}

// signature changes when the ranges of at change.
func (s *slots) signature() uint64 {
	h := uint64(14695981039346656037) // FNV-1a
	mix := func(v uint32) {
		for range 4 {
			h = (h ^ uint64(v&0xff)) * 1099511628211
			v >>= 8
		}
	}
	mix(s.size)
	for _, p := range s.parts {
		mix(p.HostID)
		mix(p.Size)
	}
	return h
}

// Describe says for an administrator which ids the pool has and how many ranges, or why it
// has none.
func (p Pool) Describe() (string, error) {
	s, err := p.slots()
	if err != nil {
		return "", err
	}
	return fmt.Sprintf("%d ranges of %d ids, %s", s.count, s.size, s.name), nil
}

func (p Pool) slots() (*slots, error) {
	size := p.RangeSize
	if size == 0 {
		size = DefaultRangeSize
	}
	etc := p.etc
	if etc == "" {
		etc = "/etc"
	}
	ownU, otherU, err := subids(etc+"/subuid", p.User)
	if err != nil {
		return nil, err
	}
	ownG, otherG, err := subids(etc+"/subgid", p.User)
	if err != nil {
		return nil, err
	}
	s := &slots{size: size}
	switch {
	case len(ownU) > 0 && len(ownG) > 0:
		s.parts = intersect(ownU, ownG)
		s.name = fmt.Sprintf("the common entries of %q in /etc/subuid and /etc/subgid", p.User)
	case len(ownU) > 0 || len(ownG) > 0:
		return nil, fmt.Errorf("id pool: %q has an entry in only one of /etc/subuid and /etc/subgid; add the same ids to the other", p.User)
	default:
		r := Range{p.Start, p.Size}
		s.name = fmt.Sprintf("the configured pool %v", r)
		if p.Size == 0 {
			r = Range{DefaultStart, DefaultPoolSize}
			s.name = fmt.Sprintf("the default pool %v", r)
		}
		if r.HostID == 0 || r.end() > noID {
			return nil, fmt.Errorf("id pool: ids.pool_start %d and ids.pool_size %d: the pool must not contain id 0 or ids above 4294967294", p.Start, p.Size)
		}
		used := append(otherU, otherG...)
		for _, name := range []string{"passwd", "group"} {
			ids, err := fileIDs(etc + "/" + name)
			if err != nil {
				return nil, err
			}
			used = append(used, ids...)
		}
		s.parts = subtract(r, used, size)
	}
	for _, part := range s.parts {
		s.count += int(part.Size / size)
	}
	if s.count == 0 {
		return nil, fmt.Errorf("id pool: no room for one range of %[2]d ids (ids.range_size) in %[1]s; configure a larger pool or smaller ranges", s.name, size)
	}
	return s, nil
}

// lines calls f with the colon-separated fields of each line; a missing file has no
// lines.
func lines(name string, f func(fields []string)) error {
	file, err := os.Open(name)
	if err != nil {
		if errors.Is(err, fs.ErrNotExist) {
			return nil
		}
		return fmt.Errorf("id pool: %w", err)
	}
	defer file.Close()
	s := bufio.NewScanner(file)
	for s.Scan() {
		if line := strings.TrimSpace(s.Text()); line != "" && line[0] != '#' {
			f(strings.Split(line, ":"))
		}
	}
	if err := s.Err(); err != nil {
		return fmt.Errorf("id pool: read %s: %w", name, err)
	}
	return nil
}

// subids reads subuid(5): the merged ranges of a user, and those of all others. Id 0 of
// the host is never given out. Invalid lines are skipped, as newuidmap does.
func subids(name, user string) (own, other []Range, err error) {
	err = lines(name, func(f []string) {
		if len(f) != 3 {
			return
		}
		start, e1 := strconv.ParseUint(f[1], 10, 32)
		size, e2 := strconv.ParseUint(f[2], 10, 32)
		if e1 != nil || e2 != nil || size == 0 || start+size > noID {
			return
		}
		r := Range{uint32(start), uint32(size)}
		if user == "" || f[0] != user {
			other = append(other, r)
			return
		}
		if r.HostID == 0 {
			r.HostID, r.Size = 1, r.Size-1
		}
		if r.Size > 0 {
			own = append(own, r)
		}
	})
	return merge(own), other, err
}

// fileIDs returns the ids in passwd(5) or group(5), the third field of both.
func fileIDs(name string) (ids []Range, err error) {
	err = lines(name, func(f []string) {
		if len(f) < 3 {
			return
		}
		if id, err := strconv.ParseUint(f[2], 10, 32); err == nil {
			ids = append(ids, Range{uint32(id), 1})
		}
	})
	return ids, err
}

func sortRanges(rs []Range) {
	slices.SortFunc(rs, func(a, b Range) int { return int(int64(a.HostID) - int64(b.HostID)) })
}

func merge(rs []Range) []Range {
	sortRanges(rs)
	var out []Range
	for _, r := range rs {
		if n := len(out); n > 0 && uint64(r.HostID) <= out[n-1].end() {
			out[n-1].Size = uint32(max(out[n-1].end(), r.end()) - uint64(out[n-1].HostID))
			continue
		}
		out = append(out, r)
	}
	return out
}

func intersect(a, b []Range) []Range {
	var out []Range
	for _, x := range a {
		for _, y := range b {
			start := max(x.HostID, y.HostID)
			if end := min(x.end(), y.end()); uint64(start) < end {
				out = append(out, Range{start, uint32(end - uint64(start))})
			}
		}
	}
	return merge(out)
}

// subtract removes the ranges of a grid of size that contain a used id, so that the
// rest keeps its alignment.
func subtract(pool Range, used []Range, size uint32) []Range {
	parts := []Range{pool}
	for _, u := range used {
		if !u.overlaps(pool) {
			continue
		}
		first := uint64(max(u.HostID, pool.HostID)-pool.HostID) / uint64(size) * uint64(size)
		last := (min(u.end(), pool.end()) - uint64(pool.HostID) + uint64(size) - 1) / uint64(size) * uint64(size)
		hole := Range{pool.HostID + uint32(first), uint32(min(last, uint64(pool.Size)) - first)}
		var next []Range
		for _, p := range parts {
			if !p.overlaps(hole) {
				next = append(next, p)
				continue
			}
			if p.HostID < hole.HostID {
				next = append(next, Range{p.HostID, hole.HostID - p.HostID})
			}
			if hole.end() < p.end() {
				next = append(next, Range{uint32(hole.end()), uint32(p.end() - hole.end())})
			}
		}
		parts = next
	}
	return parts
}
