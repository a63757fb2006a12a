// SPDX-License-Identifier: Apache-2.0

// Package mirror shows the root of a container to a caller that has mounted that root itself
// (Docker).
//
// An overlay cannot be idmapped, so the container has a second overlay over the layers of
// the caller. A write through one of two overlays over the same upper layer damages the
// other, which has looked up names and relies on what it found. So the caller must not write
// through its overlay while the container runs. A mirror is a FUSE file system mounted over
// the overlay of the caller. It passes each call on to the overlay of the container and
// translates ids: the caller sees 0 where the container does. It tells the kernel not to cache
// names, attributes or content, since the container changes them.
//
// The mounts of the container are not reachable: the mirror works on a mount of the root
// alone, and looks up every name beneath it without following a link. The container can delay
// a call by holding a lock of a file in the kernel; then the caller gets ETIMEDOUT, and the
// thread stays blocked until the processes of the container exit.
//
// What does not belong here: the decision which caller gets a mirror, and the making of the
// container's root (package rootfs).
package mirror
