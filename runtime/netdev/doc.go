// Package netdev moves network devices of the host into a container's network namespace
// (runtime-spec 1.3, config-linux.md, "Network Devices"), and back where a Create fails.
//
// What the kernel does with them afterwards is its own affair: when the namespace ends,
// physical ones go back to the host, under a name that is free there, and virtual ones are
// destroyed (default_device_exit_net, net/core/dev.c).
//
// What does not belong here: making devices, and what a network plugin does (addresses,
// routes, names that others know).
package netdev
