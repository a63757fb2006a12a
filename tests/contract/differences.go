// SPDX-License-Identifier: Apache-2.0

package contract

// A difference is what is seen otherwise with our shim than with containerd's for runc.
type difference struct {
	// test and field name what is seen: a case, or all whose names begin so ("killed at *"),
	// and a field, or some ("pause | resume").
	test, field string
	// forms are the callers with whom it is so, separated by spaces; "": all.
	forms        string
	theirs, ours string
	why          string
}

const (
	byCode     = "the code says why: callers need not read the sentence"
	recorded   = "the shim of 1.7 does not record how init ended; 2.4.2's does, as ours"
	deadSocket = "runc's delete leaves a dead shim's socket"
	noRuntime  = "the shim of 1.7 wants a file that its Create has written; 2.4.2's does not, as ours"
)

// differences are all that there are: a test fails for one that is not here, and for one
// that is here and is not seen.
var differences = []difference{
	// start
	{"start: its answer", "extensions", "new", "[]", "[containerd.types.MountCapabilities]", "an empty one spares containerd a run of -info before the first Create"},
	{"start: its answer", "address file", "new", "false", "true", "one shim serves both protocols, and CRI-O comes back by this file"},
	{"start: a pod's containers", "left on the host", "new", "socket", "", "runc's shim looks for its socket under its own container's name, not the pod's"},
	{"start: groups by annotation", "io.kubernetes.cri-o.SandboxID", "", "false", "true", "CRI-O's pods have one shim each, as containerd's have"},
	{"start: groups by annotation", "left on the host", "new", "socket", "", "runc's shim looks for its socket under its own container's name, not the group's"},
	{"start: what is wrong", "no config.json", "", "false", "true", "a sandbox that the shim itself is to make (sandboxer = \"shim\") has none"},
	{"start: the daemon", "in the bundle", "", "true", "false", "it holds no folder that is to be removed"},
	{"start: the daemon", "session of its own", "", "false", "true", "what ends the caller's session does not end it"},
	{"info", "name", "new", "io.containerd.runc.v2", "io.containerd.sysbox.v1", "the runtime's name"},
	{"info", "of other options", "new", "false", "true", "containerd runs -info with whatever options its Create has; they change nothing"},

	// The life of a container
	{"a whole life", "delete action", "old crio", "137, 137", "5, 5", recorded},
	{"a whole life", "files in the bundle", "new", "[exit.json init.pid log.json options.json runtime s]", "[address exit.json init.pid sysbox.dirs]", "there is no runc whose options, log and name were to be kept; sysbox.dirs names the directories that delete goes by"},
	{"a whole life", "files in the bundle", "old crio", "[address init.pid log.json options.json runtime]", "[address exit.json init.pid sysbox.dirs]", "there is no runc whose options, log and name were to be kept; sysbox.dirs names the directories that delete goes by"},
	{"unknown containers and processes", "checkpoint", "", "NotFound", "Unimplemented", "it is not implemented for any container"},
	{"unknown containers and processes", "close of an unknown process", "", "Unknown", "NotFound", byCode},
	{"calls in the wrong state", "pause when created | pause when paused | pause when stopped | resume when created | resume when running | resume when stopped | start when running | start when stopped | delete when running | delete when paused | add when stopped | update when stopped", "", "Unknown", "FailedPrecondition", byCode},
	{"calls in the wrong state", "create when created", "", "Unknown", "AlreadyExists", byCode},
	{"calls in the wrong state", "a signal that there is not", "", "Unknown", "InvalidArgument", byCode},
	{"calls in the wrong state", "add when paused", "", "Unknown", "ok", "an exec may be noted in a paused container; it cannot be started there"},
	{"what is not supported", "checkpoint", "", "Unknown", "Unimplemented", "criu is not there for runc, and checkpoints are not implemented here"},
	{"what is not supported", "restore", "", "ok", "InvalidArgument", "is refused before anything is made, where runc fails at Start"},
	{"create: options", "another binary", "", "ok", "InvalidArgument", "this runtime has no other binary: an option that would mean nothing is refused"},
	{"create: options", "no new keyring", "", "ok", "InvalidArgument", "the container's keyring is its own: without one it would have the host's"},
	{"create: options", "of an unknown type", "", "Unknown", "InvalidArgument", byCode},

	// Processes
	{"an exec of no program", "wait", "", "false", "true", "an exec whose start has failed has not succeeded: its status is 255, not 0"},
	{"an exec of no program", "kill", "", "FailedPrecondition", "NotFound", "it has ended, as Wait says"},
	{"kill of all", "the exec", "", "137", "143", "all processes get the signal; runc 1.2 and newer sends init alone any other than SIGKILL"},
	{"delete of what was not started", "delete", "", "0", "137", "init was killed, and its status says so"},
	{"delete: an exec twice", "of one that runs", "", "Unknown", "FailedPrecondition", byCode},

	{"before the start of an exec", "stdin has", "", "\"got a line\\nend\\n\"", "\"end\\n\"", "runc's shim forgets a CloseIO that comes before Start, after which a process waits for input without an end"},
	{"delete during the start of an exec", "delete", "", "Unknown", "FailedPrecondition", byCode},
	{"after the exit", "exec: resize | init: resize", "", "Unknown", "FailedPrecondition", byCode},

	// Streams
	{"streams: stdout alone", "create", "", "Unknown", "ok", "a stream that is not named is /dev/null, each by itself"},
	{"streams: stdout alone", "stdout", "", "(not seen)", "\"to stdout\\n\"", "the same"},
	{"streams: a URI of FIFOs", "create", "", "Unknown", "ok", "fifo:// is a scheme of containerd's, which its shim for runc takes for a part of the path"},
	{"streams: a URI of FIFOs", "stdout", "", "(not seen)", "\"to stdout\\n\"", "the same"},
	{"streams: a URI of FIFOs", "stderr", "", "(not seen)", "\"to stderr\\n\"", "the same"},
	{"streams: a logging binary of an exec", "it was told", "", "\"id e, namespace given, arguments \\n\"", "\"id box, namespace given, arguments \\n\"", "CONTAINER_ID is the container's"},
	{"streams: a logging binary that must tell that it is ready", "tells", "old crio", "Unknown", "ok", "the shim of 1.7 does not know binary-v2; 2.4.2's does, as ours"},
	{"streams: a logging binary that must tell that it is ready", "tells: stdout", "old crio", "(not seen)", "\"to stdout\\n\"", "the same"},
	{"streams: no reader comes", "create", "", "false", "true", "after three seconds the container comes first: runc's shim waits for as long as its caller"},
	{"terminal: a size that cannot be", "resize", "", "ok", "InvalidArgument", "65,535 is the largest; runc's shim takes the number modulo 65,536"},

	// Removal
	{"delete action: of what was never created", "answer", "old crio", "failed, failed", "137, 137", noRuntime},
	{"delete action: of an empty bundle", "answer", "old crio", "failed, failed", "137, 137", noRuntime},
	{"delete action: after an exit that nobody asked for", "answer", "old crio", "137, 137", "5, 5", recorded},
	{"delete action: while the shim lives", "the shim ends by itself", "", "false", "true", "a caller that could not reach it has given it up, and will not ask it to"},
	{"delete action: after an exit that nobody asked for", "left on the host", "", "socket", "", deadSocket},
	{"delete action: two at once", "left on the host", "", "socket", "", deadSocket},
	{"delete action: a pod's containers at once", "left on the host", "", "socket", "", deadSocket},
	{"killed at *", "left on the host", "", "socket", "", deadSocket},
	{"killed at Delete", "answers of the delete action", "old", "137, 137", "5, 5", recorded},
	{"killed, and started anew without the delete action", "create", "", "false", "true", "CRI-O never calls delete: what a dead shim has left of the name is removed by the next Create"},
	{"killed, and started anew without the delete action", "start", "", "(not seen)", "ok", "the same"},
	{"killed, and started anew without the delete action", "left on the host", "crio", "cgroup of box; process of a container; runc's state of box", "", "the same"},
	{"killed while a caller waits", "left on the host", "", "socket", "", deadSocket},
}
