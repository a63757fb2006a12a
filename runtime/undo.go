// SPDX-License-Identifier: Apache-2.0

package runtime

import "context"

// undo are the steps that remove what was made of a container; the last one that was made is
// removed first.
type undo struct{ steps []func(context.Context) error }

// add adds a step. It is run until it has succeeded.
func (u *undo) add(step func(context.Context) error) { u.steps = append(u.steps, step) }

// run runs the steps that are left, up to the first that fails.
func (u *undo) run(ctx context.Context) error {
	for n := len(u.steps) - 1; n >= 0; n-- {
		if err := u.steps[n](ctx); err != nil {
			return err
		}
		u.steps = u.steps[:n]
	}
	return nil
}

// closing is a step that cannot fail.
func closing(f func()) func(context.Context) error {
	return func(context.Context) error {
		f()
		return nil
	}
}
