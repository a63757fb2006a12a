// SPDX-License-Identifier: Apache-2.0

package trap

import (
	"slices"
	"strconv"

	"golang.org/x/sys/unix"

	"sysbox/runtime/plan"
	"sysbox/runtime/program"
)

// defaultDevices are the devices that every machine offers to everybody, and those of terminals,
// whose nodes open only what the opener owns. A node does not grant the right to open it: the
// device cgroup does.
var defaultDevices = map[[2]uint32]bool{
	{1, 3}: true, {1, 5}: true, {1, 7}: true, {1, 8}: true, {1, 9}: true, // null zero full random urandom
	{5, 0}: true, {5, 1}: true, {5, 2}: true, // tty console ptmx
}

// privilegedDevices work within namespaces, but inner containers without privileges should not
// have them.
var privilegedDevices = map[[2]uint32]bool{
	{10, 200}: true, // net/tun
	{10, 229}: true, // fuse
}

func mknod(w *worker, c *call) response {
	return w.mknod(c, unix.AT_FDCWD, c.args[0], c.args[1], c.args[2])
}

func mknodat(w *worker, c *call) response {
	return w.mknod(c, int32(c.args[0]), c.args[1], c.args[2], c.args[3])
}

// mknod makes device nodes of a closed list for callers that have CAP_MKNOD in the container's
// first user namespace. (The kernel wants it in the host's, mknod(2).)
func (w *worker) mknod(c *call, dirfd int32, path, mode, dev uint64) response {
	s := w.server
	d := uint64(uint32(dev))
	number := [2]uint32{unix.Major(d), unix.Minor(d)}
	kind := "c"
	if mode&unix.S_IFMT == unix.S_IFBLK {
		kind = "b"
	}
	common := kind == "c" && defaultDevices[number]
	known := common || kind == "c" && privilegedDevices[number] || s.granted(kind, int64(number[0]), int64(number[1]))
	if !known || d == 0 || !s.inContainerUserns(c) {
		return pass
	}
	id, err := c.identity()
	if err != nil {
		return pass
	}
	// An inner container has CAP_MKNOD by default, and expects a device cgroup to keep it from
	// using what it makes. In a system container there is no such cgroup.
	if !id.has(capMknod) || !common && !id.has(capSysAdmin) {
		return pass
	}
	p, err := c.path(path)
	if err != nil {
		return failure(err)
	}
	dir, name, e := split(p)
	if e != 0 {
		return fail(e)
	}
	return w.makeNode(c, id, dirfd, dir, node{name: name, mode: uint32(mode & 0xffff), dev: int(d)})
}

// node is a device node to be made.
type node struct {
	name string
	mode uint32 // before the umask is applied
	dev  int
}

func (w *worker) makeNode(c *call, id *identity, dirfd int32, path string, n node) response {
	k, ok := w.walker(c, id, 1<<capMknod)
	if !ok {
		return pass
	}
	defer k.close()
	dir, err := k.walk(dirfd, path, unix.O_DIRECTORY)
	if err != nil {
		return pathFailure(err)
	}
	defer unix.Close(dir)
	st, err := cachedStat(dir)
	if err != nil {
		return pathFailure(err)
	}
	rights := uint64(1) << capMknod
	if id.has(capDACOverride) && w.server.mapped(&st) {
		rights |= 1 << capDACOverride
	}
	if !c.waits() {
		return fail(unix.EINTR)
	}
	m := nodeMaker{dir: dir, setup: asFileMaker(id, rights)}
	if !w.server.hostDevs[unix.Mkdev(st.Dev_major, st.Dev_minor)] {
		return w.boundNode(c, m, n)
	}
	if v := w.mknodIn(m, n); !v.done() {
		return v
	}
	return c.nodeResponse(dir, n.name)
}

// nodeMaker says where a node is made: in the directory dir, by a process that setup has given
// the caller's rights.
type nodeMaker struct {
	dir   int
	setup program.Program
}

// mknodIn makes a node at the place that the caller asked for.
func (w *worker) mknodIn(m nodeMaker, n node) response {
	return passEACCES(w.run(map[int]int{fdDir: m.dir}, m.setup, program.Program{n.mknod()}))
}

func (n node) mknod() program.Call {
	return step("mknod", unix.SYS_MKNODAT, num(fdDir), program.Str(n.name), num(n.mode), num(n.dev))
}

// passEACCES leaves a refusal to the kernel; see [pathFailure].
func passEACCES(v response) response {
	if v.errno == unix.EACCES {
		return pass
	}
	return v
}

// nodeResponse is the response after a file was made on one of the host's file systems. If the
// caller has gone, the file is removed. This is checked before the answer, because afterwards the
// shim must have nothing open that disturbs the caller, for example in an unmount.
func (c *caller) nodeResponse(dir int, name string) response {
	var st unix.Stat_t
	if unix.Fstatat(dir, name, &st, unix.AT_SYMLINK_NOFOLLOW) != nil || c.waits() {
		return response{}
	}
	removeFile(dir, name, &st)
	return fail(unix.EINTR)
}

// removeFile removes a file unless its name now belongs to another file.
func removeFile(dir int, name string, st *unix.Stat_t) {
	var now unix.Stat_t
	if unix.Fstatat(dir, name, &now, unix.AT_SYMLINK_NOFOLLOW) == nil && now.Ino == st.Ino && now.Dev == st.Dev {
		_ = unix.Unlinkat(dir, name, 0)
	}
}

func itoa(n int32) string { return strconv.Itoa(int(n)) }

// granted reports whether the plan has a device.
func (s *Server) granted(kind string, major, minor int64) bool {
	return slices.ContainsFunc(s.cfg.Devices, func(d plan.Device) bool {
		return d.Type == kind && int64(d.Major) == major && int64(d.Minor) == minor
	})
}
