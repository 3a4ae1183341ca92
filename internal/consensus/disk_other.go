//go:build !linux

package consensus

import "os"

func fdatasync(f *os.File) error { return f.Sync() }

func preallocate(f *os.File, size int64) error { return f.Truncate(size) }

// flock does nothing: elsewhere than on Linux the operator sees to it that a
// data directory has one user.
func flock(*os.File) error { return nil }
