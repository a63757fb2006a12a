// Package seccomp compiles the seccomp profile of an OCI spec to a filter of
// classic BPF, without libseccomp, and widens the profile of a system
// container.
//
// What does not belong here: installing filters (package process writes the
// call, package sys has one for threads) and answering notifications.
package seccomp

//go:generate go run gen.go
