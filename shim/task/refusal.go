package task

import (
	"errors"

	"sysbox/runtime/plan"
)

func init() {
	isRefusal = func(err error) bool {
		var r *plan.Refusal
		return errors.As(err, &r)
	}
}
