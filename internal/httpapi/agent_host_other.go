//go:build !linux

package httpapi

import (
	"errors"
	"fmt"
	"os"
	"runtime"
)

var errSystem = fmt.Errorf("read on %s: %w", runtime.GOOS, errors.ErrUnsupported)

func readMemory() (*hostMemory, error) { return nil, errSystem }

func readCPU() ([]hostCPU, error) { return nil, errSystem }

func readDisk() (*hostDisk, error) { return nil, errSystem }

func readSystem() (*hostSystem, error) {
	name, err := os.Hostname()
	if err != nil {
		return nil, fmt.Errorf("read host name: %w", err)
	}
	return &hostSystem{Hostname: name, OS: runtime.GOOS, KernelArch: runtime.GOARCH}, nil
}
