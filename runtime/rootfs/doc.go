// SPDX-License-Identifier: Apache-2.0

// Package rootfs mounts a container's root file system: the overlay, the directory or the block
// device that the caller hands over, with its files shown by the container's ids. Where the
// kernel or the file system cannot shift ids, the files are chowned. It also binds directories of
// an overlay's upper layer, which is what an overlay in the container can lie on.
//
// What does not belong here: mounts below the root, which are package mount's; ids, shifted
// mounts and chown themselves, which are package uidmap's; which directories are storage, which
// package plan decides.
package rootfs
