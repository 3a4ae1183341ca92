package gossip

import (
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"time"

	"github.com/hashicorp/memberlist"
	"github.com/hashicorp/serf/serf"
)

const (
	reconnectTimeout = 72 * time.Hour
	leaveDelayLAN    = time.Second
	leaveDelayWAN    = 3 * time.Second
	// minQueueDepth is the number of messages waiting to be spread below which none is dropped. In pools of more than
	// half as many members it is twice their number.
	minQueueDepth = 4096
)

// libraryConfig checks cfg and translates it. Whatever the library would refuse is found here, because a pool that the
// library refuses half-way leaves goroutines behind.
func libraryConfig(cfg *Config) (*serf.Config, error) {
	switch {
	case cfg.Name == "":
		return nil, errors.New("node name is empty")
	case cfg.UserEventSize > serf.UserEventSizeLimit:
		return nil, fmt.Errorf("user event size %d is above the limit of %d", cfg.UserEventSize, serf.UserEventSizeLimit)
	}
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	if cfg.SnapshotPath != "" {
		if err := touch(cfg.SnapshotPath); err != nil {
			return nil, fmt.Errorf("open snapshot: %w", err)
		}
	}
	ml, err := memberlistConfig(cfg)
	if err != nil {
		return nil, err
	}

	conf := serf.DefaultConfig()
	conf.MemberlistConfig = ml
	conf.NodeName = cfg.Name
	conf.Tags = maps.Clone(cfg.Tags)
	conf.Logger = ml.Logger
	conf.MetricLabels = ml.MetricLabels
	conf.SnapshotPath = cfg.SnapshotPath
	conf.RejoinAfterLeave = cfg.RejoinAfterLeave
	conf.KeyringFile = cfg.KeyringFile
	// A node that loses a vote over its name would shut its pool down under a running server.
	conf.EnableNameConflictResolution = false
	conf.MinQueueDepth = minQueueDepth
	conf.QueueDepthWarning = minQueueDepth
	conf.ReconnectTimeout = reconnectTimeout
	conf.LeavePropagateDelay = leaveDelayLAN
	if cfg.WAN {
		conf.LeavePropagateDelay = leaveDelayWAN
	}
	override(&conf.ReconnectTimeout, cfg.ReconnectTimeout)
	override(&conf.ReconnectInterval, cfg.ReconnectInterval)
	override(&conf.ReapInterval, cfg.ReapInterval)
	override(&conf.LeavePropagateDelay, cfg.LeaveDelay)
	override(&conf.UserEventSizeLimit, cfg.UserEventSize)
	if cfg.Merge != nil {
		conf.Merge = merger{name: cfg.Name, veto: cfg.Merge}
	}
	return conf, nil
}

// touch makes sure that a file can be opened.
func touch(path string) error {
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return err
	}
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return err
	}
	return f.Close()
}

func memberlistConfig(cfg *Config) (*memberlist.Config, error) {
	conf, network := memberlist.DefaultLANConfig(), "lan"
	if cfg.WAN {
		conf, network = memberlist.DefaultWANConfig(), "wan"
		conf.GossipNodes = 3
	}
	conf.Logger = newLibraryLog(cfg.Log)
	// The library appends labels of its own, from several goroutines: without spare room each gets its own copy.
	conf.MetricLabels = slices.Clip(append(conf.MetricLabels, struct{ Name, Value string }{"network", network}))
	conf.BindPort = cfg.Net.Port()
	conf.RequireNodeNames = cfg.RequireNodeNames
	conf.DisableTcpPingsForNode = cfg.DisableTCPPings
	for _, network := range cfg.Allowed {
		network = network.Masked()
		mask := net.CIDRMask(network.Bits(), network.Addr().BitLen())
		conf.CIDRsAllowed = append(conf.CIDRsAllowed, net.IPNet{IP: network.Addr().AsSlice(), Mask: mask})
	}
	override(&conf.GossipInterval, cfg.GossipInterval)
	override(&conf.GossipNodes, cfg.GossipNodes)
	override(&conf.ProbeInterval, cfg.ProbeInterval)
	override(&conf.ProbeTimeout, cfg.ProbeTimeout)
	override(&conf.PushPullInterval, cfg.PushPullInterval)
	override(&conf.SuspicionMult, cfg.SuspicionMult)
	override(&conf.RetransmitMult, cfg.RetransmitMult)
	keys, err := keyring(cfg.KeyringFile, cfg.Keyring)
	if err != nil {
		return nil, err
	}
	if len(keys) > 0 {
		ring, err := memberlist.NewKeyring(keys, keys[0])
		if err != nil {
			return nil, fmt.Errorf("make keyring: %w", err)
		}
		conf.Keyring = ring
		conf.GossipVerifyIncoming, conf.GossipVerifyOutgoing = !cfg.AcceptPlain, !cfg.SendPlain
	}
	return conf, nil
}

// override sets what was given.
func override[T comparable](to *T, given T) {
	var zero T
	if given != zero {
		*to = given
	}
}

// advertised is the address the others are told.
func advertised(cfg *Config) (netip.AddrPort, error) {
	addr, port := cfg.Net.Addr(), cfg.AdvertisePort
	if cfg.AdvertiseAddr != "" {
		var err error
		if addr, err = netip.ParseAddr(cfg.AdvertiseAddr); err != nil {
			return netip.AddrPort{}, fmt.Errorf("advertise address: %w", err)
		}
	}
	if addr.IsUnspecified() {
		return netip.AddrPort{}, fmt.Errorf("advertise address: %s is no address that others can reach", addr)
	}
	if port == 0 {
		port = cfg.Net.Port()
	}
	if port < 0 || port > 65535 {
		return netip.AddrPort{}, fmt.Errorf("advertise port %d is out of range", port)
	}
	return netip.AddrPortFrom(addr.Unmap(), uint16(port)), nil
}

// merger puts the members that the library asks about to a veto.
type merger struct {
	name string
	veto func([]Member) error
}

// NotifyMerge is the library's question. It asks about this node, too, whose refusal would leave the pool without it.
func (m merger) NotifyMerge(found []*serf.Member) error {
	if len(found) == 1 && found[0].Name == m.name {
		return nil
	}
	members := make([]Member, len(found))
	for i, member := range found {
		members[i] = memberOf(member)
	}
	return m.veto(members)
}
