// SPDX-License-Identifier: Apache-2.0

package task

import (
	"errors"
	"fmt"

	"github.com/containerd/errdefs"
	"github.com/containerd/errdefs/pkg/errgrpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"sysbox/runtime/plan"
	"sysbox/runtime/text"
)

// toGRPC gives an error the code by which containerd decides what to do next.
func toGRPC(err error) error {
	if err == nil {
		return nil
	}
	// A specification that cannot be honoured, rather than a failure to honour it.
	if refusal := (*plan.ValidationError)(nil); errors.As(err, &refusal) {
		return status.Error(codes.InvalidArgument, text.Line(err.Error()))
	}
	// Without the details that errgrpc adds for each further error that one wraps: callers
	// print them as lines behind the sentence, such as "invalid argument".
	s := status.Convert(errgrpc.ToGRPC(oneLine{err}))
	return status.Error(s.Code(), s.Message())
}

// oneLine wraps an error that may name files of a container. text.Line replaces what is not
// valid text: it could not be sent, and would end the connection without an answer.
type oneLine struct{ error }

func (e oneLine) Error() string { return text.Line(e.error.Error()) }
func (e oneLine) Unwrap() error { return e.error }

// asPrecondition is toGRPC for Create and Connect, with NotImplemented turned
// into FailedPrecondition: on NotImplemented containerd takes the shim for an
// old one and calls again by task v2, so a refused Create would run twice.
func asPrecondition(err error) error {
	if errdefs.IsNotImplemented(err) {
		err = fmt.Errorf("%s: %w", err.Error(), errdefs.ErrFailedPrecondition)
	}
	return toGRPC(err)
}
