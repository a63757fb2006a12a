// SPDX-License-Identifier: Apache-2.0

//go:build cgo

// This file lets cgo.go declare a function that has no body.
