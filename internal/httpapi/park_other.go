//go:build !linux

package httpapi

import "errors"

// poller exists on Linux alone: elsewhere requests wait in their goroutines.
type poller struct{}

func newPoller() (*poller, error) { return nil, errors.ErrUnsupported }

func (*poller) watch(int32, uint64) error { return errors.ErrUnsupported }

func (*poller) forget(int32) {}

func (*poller) wait() ([]happening, error) { return nil, errors.ErrUnsupported }

func (*poller) close() {}

func sendNow(int32, []byte, []byte) (int, error) { return 0, errors.ErrUnsupported }

func receiveNow(int32, []byte) (int, error) { return 0, errors.ErrUnsupported }
