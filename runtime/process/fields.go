package process

// Fields of the specification for which a step of a program can fail, as program.Call
// has them: the shim says what the caller can do about each.
const (
	FieldArgs         = "process.args" // the value is a path at which args[0] may be
	FieldCwd          = "process.cwd"
	FieldRlimits      = "process.rlimits" // the value is the limit's name
	FieldOOMScoreAdj  = "process.oomScoreAdj"
	FieldScheduler    = "process.scheduler"
	FieldIOPriority   = "process.ioPriority"
	FieldMemoryPolicy = "linux.memoryPolicy"
)
