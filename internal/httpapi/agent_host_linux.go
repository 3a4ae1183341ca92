package httpapi

import (
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"
	"syscall"
	"time"
)

const (
	kibi    = 1024
	percent = 100
)

func readMemory() (*hostMemory, error) {
	raw, err := os.ReadFile("/proc/meminfo")
	if err != nil {
		return nil, fmt.Errorf("read: %w", err)
	}
	bytes := map[string]uint64{}
	for line := range strings.Lines(string(raw)) {
		name, rest, _ := strings.Cut(line, ":")
		number, _, _ := strings.Cut(strings.TrimSpace(rest), " ")
		n, _ := strconv.ParseUint(number, 10, 64) // what is no number is not there
		bytes[name] = n * kibi
	}
	m := &hostMemory{
		Total: bytes["MemTotal"], Available: bytes["MemAvailable"], Free: bytes["MemFree"], Active: bytes["Active"],
		Inactive: bytes["Inactive"], Buffers: bytes["Buffers"], Cached: bytes["Cached"] + bytes["SReclaimable"], Dirty: bytes["Dirty"],
		Shared: bytes["Shmem"], Slab: bytes["Slab"], SwapTotal: bytes["SwapTotal"], SwapFree: bytes["SwapFree"], Mapped: bytes["Mapped"],
	}
	if m.Total == 0 {
		return nil, errors.New("/proc/meminfo names no total")
	}
	m.Used = m.Total - min(m.Total, m.Free+m.Buffers+m.Cached)
	m.UsedPercent = percent * float64(m.Used) / float64(m.Total)
	return m, nil
}

func readCPU() ([]hostCPU, error) {
	raw, err := os.ReadFile("/proc/cpuinfo")
	if err != nil {
		return nil, fmt.Errorf("read: %w", err)
	}
	out := []hostCPU{}
	for block := range strings.SplitSeq(strings.TrimSpace(string(raw)), "\n\n") {
		text := fields(block, ":")
		number := func(name string) int {
			digits, _, _ := strings.Cut(text[name], " ")
			n, _ := strconv.Atoi(digits) // 0 where it is not told
			return n
		}
		if text["processor"] == "" {
			continue // what stands behind the processors on some machines
		}
		mhz, _ := strconv.ParseFloat(text["cpu MHz"], 64) // 0 where it is not told
		out = append(out, hostCPU{
			CPU: number("processor"), VendorID: text["vendor_id"], Family: text["cpu family"], Model: text["model"],
			Stepping: number("stepping"), PhysicalID: text["physical id"], CoreID: text["core id"], Cores: 1, ModelName: text["model name"],
			MHz: mhz, CacheSize: number("cache size"), Flags: strings.Fields(text["flags"]), Microcode: text["microcode"],
		})
	}
	return out, nil
}

// fields reads lines of names and values.
func fields(text, sign string) map[string]string {
	out := map[string]string{}
	for line := range strings.Lines(text) {
		if name, value, ok := strings.Cut(line, sign); ok {
			out[strings.TrimSpace(name)] = strings.Trim(strings.TrimSpace(value), `"`)
		}
	}
	return out
}

// readSystem leaves out what the system does not tell.
func readSystem() (*hostSystem, error) {
	var info syscall.Sysinfo_t
	if err := syscall.Sysinfo(&info); err != nil {
		return nil, fmt.Errorf("read: %w", err)
	}
	name, err := os.Hostname()
	if err != nil {
		return nil, fmt.Errorf("read host name: %w", err)
	}
	known := func(file string) string {
		raw, _ := os.ReadFile(file)
		return strings.TrimSpace(string(raw))
	}
	release := fields(known("/etc/os-release"), "=")
	family := release["ID_LIKE"]
	if family == "" {
		family = release["ID"]
	}
	boot := time.Now().Add(-time.Duration(info.Uptime) * time.Second)
	return &hostSystem{
		Hostname: name, Uptime: uint64(max(info.Uptime, 0)), BootTime: uint64(max(boot.Unix(), 0)), Procs: int(info.Procs), OS: "linux",
		Platform: release["ID"], PlatformFamily: family, PlatformVersion: release["VERSION_ID"],
		KernelVersion: known("/proc/sys/kernel/osrelease"), KernelArch: known("/proc/sys/kernel/arch"), HostID: known("/etc/machine-id"),
	}, nil
}

func readDisk() (*hostDisk, error) {
	const path = "/"
	var fs syscall.Statfs_t
	if err := syscall.Statfs(path, &fs); err != nil {
		return nil, fmt.Errorf("read: %w", err)
	}
	size := uint64(max(fs.Bsize, 0))
	d := &hostDisk{
		Path: path, Total: fs.Blocks * size, Free: fs.Bavail * size, Used: (fs.Blocks - fs.Bfree) * size,
		InodesTotal: fs.Files, InodesFree: fs.Ffree, InodesUsed: fs.Files - fs.Ffree,
	}
	if all := d.Used + d.Free; all > 0 {
		d.UsedPercent = percent * float64(d.Used) / float64(all)
	}
	if d.InodesTotal > 0 {
		d.InodesUsedPercent = percent * float64(d.InodesUsed) / float64(d.InodesTotal)
	}
	for line := range strings.Lines(mounts()) {
		if f := strings.Fields(line); len(f) > 2 && f[1] == path {
			d.Fstype = f[2] // the last one lies on top
		}
	}
	return d, nil
}

// mounts is empty where the system does not tell.
func mounts() string {
	raw, _ := os.ReadFile("/proc/self/mounts")
	return string(raw)
}
