package task

import "sync"

// lazy is a value made when first needed; a failure is tried again.
type lazy[T any] struct {
	mu    sync.Mutex
	made  bool // guarded by mu
	value T    // guarded by mu
}

func (l *lazy[T]) get(mk func() (T, error)) (T, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.made {
		return l.value, nil
	}
	v, err := mk()
	if err == nil {
		l.value, l.made = v, true
	}
	return v, err
}

func (l *lazy[T]) peek() (T, bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.value, l.made
}
