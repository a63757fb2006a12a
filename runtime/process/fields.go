// SPDX-License-Identifier: Apache-2.0

package process

// Fields of the spec for which a step of a program can fail, as in program.Call. The shim says
// what the user can do about each.
const (
	FieldArgs         = "process.args" // the value is a path at which args[0] could be
	FieldCwd          = "process.cwd"
	FieldRlimits      = "process.rlimits" // the value is the name of the limit
	FieldOOMScoreAdj  = "process.oomScoreAdj"
	FieldScheduler    = "process.scheduler"
	FieldIOPriority   = "process.ioPriority"
	FieldMemoryPolicy = "linux.memoryPolicy"
)
