//go:build !linux || !(amd64 || arm64)

package monitor

import "github.com/dspeak/sfu/internal/errs"

// Calm is for Linux on amd64 and arm64.
func Calm() error { return errs.ErrUnsupported }
