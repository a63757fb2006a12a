// SPDX-License-Identifier: Apache-2.0

package process

import (
	"syscall"

	"golang.org/x/sys/unix"

	"sysbox/runtime/plan"
	"sysbox/runtime/program"
)

// Keyring is a container's session keyring. A process that kept the shim's keyring would possess
// the host's keys in it, whatever its user namespace.
type Keyring struct {
	// Name is the name by which the container's other processes join the keyring.
	Name string
	// Serial is the serial number that init has reported; 0 or less for none.
	Serial int32
}

// keyringPerm lets processes of the container's root find the keyring by its name. The rest is
// the kernel's default: all rights for the possessor, and view, read and link for the owner
// (keyctl_setperm(3)).
const keyringPerm = 0x3f1b0000

// makeKeyring makes the session keyring as the container's root, so that it counts for the
// container. It fails only if the kernel has no keyrings.
func (c *calls) makeKeyring(name string) ref {
	ring := c.keyctl("make the session keyring", num(unix.KEYCTL_JOIN_SESSION_KEYRING), str(name))
	c.keyctl("make the keyring searchable", num(unix.KEYCTL_SETPERM), ring, num(keyringPerm))
	return ring
}

// labelKeys sets the label of keys that are made from here to the next execve to the label of the
// process, which otherwise could not use its own session keyring.
func (c *calls) labelKeys(p plan.Process) {
	if p.SELinuxLabel != "" {
		c.label("SELinux label of new keys", "self/attr/keycreate", p.SELinuxLabel)
	}
}

// joinKeyring joins the container's session keyring. By name, a process could find another
// keyring, which something in the container has made as a trap after init's had gone. The serial
// number shows that; then the process makes a new keyring without a name.
func (c *calls) joinKeyring(k Keyring) {
	const joined, other = "the keyring is joined", "make another keyring"
	if k.Serial > 0 {
		c.add(program.Call{
			Name: "join the session keyring", Nr: unix.SYS_KEYCTL,
			Args: []program.Arg{num(unix.KEYCTL_JOIN_SESSION_KEYRING), str(k.Name)},
			Want: program.Equals(int64(k.Serial)), OnError: other,
		})
		c.put(program.Goto(joined))
		c.mark(other)
	}
	c.keyctl("make a session keyring", num(unix.KEYCTL_JOIN_SESSION_KEYRING), num(0))
	if k.Serial > 0 {
		c.mark(joined)
	}
}

// keyctl adds a call that may fail only because the kernel has no keyrings.
func (c *calls) keyctl(name string, args ...program.Arg) ref {
	return c.add(program.Call{Name: name, Nr: unix.SYS_KEYCTL, Args: args, IgnoreError: true, Errno: syscall.ENOSYS})
}
