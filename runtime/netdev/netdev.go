// SPDX-License-Identifier: Apache-2.0

package netdev

import (
	"crypto/rand"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"syscall"

	"golang.org/x/sys/unix"

	"sysbox/runtime/plan"
)

// Transfer is a move of devices from the host to a container, which can be undone.
type Transfer struct {
	host, container *netns
	devices         []device
}

// device is a device that was moved: its index in the container's namespace, its name on the
// host, and whether it was up there.
type device struct {
	index int32
	name  string
	up    bool
}

// Finish ends the transfer with the outcome of the Create: after an error the host gets the
// devices back, otherwise they stay in the container. It closes t, which may be nil, and
// returns err joined with its own errors.
func (t *Transfer) Finish(err error) error {
	if t == nil {
		return err
	}
	defer t.Close()
	if err != nil {
		err = errors.Join(err, t.Rollback())
	}
	return err
}

// Move moves devices from the network namespace of the calling thread, which must be
// locked, to the namespace ns. Each keeps its permanent addresses of global scope and is set
// up. After an error all devices are back on the host. The caller must call Finish; the result
// is nil if there are no devices.
func Move(ns *os.File, devices []plan.NetDevice) (_ *Transfer, err error) {
	if len(devices) == 0 {
		return nil, nil
	}
	t := &Transfer{}
	defer func() {
		if err != nil {
			err = errors.Join(err, t.Rollback())
			t.Close()
		}
	}()
	own, err := os.Open("/proc/thread-self/ns/net")
	if err != nil {
		return nil, err
	}
	if t.host, err = openNetns(own); err != nil {
		return nil, err
	}
	fd, err := unix.FcntlInt(ns.Fd(), unix.F_DUPFD_CLOEXEC, 0)
	if err != nil {
		return nil, os.NewSyscallError("fcntl(F_DUPFD_CLOEXEC)", err)
	}
	if t.container, err = openNetns(os.NewFile(uintptr(fd), ns.Name())); err != nil {
		return nil, err
	}
	for _, d := range devices {
		if err := t.one(d); err != nil {
			return nil, err
		}
	}
	return t, nil
}

func (t *Transfer) one(d plan.NetDevice) error {
	index, up, err := t.host.find(d.Host)
	switch {
	case errors.Is(err, unix.ENODEV):
		return fmt.Errorf(`linux.netDevices is %q: the host has no such network device; use a name as shown by "ip link"`, d.Host)
	case err != nil:
		return fmt.Errorf("linux.netDevices: look for %s: %w", d.Host, err)
	}
	addresses, err := t.host.addresses(index)
	if err != nil {
		return fmt.Errorf("linux.netDevices: list the addresses of %s: %w", d.Host, err)
	}
	moved, err := t.host.give(index, t.container)
	if err != nil {
		return fmt.Errorf("linux.netDevices is %q: it cannot be moved to another network namespace: %w; use another device (lo, for example, always stays)", d.Host, err)
	}
	t.devices = append(t.devices, device{moved, d.Host, up})
	err = t.container.configure(moved, d.Name, addresses, true)
	if errors.Is(err, unix.EEXIST) {
		return fmt.Errorf("linux.netDevices.%s.name is %q: the network namespace of the container already has a device of this name; use another name, or one with %%d for a free number", d.Host, d.Name)
	}
	if err != nil {
		return fmt.Errorf("linux.netDevices: configure %s as %s in the container: %w", d.Host, d.Name, err)
	}
	return nil
}

// Rollback moves the devices back to the host, with their names and addresses, and up if they
// were up.
func (t *Transfer) Rollback() error {
	var errs []error
	for ; len(t.devices) > 0; t.devices = t.devices[:len(t.devices)-1] {
		d := t.devices[len(t.devices)-1]
		addresses, err := t.container.addresses(d.index)
		var index int32
		if err == nil {
			index, err = t.container.give(d.index, t.host)
		}
		if err == nil {
			err = t.host.configure(index, d.name, addresses, d.up)
		}
		if err != nil {
			errs = append(errs, fmt.Errorf("linux.netDevices: move %s back to the host: %w; if the host lacks it, create it again", d.name, err))
		}
	}
	return errors.Join(errs...)
}

// Close closes the namespaces; the devices stay where they are.
func (t *Transfer) Close() {
	for _, s := range []*netns{t.host, t.container} {
		if s != nil {
			s.close()
		}
	}
}

