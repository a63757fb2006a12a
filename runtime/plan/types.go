// SPDX-License-Identifier: Apache-2.0

package plan

import (
	"github.com/opencontainers/runtime-spec/specs-go"

	"sysbox/uidmap"
)

// Plan describes all that the runtime will do for one container, as a plain value: it
// can be printed, compared with a golden file, and read by an auditor. It depends on the
// kernel only through [Facts].
type Plan struct {
	Namespace string // containerd's namespace
	ID        string
	Bundle    string

	// System distinguishes a system container (extra mounts, capabilities, lifted
	// masks) from a hardened ordinary one (SYSBOX_SYSCONT_MODE=FALSE).
	System bool
	// HonorCaps applies the capabilities of the spec to a system container, to its
	// init and to every process executed later.
	HonorCaps bool
	// LiftNoNewPrivs ignores no_new_privs of the spec in a system container, for its init
	// and for every process executed later.
	LiftNoNewPrivs bool `json:",omitempty"`
	// Systemd is true if process.args[0] is one of the usual paths of systemd.
	Systemd bool

	IDs        IDs
	Namespaces Namespaces
	// NetDevices are the network devices of the host that move to the container, by name.
	NetDevices []NetDevice `json:",omitempty"`
	Rootfs     Rootfs
	Devices    []Device
	// Mounts in the order in which they are made; the container's init makes those with
	// Own, after the others are locked.
	Mounts []Mount
	// MountLabel is the SELinux label of the mounts made for the container; "" for none.
	MountLabel string `json:",omitempty"`
	// Masked and Readonly are clean absolute paths in the container, in the order of
	// the spec, without those lifted.
	Masked   []string
	Readonly []string
	// InitMasked and InitReadonly are paths below the container's own proc and sysfs that init
	// masks and makes read-only itself, so that the mounts are not locked: no isolation rests
	// on them, and root can unmount a recursive bind of /proc or /sys. With InitReveal init also
	// makes the pair of RevealProc, which is false then.
	InitMasked   []string `json:",omitempty"`
	InitReadonly []string `json:",omitempty"`
	InitReveal   bool     `json:",omitempty"`
	// LateMasked are files of Late binds.
	LateMasked []string `json:",omitempty"`
	// RevealProc asks for the hidden, complete pair of proc and sysfs that lets
	// nested user namespaces mount their own (kernel: mount_too_revealing).
	RevealProc bool
	Storage    []Storage

	Hostname   string
	Domainname string
	Sysctl     []Setting // sorted by name, "net.ipv4.ip_forward" form
	Cgroup     Cgroup
	Process    Process
	// ExecCPUs are the affinity of processes executed later whose own spec does not set
	// it.
	ExecCPUs ExecCPUs
	Seccomp  *specs.LinuxSeccomp // widened; nil: no filter
	Hooks    *specs.Hooks
	// The annotations and the version in the state that hooks get.
	Annotations map[string]string
	OCIVersion  string

	// Warnings are sentences for the log: what was changed or left out and why.
	Warnings []string

	// skipShift are destinations whose binds keep the ids of the host; Mounts has the
	// effect.
	skipShift []string
	// skipField is the field of the spec that names them; "" for the configuration.
	skipField string
}

// IDSource says where the container's user namespace and ids come from.
type IDSource string

const (
	// IDsAllocate: a range for this pod alone, allocated by this runtime. UID
	// and GID are empty in the plan; the runtime fills them in.
	IDsAllocate IDSource = "allocate"
	// IDsSpec: a new user namespace with the mappings of the spec; the caller
	// has prepared the rootfs for them.
	IDsSpec IDSource = "spec"
	// IDsJoin: the user namespace at Namespaces.User.Path; UID and GID are the
	// mappings of the spec, or else read from that namespace.
	IDsJoin IDSource = "join"
)

// IDs are the container's id mappings.
type IDs struct {
	Source   IDSource
	UID, GID uidmap.Map
	// ShiftRootfs: the runtime must shift the rootfs itself (idmapped layers);
	// false if the caller has prepared it.
	ShiftRootfs bool
}

// NamespaceMode says how a namespace is obtained.
type NamespaceMode string

const (
	// NamespaceNew makes a new one.
	NamespaceNew NamespaceMode = "new"
	// NamespaceJoin joins the one at Path.
	NamespaceJoin NamespaceMode = "join"
	// NamespaceHost keeps the namespace of the shim (only where isolation does not need one: time).
	NamespaceHost NamespaceMode = "host"
)

