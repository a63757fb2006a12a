// Package mirror shows a caller that has mounted a container's root itself (Docker) the
// root that the container has.
//
// An overlay cannot be idmapped, so the container has a second one over the caller's
// layers. What is written through one of two overlays over the same upper layer damages
// the other: it has looked names up, and believes what it found. So the caller must not
// write through its own while the container runs. A mirror is a FUSE file system that is
// mounted over the caller's overlay. It passes each call on to the container's overlay,
// with the ids translated: the caller sees 0 where the container does. The kernel is told
// to keep nothing of it, neither names nor attributes nor content, as the container
// changes them.
//
// The container's own mounts are not reached: the mirror works on a mount of the root
// alone. Every name is looked up beneath it, without following a link. The container can
// make a call wait, by holding a lock of a file in the kernel; the caller gets ETIMEDOUT
// then, and the thread is left behind until the container's processes end.
//
// What does not belong here: the decision who gets a mirror, and the making of the
// container's root (package uidmap).
package mirror