// find returns the index of a device, and whether it is up.
func (s *netns) find(name string) (index int32, up bool, err error) {
	list, err := s.request(unix.RTM_GETLINK, unix.NLM_F_ACK, info(0, 0, 0), text(unix.IFLA_IFNAME, name))
	if err != nil || len(list) == 0 || len(list[0].Data) < unix.SizeofIfInfomsg {
		return 0, false, errors.Join(err, unix.ENODEV)
	}
	b := list[0].Data
	return int32(binary.NativeEndian.Uint32(b[4:])), binary.NativeEndian.Uint32(b[8:])&unix.IFF_UP != 0, nil
}

// give moves a device to another namespace and returns its index there. It also gives the
// device a random name, since its own may be taken there.
func (s *netns) give(index int32, to *netns) (int32, error) {
	var b [6]byte
	if _, err := rand.Read(b[:]); err != nil {
		return 0, err
	}
	name := "sbx" + hex.EncodeToString(b[:])
	if _, err := s.request(unix.RTM_NEWLINK, unix.NLM_F_ACK, info(index, 0, 0),
		number(unix.IFLA_NET_NS_FD, uint32(to.ns.Fd())), text(unix.IFLA_IFNAME, name)); err != nil {
		return 0, err
	}
	moved, _, err := to.find(name)
	return moved, err
}

// configure sets the name and addresses of a device, and brings it up if up is set.
func (s *netns) configure(index int32, name string, addresses [][]byte, up bool) error {
	if _, err := s.request(unix.RTM_NEWLINK, unix.NLM_F_ACK, info(index, 0, 0), text(unix.IFLA_IFNAME, name)); err != nil {
		return err
	}
	for _, a := range addresses {
		binary.NativeEndian.PutUint32(a[4:], uint32(index))
		if _, err := s.request(unix.RTM_NEWADDR, unix.NLM_F_ACK|unix.NLM_F_CREATE|unix.NLM_F_REPLACE, a); err != nil {
			return fmt.Errorf("add an address: %w", err)
		}
	}
	if !up {
		return nil
	}
	_, err := s.request(unix.RTM_NEWLINK, unix.NLM_F_ACK, info(index, unix.IFF_UP, unix.IFF_UP))
	return err
}

// keptFlags are the flags of an address that its creator chooses; the kernel sets the others.
const keptFlags = unix.IFA_F_NODAD | unix.IFA_F_HOMEADDRESS | unix.IFA_F_NOPREFIXROUTE | unix.IFA_F_MANAGETEMPADDR

// addresses returns the addresses that the specification keeps: permanent ones of global
// scope. Each is the message that adds it again.
func (s *netns) addresses(index int32) ([][]byte, error) {
	var list []syscall.NetlinkMessage
	err := error(unix.EAGAIN)
	for range 10 {
		if list, err = s.request(unix.RTM_GETADDR, unix.NLM_F_DUMP, make([]byte, unix.SizeofIfAddrmsg)); err != unix.EAGAIN {
			break
		}
	}
	if err != nil {
		return nil, err
	}
	var out [][]byte
	for _, m := range list {
		if len(m.Data) < unix.SizeofIfAddrmsg || int32(binary.NativeEndian.Uint32(m.Data[4:])) != index {
			continue
		}
		attrs, err := attributes(m)
		if err != nil {
			return nil, err
		}
		flags := uint32(m.Data[2])
		if f := attrs[unix.IFA_FLAGS]; len(f) == 4 {
			flags = binary.NativeEndian.Uint32(f)
		}
		if scope := m.Data[3]; flags&unix.IFA_F_PERMANENT == 0 || scope != unix.RT_SCOPE_UNIVERSE {
			continue
		}
		a := append([]byte(nil), m.Data[:unix.SizeofIfAddrmsg]...)
		a[2] = 0
		a = append(a, number(unix.IFA_FLAGS, flags&keptFlags)...)
		for _, kind := range []uint16{unix.IFA_LOCAL, unix.IFA_ADDRESS, unix.IFA_BROADCAST, unix.IFA_RT_PRIORITY} {
			if v, ok := attrs[kind]; ok {
				a = append(a, attr(kind, v)...)
			}
		}
		out = append(out, a)
	}
	return out, nil
}
