// SPDX-License-Identifier: Apache-2.0

// Package uidmap handles the ids of containers: mappings and their arithmetic,
// ranges that belong to a single pod, and the means to make files of one range
// appear in another: idmapped mounts, and chown where the kernel or the file
// system does not support them.
//
// What does not belong here: containers, their specs and their processes
// (package runtime), and how a root file system is mounted (package rootfs).
// System calls go through runtime/sys.
package uidmap
