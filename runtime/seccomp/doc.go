// Package seccomp compiles the seccomp profile of an OCI spec to a filter of
// classic BPF, without libseccomp, and widens the profile of a system
// container.
//
// Where entries of a profile for one call disagree, the first unconditional one is
// the call's, as with libseccomp; of conditional ones that hold the strictest
// action wins, for which libseccomp has no rule that could be told.
//
// What does not belong here: installing filters (package process writes the
// call, package sys has one for threads) and answering notifications.
package seccomp
