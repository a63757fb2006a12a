// Package process writes the programs of system calls that become processes
// of a container: its init ([Init]) and further ones ([Exec]). A program is a
// plain value (package program); writing one asks nothing of the kernel, so
// the golden files in testdata are the whole truth of what a child does.
//
// Each program has two legs. The first runs in the host's namespaces with the
// host's credentials: it joins the cgroups and raises limits, then clones the
// second leg into the container. The second enters the user namespace, takes
// on the process's identity, and ends in execve.
//
// What does not belong here: running programs and answering their reports
// (package runtime), and whatever the shim does itself from outside.
package process
