// SPDX-License-Identifier: Apache-2.0

package mirror

import (
	"os"
	"strings"
	"sync"

	"golang.org/x/sys/unix"

	"sysbox/uidmap"
)

// node is an object that the kernel knows by a number: a name in a directory. What the name
// leads to may change, since the container keeps running.
type node struct {
	id      uint64
	parent  *node // nil for the root
	name    string
	kind    uint32 // S_IFMT of its mode
	lookups uint64 // how many lookups the kernel has counted
}

// nodes are all nodes that the kernel knows.
type nodes struct {
	mu   sync.Mutex
	last uint64
	ids  map[uint64]*node
	at   map[place]*node
}

type place struct {
	parent *node
	name   string
}

const rootID = 1

func (t *nodes) init() {
	t.last = rootID
	t.ids = map[uint64]*node{rootID: {id: rootID, kind: unix.S_IFDIR}}
	t.at = map[place]*node{}
}

func (t *nodes) get(id uint64) (*node, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if n := t.ids[id]; n != nil {
		return n, nil
	}
	return nil, unix.ESTALE
}

// found counts a lookup. An object of another kind than before, or a new one, gets a new
// number: the kernel caches what it knows about a number.
func (t *nodes) found(parent *node, name string, mode uint32, fresh bool) *node {
	t.mu.Lock()
	defer t.mu.Unlock()
	p := place{parent, name}
	n := t.at[p]
	if n == nil || fresh || n.kind != mode&unix.S_IFMT {
		t.last++
		n = &node{id: t.last, parent: parent, name: name, kind: mode & unix.S_IFMT}
		t.ids[n.id], t.at[p] = n, n
	}
	n.lookups++
	return n
}

// count returns how many nodes the kernel knows.
func (t *nodes) count() int {
	t.mu.Lock()
	defer t.mu.Unlock()
	return len(t.ids)
}

func (t *nodes) forget(id, times uint64) {
	t.mu.Lock()
	defer t.mu.Unlock()
	n := t.ids[id]
	if n == nil || n.parent == nil {
		return
	}
	if n.lookups -= min(times, n.lookups); n.lookups > 0 {
		return
	}
	delete(t.ids, id)
	t.drop(place{n.parent, n.name}, n)
}

// drop removes a node from its place if it is there. The caller holds mu.
func (t *nodes) drop(p place, n *node) {
	if t.at[p] == n {
		delete(t.at, p)
	}
}

func (t *nodes) removed(parent *node, name string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	delete(t.at, place{parent, name})
}

func (t *nodes) renamed(from, to place, exchange bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	a, b := t.at[from], t.at[to]
	delete(t.at, from)
	delete(t.at, to)
	if a != nil {
		a.parent, a.name = to.parent, to.name
		t.at[to] = a
	}
	if b != nil && exchange {
		b.parent, b.name = from.parent, from.name
		t.at[from] = b
	}
}

// path returns the path of a node below the root. It fails if the path is longer than the
// limit, or endless: if the container moves a directory while the caller does, the directory
// can end up below itself here.
func (t *nodes) path(n *node) (string, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	var parts []string
	length := 0
	for ; n.parent != nil; n = n.parent {
		if length += len(n.name) + 1; length > unix.PathMax {
			return "", unix.ENAMETOOLONG
		}
		parts = append(parts, n.name)
	}
	if len(parts) == 0 {
		return ".", nil
	}
	for i, j := 0, len(parts)-1; i < j; i, j = i+1, j-1 {
		parts[i], parts[j] = parts[j], parts[i]
	}
	return strings.Join(parts, "/"), nil
}

// files are the files that the caller has open.
type files struct {
	mu   sync.Mutex
	last uint64
	open map[uint64]*os.File
	left []uint64 // the next free thread releases them
}

func (t *files) add(f *os.File) uint64 {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.open == nil {
		t.open = map[uint64]*os.File{}
	}
	t.last++
	t.open[t.last] = f
	return t.last
}

func (t *files) get(fh uint64) (*os.File, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if f := t.open[fh]; f != nil {
		return f, nil
	}
	return nil, unix.EBADF
}

func (t *files) release(fh uint64) {
	t.mu.Lock()
	f := t.open[fh]
	delete(t.open, fh)
	t.mu.Unlock()
	if f != nil {
		f.Close()
	}
}

// leave defers the release of a file to releaseLeft.
func (t *files) leave(fh uint64) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.left = append(t.left, fh)
}

func (t *files) releaseLeft() {
	t.mu.Lock()
	left := t.left
	t.left = nil
	t.mu.Unlock()
	for _, fh := range left {
		t.release(fh)
	}
}

func (t *files) closeAll() {
	t.mu.Lock()
	defer t.mu.Unlock()
	for _, f := range t.open {
		f.Close()
	}
	t.open = nil
}

// overflow is shown for an id that the container does not map.
const overflow = 65534

// containerID translates a host id to the container.
func containerID(m uidmap.Map, id uint32) uint32 {
	if c, ok := m.ToContainer(id); ok {
		return c
	}
	return overflow
}