// Namespace is one of the container's namespaces.
type Namespace struct {
	Mode NamespaceMode
	Path string // absolute, for join
}

// Namespaces of the container. Mount is always new.
type Namespaces struct {
	User, PID, Network, IPC, UTS, Cgroup, Time Namespace
	// TimeOffsets are for a new time namespace: clock name ("monotonic",
	// "boottime") to seconds and nanoseconds.
	TimeOffsets map[string]specs.LinuxTimeOffset
}

// Rootfs is the container's root file system.
type Rootfs struct {
	// Path is root.path made absolute (bundle-relative as the spec says).
	Path string
	// Mounts are those of Create; empty: Path already holds the root.
	Mounts []RootfsMount
	// Readonly remounts it read-only at the end.
	Readonly bool
	// Propagation of / in the container: unix.MS_PRIVATE, MS_SLAVE, MS_UNBINDABLE
	// with MS_REC, or MS_SHARED|MS_REC within the container; 0 is the default (slave of the mounts of the host, so nothing
	// propagates to the host).
	Propagation uintptr
}

// RootfsMount is one of the mounts of Create, in order.
type RootfsMount struct {
	Type, Source, Target string
	Options              []string
}

// Device is a node in /dev or elsewhere that the host side makes.
type Device struct {
	Path         string // clean absolute path in the container
	Type         string // "c", "b", "p"
	Major, Minor uint32
	Mode         uint32 // permission bits
	UID, GID     uint32 // in the container
	// Optional: skipped without an error if the host lacks the device
	// (/dev/fuse, /dev/net/tun of a system container).
	Optional bool
}

// Mount is one mount below the root.
type Mount struct {
	Destination string // clean absolute path in the container
	Type        string // "bind", "proc", "sysfs", "tmpfs", "devpts", "mqueue", "cgroup", "cgroup2", or another file system
	Source      string // bind: clean absolute path on the host
	Data        []string

	// Set and Clear are MOUNT_ATTR_* bits for the mount itself; RecSet and
	// RecClear those for the whole tree (rro, rnosuid, …; mount_setattr with
	// AT_RECURSIVE, kernel 5.12).
	Set, Clear       uint64
	RecSet, RecClear uint64
	// Recursive: rbind.
	Recursive bool
	// Propagation: MS_PRIVATE, MS_SLAVE, MS_SHARED, MS_UNBINDABLE, with MS_REC; 0: private.
	Propagation uintptr
	// IDMap of a bind.
	IDMap IDMapMode
	// UID and GID for IDMapExplicit.
	UID, GID uidmap.Map
	// Own: made by the container's init and therefore not locked by the kernel.
	Own bool
	// Links says how a bind treats symbolic links.
	Links Links
	// CopyUp: a tmpfs that starts with a copy of what the image has there (tmpcopyup).
	CopyUp bool
	// Optional: skipped without an error if the source or the kernel lacks it.
	Optional bool
	// Origin is "spec", or the rule of this project that added the mount.
	Origin string
	// Late: a bind that the host's side attaches in init's own mount namespace, so that it is
	// not locked.
	Late bool `json:",omitempty"`
	// InitSet are MOUNT_ATTR_* that init sets on a mount of the host's side, which are not
	// locked then.
	InitSet uint64 `json:",omitempty"`
}

// Links are the options of a bind that do not follow a symbolic link.
type Links struct {
	// Copy makes a copy of the source instead of a mount if the source is a link.
	Copy bool
	// Source and Destination mount the link itself, or on the link.
	Source, Destination bool
}

// IDMapMode says how the ids of a bind are shifted.
type IDMapMode string

const (
	// IDMapNone leaves ids as they are on the host.
	IDMapNone IDMapMode = ""
	// IDMapContainer shifts by the mapping of the container, unless the source
	// already belongs to the range.
	IDMapContainer IDMapMode = "container"
	// IDMapExplicit shifts by the mapping of the mount ("idmap", uidMappings).
	IDMapExplicit IDMapMode = "explicit"
	// IDMapExplicitRecursive is the same for the whole tree ("ridmap").
	IDMapExplicitRecursive IDMapMode = "explicit-recursive"
)

