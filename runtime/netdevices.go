package runtime

import (
	"errors"
	"os"

	"sysbox/runtime/netdev"
)

// moveNetDevices gives the container those network devices of the host's that its spec
// names. What it returns is called with what became of Create: after an error the host
// gets them back. From then on they are the namespace's (package netdev).
func (c *Container) moveNetDevices(ns *os.File) (made func(error) error, err error) {
	if len(c.plan.NetDevices) == 0 {
		return func(err error) error { return err }, nil
	}
	moved, err := netdev.Move(ns, c.plan.NetDevices)
	if err != nil {
		return nil, err
	}
	return func(err error) error {
		defer moved.Close()
		if err != nil {
			err = errors.Join(err, moved.Back())
		}
		return err
	}, nil
}
