// SPDX-License-Identifier: Apache-2.0

package host

import (
	"errors"
	"os"

	"golang.org/x/sys/unix"

	"sysbox/runtime/plan"
)

// selinuxContext answers whether the loaded policy has what is written to it.
const selinuxContext = "/sys/fs/selinux/context"

// CheckLabel refuses a label that the host's policy does not have. The kernel itself would
// say EINVAL, of a process's only at Start. Who may not ask leaves it to the kernel.
func CheckLabel(field, label string) error {
	if label == "" {
		return nil
	}
	f, err := os.OpenFile(selinuxContext, os.O_RDWR, 0)
	if err != nil {
		return nil //nolint:nilerr // see above
	}
	defer f.Close()
	if _, err := f.WriteString(label); errors.Is(err, unix.EINVAL) {
		return &plan.ValidationError{
			Field: field, Value: label, Reason: "the SELinux policy of this host does not have it",
			Hint: "use a user, role, type and level of the policy, or load one that has them",
		}
	}
	return nil
}

// CheckLabels checks both labels of a container, that of its process and that of its mounts.
func CheckLabels(p *plan.Plan) error {
	if err := CheckLabel("process.selinuxLabel", p.Process.SELinuxLabel); err != nil {
		return err
	}
	return CheckLabel("linux.mountLabel", p.MountLabel)
}
