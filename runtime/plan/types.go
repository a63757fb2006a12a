package plan

import (
	"github.com/opencontainers/runtime-spec/specs-go"

	"sysbox/uidmap"
)

// Plan is all that will be done for one container, as a plain value: it can be
// printed, compared with a golden file, and read by an auditor. Nothing in it
// was asked of the kernel except what [Facts] carried in.
type Plan struct {
	Namespace string // containerd's namespace
	ID        string
	Bundle    string

	// System tells a system container (sysbox.md: extra mounts, capabilities,
	// lifted masks) from a hardened ordinary one (SYSBOX_SYSCONT_MODE=FALSE).
	System bool
	// HonorCaps keeps the spec's capabilities in a system container, for its
	// init and for every process executed later.
	HonorCaps bool
	// LiftNoNewPrivs leaves no_new_privs of the spec out of a system container, for its init
	// and for every process executed later.
	LiftNoNewPrivs bool `json:",omitempty"`
	// Systemd is true if process.args[0] is a usual path of systemd's.
	Systemd bool

	IDs        IDs
	Namespaces Namespaces
	// NetDevices are the host's network devices that the container gets, by their names.
	NetDevices []NetDevice `json:",omitempty"`
	Rootfs     Rootfs
	Devices    []Device
	// Mounts in the order of their making; those with Own are made by the
	// container's init, after the others were locked.
	Mounts []Mount
	// MountLabel is the SELinux label of what is mounted for the container; "" for none.
	MountLabel string `json:",omitempty"`
	// Masked and Readonly are clean absolute paths in the container, in the
	// spec's order, without those lifted.
	Masked   []string
	Readonly []string
	// RevealProc asks for the hidden, complete pair of proc and sysfs that
	// lets nested user namespaces mount their own (kernel: mount_too_revealing).
	RevealProc bool
	Storage    []Storage

	Hostname   string
	Domainname string
	Sysctl     []Setting // sorted by name, "net.ipv4.ip_forward" form
	Cgroup     Cgroup
	Process    Process
	// ExecCPUs are the affinity of processes executed later whose own spec says
	// nothing of it.
	ExecCPUs ExecCPUs
	Seccomp  *specs.LinuxSeccomp // widened; nil: no filter
	Hooks    *specs.Hooks
	// State's annotations and version for hooks.
	Annotations map[string]string
	OCIVersion  string

	// Notes are sentences for the log: what was changed or left out and why.
	Notes []string

	// skipShift are destinations whose binds keep the host's ids; its effect is
	// in Mounts.
	skipShift []string
	// skipField is the spec's field that names them, "" if the configuration does.
	skipField string
}

// IDSource says where the container's user namespace and ids come from.
type IDSource string

const (
	// IDsAllocate: a range of the pod's own, allocated by this runtime. UID
	// and GID are empty in the plan and filled in by the runtime.
	IDsAllocate IDSource = "allocate"
	// IDsSpec: a new user namespace with the mappings of the spec; the caller
	// has prepared the rootfs for them.
	IDsSpec IDSource = "spec"
	// IDsJoin: the user namespace at Namespaces.User.Path; UID and GID are the
	// spec's mappings if it has any, else read from that namespace.
	IDsJoin IDSource = "join"
)

// IDs are the container's id mappings.
type IDs struct {
	Source   IDSource
	UID, GID uidmap.Map
	// ShiftRootfs: the runtime must shift the rootfs itself (idmapped layers);
	// false where the caller prepared it.
	ShiftRootfs bool
}

// NamespaceMode is how one namespace is come by.
type NamespaceMode string

const (
	// NamespaceNew makes a new one.
	NamespaceNew NamespaceMode = "new"
	// NamespaceJoin joins the one at Path.
	NamespaceJoin NamespaceMode = "join"
	// NamespaceHost stays in the shim's (only where that breaks no isolation: time).
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
	// Mounts given in Create; empty: Path already holds the root.
	Mounts []RootfsMount
	// Readonly remounts it read-only at the end.
	Readonly bool
	// Propagation of the container's / : unix.MS_PRIVATE, MS_SLAVE, MS_UNBINDABLE
	// with MS_REC; 0 is the default (slave of the host's, recursively private
	// towards it).
	Propagation uintptr
}

// RootfsMount is one of the mounts given in Create, in order.
type RootfsMount struct {
	Type, Source, Target string
	Options              []string
}

