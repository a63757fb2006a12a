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
// A system container manages sub-cgroups of its own. It gets its directory
// and the few files the kernel lists in /sys/kernel/cgroup/delegate, in the v2
// hierarchy; the directory is the root of its cgroup namespace. The files that
// hold limits stay owned by the host, so one level of directory is enough: the
// container can divide what it has and cannot raise it. No v1 hierarchy is delegated: v1 gives no protection there, and has no
// limit on the number of cgroups.
//
// # Who removes parents
//
// Directories above a container's own that did not exist are made with the
// sticky bit set (a mode bit that cgroupfs keeps and that changes nothing for
// root). Whoever removes the last container below removes them; directories
// without the mark belong to somebody else and stay.
//
// What does not belong here: which cgroup a container gets (the caller reads
// annotations and options), spawning the processes that join, and the mounts
// that show cgroups inside the container.
package cgroup
