// SPDX-License-Identifier: Apache-2.0

// Package runtime makes, runs and removes containers on Linux: the OCI runtime
// inside the shim. A [Pod] owns what the containers of one sandbox share (the
// id range and the user namespace); a [Container] is made from a bundle by
// [Pod.Create], which plans (package plan), applies (packages mount, process,
// cgroup) and leaves init paused just before its execve.
//
// What does not belong here: anything of containerd's (task API, events,
// stdio URIs, annotations that choose a shim), which is package shim's, and
// the arithmetic and bookkeeping of ids, which is package uidmap's.
package runtime
