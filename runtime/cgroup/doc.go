// SPDX-License-Identifier: Apache-2.0

// Package cgroup makes, limits, watches and removes the control groups of one
// container, on cgroup v1, v2 and the hybrid of both, by writing to cgroupfs
// itself or through systemd.
//
// A container has one path, and a directory of that path in every mounted
// hierarchy. [Create] makes the directories and writes the limits before any
// process is inside; a process then joins by writing "0" to the v1 tasks
// files ([Cgroup.JoinFiles]) and by being cloned into the v2 directory
// ([Cgroup.UnifiedFD]).
//
// # Delegation
//
// A system container manages its own sub-cgroups. In the v2 hierarchy its root owns
// the directory of the container, which is the root of its cgroup namespace, and the few
// files that the kernel lists in /sys/kernel/cgroup/delegate. The host still owns the
// files with limits, so one level of directory is enough: the container can divide its
// limits but not raise them. No v1 hierarchy is delegated: v1 gives no protection there,
// and has no limit on the number of cgroups.
//
// # Removal of parents
//
// Missing directories above that of a container are made with the sticky bit (cgroupfs
// keeps this mode bit, and it changes nothing for root). The removal of the last
// container below removes them; directories without the mark belong to others and
// stay.
//
// What does not belong here: which cgroup a container gets (the caller reads annotations
// and options), spawning the processes that join, and the mounts that show cgroups
// inside the container.
package cgroup
