//go:build cgo

// This file lets cgo.go declare a function that has no body.
