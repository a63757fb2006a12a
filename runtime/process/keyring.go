package process

import (
	"syscall"

	"golang.org/x/sys/unix"

	"sysbox/runtime/plan"
	"sysbox/runtime/program"
)

// Keyring is a container's session keyring. A process that kept the shim's would
// possess the keys of the host's that are in it, whatever its user namespace.
type Keyring struct {
	// Name is by what the container's other processes join it.
	Name string
	// Serial is the one that init has told of; not above 0 for none.
	Serial int32
}

// keyringPerm lets processes of the container's root find the keyring by its name;
// besides, what the kernel gives: all to who possesses it, view, read and link to its
// owner (keyctl_setperm(3)).
const keyringPerm = 0x3f1b0000

// makeKeyring makes the session keyring, as the container's root: its users pay for
// it. It fails only where there are no keyrings at all.
func (c *calls) makeKeyring(name string) ref {
	ring := c.keyctl("make the session keyring", num(unix.KEYCTL_JOIN_SESSION_KEYRING), str(name))
	c.keyctl("let it be found", num(unix.KEYCTL_SETPERM), ring, num(keyringPerm))
	return ring
}

// labelKeys has keys that are made from here to the next execve labelled as the process
// will be, which could not use its own session keyring otherwise.
func (c *calls) labelKeys(p plan.Process) {
	if p.SELinuxLabel != "" {
		c.label("SELinux label of new keys", "self/attr/keycreate", p.SELinuxLabel)
	}
}

// joinKeyring joins the container's session keyring. By its name others are found as
// well, that something in the container has made as a trap when init's was gone: this
// is known by the number, and a new one without a name is made instead.
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

// keyctl may fail only for want of keyrings in the kernel.
func (c *calls) keyctl(name string, args ...program.Arg) ref {
	return c.add(program.Call{Name: name, Nr: unix.SYS_KEYCTL, Args: args, IgnoreError: true, Errno: syscall.ENOSYS})
}
