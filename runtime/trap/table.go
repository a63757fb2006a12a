// SPDX-License-Identifier: Apache-2.0

package trap

import (
	"sync"

	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"sysbox/runtime/seccomp"
)

// handlers lists all calls that are handed over. docs/system-calls.md has the reasons, and
// TestTable compares the two.
var handlers []handler

func init() {
	device := func(mode uint) [][]specs.LinuxSeccompArg {
		// FIFOs, sockets and plain files are left to the kernel, and so are whiteouts of
		// overlayfs, which are device 0.
		return [][]specs.LinuxSeccompArg{
			{bits(mode, unix.S_IFMT, unix.S_IFCHR), notZero(mode + 1)},
			{bits(mode, unix.S_IFMT, unix.S_IFBLK), notZero(mode + 1)},
		}
	}
	const (
		change = unix.MS_REMOUNT | unix.MS_BIND | unix.MS_MOVE | unix.MS_SHARED | unix.MS_PRIVATE | unix.MS_SLAVE | unix.MS_UNBINDABLE
		// Old programs mark their flags with a magic number. The kernel removes the mark, and
		// with it all flags that share its bits.
		magic, magicBits = unix.MS_MGC_VAL, unix.MS_MGC_MSK
	)
	clone := [][]specs.LinuxSeccompArg{{bits(2, unix.OPEN_TREE_CLONE|unix.AT_RECURSIVE, unix.OPEN_TREE_CLONE)}}
	handlers = []handler{
		{name: "mknod", when: device(1), handle: mknod},
		{name: "mknodat", when: device(2), handle: mknodat},
		{name: "mount", when: [][]specs.LinuxSeccompArg{
			{bits(3, change, 0)},
			{bits(3, change&^magicBits|magicBits, magic)},
			{bits(3, unix.MS_REMOUNT|unix.MS_BIND|unix.MS_REC, unix.MS_BIND)},
		}, handle: mount},
		{name: "open_tree", when: clone, handle: openTree},
		{name: "open_tree_attr", when: clone, handle: openTreeAttr},
		{name: "move_mount", when: [][]specs.LinuxSeccompArg{{bits(4, unix.MOVE_MOUNT_F_EMPTY_PATH, unix.MOVE_MOUNT_F_EMPTY_PATH)}}, handle: moveMount},
		{name: "fsopen", when: always, handle: fsopen},
		{name: "init_module", when: always, handle: initModule},
		{name: "finit_module", when: always, handle: finitModule},
		{name: "sysinfo", when: always, handle: sysinfo},
	}
}

// handler answers one system call.
type handler struct {
	name string
	// when lists alternative conditions on the arguments; one of them must hold.
	when   [][]specs.LinuxSeccompArg
	handle func(*worker, *call) response
}

// handlersByNumber finds handlers by architecture and number.
var handlersByNumber = sync.OnceValue(func() map[seccomp.Number]*handler {
	byName := map[string]*handler{}
	var names []string
	for i := range handlers {
		byName[handlers[i].name] = &handlers[i]
		names = append(names, handlers[i].name)
	}
	out := map[seccomp.Number]*handler{}
	for nr, name := range seccomp.Numbers(names...) {
		out[nr] = byName[name]
	}
	return out
})

func find(n *notification) *handler {
	return handlersByNumber()[seccomp.Number{Arch: n.arch, Nr: uint32(n.nr)}]
}
