// Package uidmap is about the ids of containers: mappings and their
// arithmetic, ranges that belong to one pod alone, and what makes files of one
// range appear in another: idmapped mounts, and chown where the kernel or the
// file system cannot.
//
// What does not belong here: anything about containers, their specs or their
// processes, which is package runtime's; how a root file system is mounted,
// which is package rootfs's. System calls are those of runtime/sys.
package uidmap
