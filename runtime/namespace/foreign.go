// SPDX-License-Identifier: Apache-2.0

package namespace

import (
	"fmt"
	"os"

	"golang.org/x/sys/unix"

	"sysbox/runtime/plan"
	"sysbox/runtime/sys"
)

// SettleForeign gives to the host's side what init cannot do in namespaces that it joins and
// that belong to another user namespace: Docker's --ipc container:X, and pods whose namespaces
// CRI-O has made. The kernel asks for power over the namespace's owner, which the host's root
// has. It returns the ipc namespace for the mqueue file system, nil where init mounts its own.
func SettleForeign(p *plan.Plan, joins []Join) (ipc *os.File, err error) {
	var user *os.File // nil: init's own, which nothing can belong to yet
	for _, j := range joins {
		if j.Kind == unix.CLONE_NEWUSER {
			user = j.File
		}
	}
	for _, j := range joins {
		if j.Kind != unix.CLONE_NEWIPC && j.Kind != unix.CLONE_NEWUTS {
			continue
		}
		own, err := ownedBy(j.File, user)
		if err != nil {
			return nil, err
		}
		switch {
		case own:
		case j.Kind == unix.CLONE_NEWIPC:
			ipc = j.File
			err = p.ByHost("mqueue")
		default:
			err = nameHost(p, j.File)
		}
		if err != nil {
			return nil, err
		}
	}
	return ipc, nil
}

// ownedBy tells whether a namespace belongs to a user namespace.
func ownedBy(ns, user *os.File) (bool, error) {
	if user == nil {
		return false, nil
	}
	fd, err := unix.IoctlRetInt(int(ns.Fd()), unix.NS_GET_USERNS)
	if err != nil {
		return false, fmt.Errorf("linux.namespaces: look for the owner of %s: %w", ns.Name(), err)
	}
	owner := os.NewFile(uintptr(fd), "user namespace")
	defer owner.Close()
	a, err := owner.Stat()
	if err != nil {
		return false, err
	}
	b, err := user.Stat()
	return err == nil && os.SameFile(a, b), err
}

// nameHost sets the plan's host and domain name in a uts namespace, and takes them out of the
// plan.
func nameHost(p *plan.Plan, uts *os.File) error {
	if p.Hostname == "" && p.Domainname == "" {
		return nil
	}
	err := sys.Thread(func() error {
		if err := sys.Setns(uts, unix.CLONE_NEWUTS); err != nil {
			return err
		}
		if p.Hostname != "" {
			if err := unix.Sethostname([]byte(p.Hostname)); err != nil {
				return fmt.Errorf("hostname is %q: %w", p.Hostname, err)
			}
		}
		if p.Domainname != "" {
			if err := unix.Setdomainname([]byte(p.Domainname)); err != nil {
				return fmt.Errorf("domainname is %q: %w", p.Domainname, err)
			}
		}
		return nil
	})
	if err == nil {
		p.Hostname, p.Domainname = "", ""
	}
	return err
}
