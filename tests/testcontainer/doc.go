// SPDX-License-Identifier: Apache-2.0

// Package testcontainer makes containers for tests, by the functions that the shim uses: pods,
// bundles, processes with pipes, functions of the test binary that run in a container (Inside),
// snapshots, and a look at what is left.
//
// A package whose tests use it has them in an external test package, and a TestMain that ends
// with os.Exit(testcontainer.Main(m)).
//
// What does not belong here: what one package's tests alone need, and judging the container,
// which is for the tests.
package testcontainer
