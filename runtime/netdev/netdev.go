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

// Moved are devices that a container has got from the host.
type Moved struct {
	host, there *side
	devices     []device
}

// device is one that was moved: its index in the container's namespace, its name on the
// host, and whether it was up there.
type device struct {
	index int32
	name  string
	up    bool
}

// Settle is called with what became of the container: after an error the host gets the devices
// back, otherwise they are the namespace's from now on. It closes m, which may be nil.
func (m *Moved) Settle(err error) error {
	if m == nil {
		return err
	}
	defer m.Close()
	if err != nil {
		err = errors.Join(err, m.Back())
	}
	return err
}

// Move moves devices from the network namespace of the calling thread, which must be
// locked, to the one that ns is. Each keeps its permanent addresses of global scope, and
// is up afterwards. After an error all are back. The caller settles what it gets; it is nil for
// no device.
func Move(ns *os.File, devices []plan.NetDevice) (_ *Moved, err error) {
	if len(devices) == 0 {
		return nil, nil
	}
	m := &Moved{}
	defer func() {
		if err != nil {
			err = errors.Join(err, m.Back())
			m.Close()
		}
	}()
	own, err := os.Open("/proc/thread-self/ns/net")
	if err != nil {
		return nil, err
	}
	if m.host, err = openSide(own); err != nil {
		return nil, err
	}
	fd, err := unix.FcntlInt(ns.Fd(), unix.F_DUPFD_CLOEXEC, 0)
	if err != nil {
		return nil, os.NewSyscallError("fcntl(F_DUPFD_CLOEXEC)", err)
	}
	if m.there, err = openSide(os.NewFile(uintptr(fd), ns.Name())); err != nil {
		return nil, err
	}
	for _, d := range devices {
		if err := m.one(d); err != nil {
			return nil, err
		}
	}
	return m, nil
}

func (m *Moved) one(d plan.NetDevice) error {
	index, up, err := m.host.find(d.Host)
	switch {
	case errors.Is(err, unix.ENODEV):
		return fmt.Errorf(`linux.netDevices is %q: the host has no such network device; give the name of one, as "ip link" shows it`, d.Host)
	case err != nil:
		return fmt.Errorf("linux.netDevices: look for %s: %w", d.Host, err)
	}
	addresses, err := m.host.addresses(index)
	if err != nil {
		return fmt.Errorf("linux.netDevices: list the addresses of %s: %w", d.Host, err)
	}
	there, err := m.host.give(index, m.there)
	if err != nil {
		return fmt.Errorf("linux.netDevices is %q: it cannot leave the host's network namespace: %w; give a device that can (lo cannot, for instance)", d.Host, err)
	}
	m.devices = append(m.devices, device{there, d.Host, up})
	err = m.there.settle(there, d.Name, addresses, true)
	if errors.Is(err, unix.EEXIST) {
		return fmt.Errorf("linux.netDevices.%s.name is %q: the container's network namespace has a device of this name; give another, or one with %%d for a free number", d.Host, d.Name)
	}
	if err != nil {
		return fmt.Errorf("linux.netDevices: set up %s as %s in the container: %w", d.Host, d.Name, err)
	}
	return nil
}

// Back moves the devices back to the host, with their names and addresses, and up if they
// were: for a container that is not to be after all.
func (m *Moved) Back() error {
	var errs []error
	for ; len(m.devices) > 0; m.devices = m.devices[:len(m.devices)-1] {
		d := m.devices[len(m.devices)-1]
		addresses, err := m.there.addresses(d.index)
		var index int32
		if err == nil {
			index, err = m.there.give(d.index, m.host)
		}
		if err == nil {
			err = m.host.settle(index, d.name, addresses, d.up)
		}
		if err != nil {
			errs = append(errs, fmt.Errorf("linux.netDevices: give %s back to the host: %w; if the host lacks it, make it anew", d.name, err))
		}
	}
	return errors.Join(errs...)
}

// Close lets go of the namespaces; the devices stay where they are.
func (m *Moved) Close() {
	for _, s := range []*side{m.host, m.there} {
		if s != nil {
			s.close()
		}
	}
}

// find tells the index of a device, and whether it is up.
func (s *side) find(name string) (index int32, up bool, err error) {
	list, err := s.ask(unix.RTM_GETLINK, unix.NLM_F_ACK, info(0, 0, 0), text(unix.IFLA_IFNAME, name))
	if err != nil || len(list) == 0 || len(list[0].Data) < unix.SizeofIfInfomsg {
		return 0, false, errors.Join(err, unix.ENODEV)
	}
	b := list[0].Data
	return int32(binary.NativeEndian.Uint32(b[4:])), binary.NativeEndian.Uint32(b[8:])&unix.IFF_UP != 0, nil
}

// give moves a device to another namespace and returns its index there, under a name that
// nobody else has: its own may be taken.
func (s *side) give(index int32, to *side) (int32, error) {
	var b [6]byte
	if _, err := rand.Read(b[:]); err != nil {
		return 0, err
	}
	name := "sbx" + hex.EncodeToString(b[:])
	if _, err := s.ask(unix.RTM_NEWLINK, unix.NLM_F_ACK, info(index, 0, 0),
		number(unix.IFLA_NET_NS_FD, uint32(to.ns.Fd())), text(unix.IFLA_IFNAME, name)); err != nil {
		return 0, err
	}
	there, _, err := to.find(name)
	return there, err
}

// settle gives a device its name and addresses, and sets it up.
func (s *side) settle(index int32, name string, addresses [][]byte, up bool) error {
	if _, err := s.ask(unix.RTM_NEWLINK, unix.NLM_F_ACK, info(index, 0, 0), text(unix.IFLA_IFNAME, name)); err != nil {
		return err
	}
	for _, a := range addresses {
		binary.NativeEndian.PutUint32(a[4:], uint32(index))
		if _, err := s.ask(unix.RTM_NEWADDR, unix.NLM_F_ACK|unix.NLM_F_CREATE|unix.NLM_F_REPLACE, a); err != nil {
			return fmt.Errorf("add an address: %w", err)
		}
	}
	if !up {
		return nil
	}
	_, err := s.ask(unix.RTM_NEWLINK, unix.NLM_F_ACK, info(index, unix.IFF_UP, unix.IFF_UP))
	return err
}

// keptFlags are the flags of an address that are its owner's; the kernel makes the others.
const keptFlags = unix.IFA_F_NODAD | unix.IFA_F_HOMEADDRESS | unix.IFA_F_NOPREFIXROUTE | unix.IFA_F_MANAGETEMPADDR

// addresses are those of a device that the specification has kept, permanent and of
// global scope, each as the message that adds it again.
func (s *side) addresses(index int32) ([][]byte, error) {
	var list []syscall.NetlinkMessage
	err := error(unix.EAGAIN)
	for range 10 {
		if list, err = s.ask(unix.RTM_GETADDR, unix.NLM_F_DUMP, make([]byte, unix.SizeofIfAddrmsg)); err != unix.EAGAIN {
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