// Storage is a directory that cannot be on overlayfs. It gets a directory of its own on
// the host, which is removed with the container.
type Storage struct {
	Path string // in the container
	Mode uint32
}

// Setting is a sysctl: its name and value.
type Setting struct{ Name, Value string }

// Cgroup says where the processes of the container are counted and limited.
type Cgroup struct {
	Path      string // linux.cgroupsPath as given, "" for the default
	Resources *specs.LinuxResources
	// Delegate gives root of the container ownership of the cgroup.
	Delegate bool
}

// Capabilities are the five sets as bit masks (1 << CAP_*).
type Capabilities struct {
	Bounding, Effective, Inheritable, Permitted, Ambient uint64
}

// Process is a process to be executed in the container: its init or another.
type Process struct {
	Args, Env []string
	// Program is the file to execute if it is not Args[0]: that of a hook.
	Program  string `json:",omitempty"`
	Cwd      string
	Terminal bool
	// Width and Height of the terminal in characters; 0: the default of the kernel.
	Width, Height uint16

	UID, GID       uint32
	AdditionalGIDs []uint32
	Umask          *uint32

	Caps        Capabilities
	NoNewPrivs  bool
	Rlimits     []Rlimit
	OOMScoreAdj *int

	AppArmorProfile string
	SELinuxLabel    string

	Personality  *Personality
	MemoryPolicy *MemoryPolicy
	Scheduler    *Scheduler
	IOPriority   *IOPriority
	// CPUs are those that it may run on, if it is not init.
	CPUs ExecCPUs

	// Warnings are sentences for the log, as in [Plan]; [Make] moves those of init to
	// the plan.
	Warnings []string
}

// ExecCPUs are execCPUAffinity of the spec as sorted lists of numbers: Initial applies until
// the process is in the cgroup of the container, Final from then on. Empty: as
// inherited.
type ExecCPUs struct{ Initial, Final []int }

// Rlimit is one limit: Type is the number of RLIMIT_*.
type Rlimit struct {
	Type       int
	Name       string
	Soft, Hard uint64
}

// Personality is the argument of personality(2).
type Personality struct{ Value uint64 }

// MemoryPolicy is the argument of set_mempolicy(2): Mode with its MPOL_F_* flags, and
// a sorted list of nodes.
type MemoryPolicy struct {
	Mode  uint64
	Nodes []int
}

// Scheduler is the argument of sched_setattr(2).
type Scheduler struct {
	Policy                      uint32
	Flags                       uint64
	Nice                        int32
	Priority                    uint32
	Runtime, Deadline, PeriodNs uint64
}

// IOPriority is the argument of ioprio_set(2): class << 13 | level.
type IOPriority struct{ Value int }

// Facts are what a plan may depend on besides the spec; the caller gathers them.
type Facts struct {
	// KernelRelease is that of uname -r, for /lib/modules/RELEASE.
	KernelRelease string
	// CapLast is the highest capability of the kernel (cap_last_cap).
	CapLast int
	// Cgroup2 is true if the host has a cgroup2 tree at all (hybrid included),
	// Cgroup1 if it has version 1 controllers.
	Cgroup1, Cgroup2 bool
	AppArmor         bool
	SELinux          bool
	BinfmtMiscNS     bool
	Arch             string // GOARCH
	// HostDirs has the optional directories of the host that exist, by path:
	// /lib/modules/RELEASE, /usr/src/linux-headers-RELEASE.
	HostDirs map[string]bool
	// OnlineCPUs for the check of affinity lists.
	OnlineCPUs int
}

// Input is the complete input of [Make].
type Input struct {
	Namespace, ID, Bundle string
	Spec                  *specs.Spec
	RootfsMounts          []RootfsMount
	Terminal              bool
	Facts                 Facts
	// PodIDs is true if the pod already has a user namespace and ids: a
	// container without its own user namespace then joins them.
	PodIDs bool
	// AllowHostRoot allows mappings of the spec that include root of the host.
	AllowHostRoot bool
	// Settings is the administrator's policy for variables and annotations.
	Settings Policy
	// BlockDevices are those that a container may get.
	BlockDevices map[DeviceNumber]bool
	// WidenSeccomp turns the profile of a caller into one for a system container
	// (package seccomp). It must be pure. nil leaves profiles unchanged.
	WidenSeccomp func(*specs.LinuxSeccomp) *specs.LinuxSeccomp
}