// Device is a node of /dev (or elsewhere) that is made by the host.
type Device struct {
	Path         string // clean absolute path in the container
	Type         string // "c", "b", "p"
	Major, Minor uint32
	Mode         uint32 // permission bits
	UID, GID     uint32 // in the container
	// Optional: left out without an error where the host lacks the device
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
	// RecClear the ones for the whole tree (rro, rnosuid, …; mount_setattr with
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
	// Own: made by the container's init and so not locked by the kernel.
	Own bool
	// Links says what of a bind is done to symbolic links themselves.
	Links Links
	// CopyUp: a tmpfs that is filled with what the image has there (tmpcopyup).
	CopyUp bool
	// Optional: left out without an error where the source or the kernel lacks it.
	Optional bool
	// Origin says who asked: "spec", or the rule of this project that added it.
	Origin string
}

// Links are the options of a bind that do not follow a symbolic link.
type Links struct {
	// Copy makes a link such as the source instead of a mount, if that is one.
	Copy bool
	// Source and Destination mount the link, or on the link.
	Source, Destination bool
}

// IDMapMode is how a bind's ids are shifted.
type IDMapMode string

const (
	// IDMapNone leaves ids as they are on the host.
	IDMapNone IDMapMode = ""
	// IDMapContainer shifts by the container's own mapping, unless the source
	// already belongs to the range.
	IDMapContainer IDMapMode = "container"
	// IDMapExplicit shifts by the mount's own mapping ("idmap", uidMappings).
	IDMapExplicit IDMapMode = "explicit"
	// IDMapExplicitRecursive is the same for the whole tree ("ridmap").
	IDMapExplicitRecursive IDMapMode = "explicit-recursive"
)

// Storage is a folder that cannot live on overlayfs and gets one of its own on
// the host, which follows the container's life.
type Storage struct {
	Path string // in the container
	Mode uint32
}

// Setting is a name and a value.
type Setting struct{ Name, Value string }

// Cgroup says where the container's processes are counted and limited.
type Cgroup struct {
	Path      string // linux.cgroupsPath as given, "" for the default
	Resources *specs.LinuxResources
	// Delegate gives the cgroup to the container's root.
	Delegate bool
}

// Capabilities are the five sets as bit masks (1 << CAP_*).
type Capabilities struct {
	Bounding, Effective, Inheritable, Permitted, Ambient uint64
}

// Process is a process to be executed in the container: its init or another.
type Process struct {
	Args, Env []string
	// Program is the file that is executed where that is not Args[0]: a hook's.
	Program  string `json:",omitempty"`
	Cwd      string
	Terminal bool
	// Width and Height of the terminal in characters; 0: the kernel's default.
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
	// CPUs are those that it may run on, where it is not init.
	CPUs ExecCPUs

	// Notes are sentences for the log, as in [Plan]; [Make] moves those of init
	// there.
	Notes []string
}

// ExecCPUs are runtime-spec's execCPUAffinity as sorted lists of numbers: Initial
// before the process is in the container's cgroup, Final from then on. Empty: as
// inherited.
type ExecCPUs struct{ Initial, Final []int }

// Rlimit is one limit: Type is RLIMIT_*'s number.
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

// Facts are what a plan may depend on besides the spec; gathered by the caller.
type Facts struct {
	// KernelRelease as uname -r tells it, for /lib/modules/RELEASE.
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
	// HostDirs has the optional host folders that exist, by path:
	// /lib/modules/RELEASE, /usr/src/linux-headers-RELEASE.
	HostDirs map[string]bool
	// OnlineCPUs for the check of affinity lists.
	OnlineCPUs int
}

// Input is all that [Make] looks at.
type Input struct {
	Namespace, ID, Bundle string
	Spec                  *specs.Spec
	RootfsMounts          []RootfsMount
	Terminal              bool
	Facts                 Facts
	// PodIDs is true if the pod already has a user namespace and ids: a
	// container without a user namespace of its own then joins them.
	PodIDs bool
	// AllowHostRoot lets mappings of the spec have the host's root.
	AllowHostRoot bool
	// Settings is what the administrator says of variables and annotations.
	Settings Policy
	// BlockDevices are those that a container may be given.
	BlockDevices map[DeviceNumber]bool
	// WidenSeccomp turns a caller's profile into one for a system container
	// (package seccomp). It must be pure. nil leaves profiles as they are.
	WidenSeccomp func(*specs.LinuxSeccomp) *specs.LinuxSeccomp
}
