// SPDX-License-Identifier: Apache-2.0

package process

import (
	"encoding/binary"
	"fmt"

	"golang.org/x/sys/unix"

	"sysbox/runtime/plan"
)

// loopback brings up lo in the network namespace in which init began, and which belongs to init's
// user namespace. That also sets 127.0.0.1 and ::1 (inetdev_event, addrconf_notify).
func (c *calls) loopback() {
	// struct ifreq: the name, then the flags in two bytes.
	var lo [40]byte
	copy(lo[:], "lo")
	binary.LittleEndian.PutUint16(lo[unix.IFNAMSIZ:], unix.IFF_UP)
	// Any socket accepts the ioctl. The kernel has unix sockets even if it has no others.
	s := c.do("open a socket", unix.SYS_SOCKET, num(unix.AF_UNIX), num(unix.SOCK_DGRAM|unix.SOCK_CLOEXEC), num(0))
	c.do("bring lo up", unix.SYS_IOCTL, s, num(unix.SIOCSIFFLAGS), bytes(lo[:]))
	c.do("close the socket", unix.SYS_CLOSE, s)
}

// pingGroups lets all groups of the container send ICMP echo requests through datagram sockets,
// as ping(8) does for ordinary users; in a new network namespace no group may. The spec's own
// value is written later and wins. The host's /proc shows the writer's namespace.
func (c *calls) pingGroups(p *plan.Plan) {
	first, last, ok := p.PingGroups()
	if !ok {
		return
	}
	value := fmt.Sprintf("%d %d", first, last)
	// If the shim itself is in a container, its /proc/sys may be read-only.
	file := c.try("open ping_group_range", unix.SYS_OPENAT, fd(FDProc), str("sys/net/ipv4/ping_group_range"), num(unix.O_WRONLY|unix.O_CLOEXEC), num(0))
	c.try("let the groups "+value+" ping", unix.SYS_WRITE, file, str(value), num(len(value)))
	c.try("close ping_group_range", unix.SYS_CLOSE, file)
}
