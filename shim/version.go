package shim

// Version is set at link time: -ldflags "-X sysbox/shim.Version=…".
var Version = "dev"

// Revision is the source's commit, set like Version.
var Revision = ""

// Name is the runtime's name in containerd, from which it derives the name of
// the binary.
const Name = "io.containerd.sysbox.v1"
