package httpapi

import (
	"fmt"
	"time"
)

// buildDate is the same for all builds, so that they are reproducible.
const buildDate = "1970-01-01T00:00:01Z"

// versionInfo is the answer of /v1/agent/version.
type versionInfo struct{ SHA, BuildDate, HumanVersion, FIPS string }

func agentVersion(q *request) error {
	return q.json(versionInfo{BuildDate: buildDate, HumanVersion: q.api.cfg.Build})
}

// host is the machine that this node runs on. What could not be found out is
// named in Errors.
type host struct {
	Memory         *hostMemory
	CPU            []hostCPU
	Host           *hostSystem
	Disk           *hostDisk
	CollectionTime int64 // in nanoseconds since 1970
	Errors         []string
}

// hostMemory is in bytes.
type hostMemory struct {
	Total       uint64  `json:"total"`
	Available   uint64  `json:"available"`
	Used        uint64  `json:"used"`
	UsedPercent float64 `json:"usedPercent"`
	Free        uint64  `json:"free"`
	Active      uint64  `json:"active"`
	Inactive    uint64  `json:"inactive"`
	Buffers     uint64  `json:"buffers"`
	Cached      uint64  `json:"cached"`
	Dirty       uint64  `json:"dirty"`
	Shared      uint64  `json:"shared"`
	Slab        uint64  `json:"slab"`
	SwapTotal   uint64  `json:"swapTotal"`
	SwapFree    uint64  `json:"swapFree"`
	Mapped      uint64  `json:"mapped"`
}

type hostCPU struct {
	CPU        int      `json:"cpu"`
	VendorID   string   `json:"vendorId"`
	Family     string   `json:"family"`
	Model      string   `json:"model"`
	Stepping   int      `json:"stepping"`
	PhysicalID string   `json:"physicalId"`
	CoreID     string   `json:"coreId"`
	Cores      int      `json:"cores"`
	ModelName  string   `json:"modelName"`
	MHz        float64  `json:"mhz"`
	CacheSize  int      `json:"cacheSize"` // in KiB
	Flags      []string `json:"flags"`
	Microcode  string   `json:"microcode"`
}

type hostSystem struct {
	Hostname        string `json:"hostname"`
	Uptime          uint64 `json:"uptime"`   // in seconds
	BootTime        uint64 `json:"bootTime"` // in seconds since 1970
	Procs           int    `json:"procs"`
	OS              string `json:"os"`
	Platform        string `json:"platform"`
	PlatformFamily  string `json:"platformFamily"`
	PlatformVersion string `json:"platformVersion"`
	KernelVersion   string `json:"kernelVersion"`
	KernelArch      string `json:"kernelArch"`
	HostID          string `json:"hostId"`
}

// hostDisk is the file system that this process runs in, in bytes.
type hostDisk struct {
	Path              string  `json:"path"`
	Fstype            string  `json:"fstype"`
	Total             uint64  `json:"total"`
	Free              uint64  `json:"free"`
	Used              uint64  `json:"used"`
	UsedPercent       float64 `json:"usedPercent"`
	InodesTotal       uint64  `json:"inodesTotal"`
	InodesUsed        uint64  `json:"inodesUsed"`
	InodesFree        uint64  `json:"inodesFree"`
	InodesUsedPercent float64 `json:"inodesUsedPercent"`
}

func agentHost(q *request) error {
	out := host{CollectionTime: time.Now().UnixNano()}
	note := func(what string, err error) {
		if err != nil {
			out.Errors = append(out.Errors, fmt.Sprintf("%s: %v", what, err))
		}
	}
	var err error
	out.Memory, err = readMemory()
	note("memory", err)
	out.CPU, err = readCPU()
	note("processors", err)
	out.Host, err = readSystem()
	note("system", err)
	out.Disk, err = readDisk()
	note("disk", err)
	return q.json(out)
}
