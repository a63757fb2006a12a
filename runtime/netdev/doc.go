// SPDX-License-Identifier: Apache-2.0

// Package netdev moves network devices of the host into the network namespace of a
// container (runtime-spec 1.3, config-linux.md, "Network Devices"), and back if Create fails.
//
// The kernel decides what happens to them afterwards: when the namespace ends, physical
// devices return to the host under a free name, and virtual devices are destroyed
// (default_device_exit_net, net/core/dev.c).
//
// What does not belong here: creating devices, and what a network plugin does (addresses,
// routes, names that others use).
package netdev
