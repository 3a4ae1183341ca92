package config

import (
	"encoding/base64"
	"fmt"
	"net"
	"reflect"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode"
)

var (
	datacenterName = regexp.MustCompile(`^[a-z0-9_-]+$`)
	domainName     = regexp.MustCompile(`^([A-Za-z0-9_-]+\.)*[A-Za-z0-9_-]+\.?$`)
	uuid           = regexp.MustCompile(`^[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}$`)
	metaKey        = regexp.MustCompile(`^[A-Za-z0-9_-]+$`)
	dnsLabel       = regexp.MustCompile(`^[A-Za-z0-9-]+$`)
)

const (
	maxDatacenter  = 63  // a datacenter is one label of DNS and certificate names
	maxDomain      = 253 // all of a DNS name
	maxNodeName    = 128
	maxMetaPairs   = 64
	maxMetaKey     = 128
	maxMetaValue   = 512
	minRejoinAge   = 6 * time.Hour
	minReconnect   = 8 * time.Hour
	federationKey  = "connect.enable_mesh_gateway_wan_federation"
	maxRaftFactor  = 10
	maxPort        = 65535
	raftProtocol   = 3
	metaReserved   = "consul-"
	goDiscoverMark = "provider="
)

// validate checks what no single value can show.
func (l *loader) validate() {
	l.validateNames()
	l.validateServer()
	l.validateFederation()
	l.validateTLS()
	l.validateGossip()
	l.validateNumbers()
	l.validateSidecarPorts()
	l.validateDNS()
	l.validateNetworks()
	l.validateSyslog()
	l.validateDefinitions()
	l.noteWithoutEffect()
}

// noteWithoutEffect lists what is read and checked already, and has no effect yet,
// where it is set to something.
func (l *loader) noteWithoutEffect() {
	for _, path := range []string{"limits.txn_max_req_len", "limits.https_handshake_timeout"} {
		if l.isSet(path) {
			l.ignored = append(l.ignored, path)
		}
	}
}

func (l *loader) warnf(format string, args ...any) {
	l.warnings = append(l.warnings, fmt.Sprintf(format, args...))
}

func (l *loader) validateNames() {
	s := l.settings
	l.validateDatacenter("datacenter", s.Datacenter)
	if s.PrimaryDatacenter != s.Datacenter {
		l.validateDatacenter("primary_datacenter", s.PrimaryDatacenter)
	}
	l.validateNodeName()
	if s.NodeID != "" && !uuid.MatchString(s.NodeID) {
		l.wrongKey("node_id", quote(s.NodeID)+" is no UUID", "leave it out, and one is made")
	}
	l.validateDomain("domain", s.Domain)
	if s.AltDomain != "" {
		l.validateDomain("alt_domain", s.AltDomain)
	}
	validateMeta(s.NodeMeta, func(what, cure string) { l.wrongKey("node_meta", what, cure) })
	if !slices.Contains([]string{"trace", "debug", "info", "warn", "error"}, s.LogLevel) {
		l.wrongKey("log_level", quote(s.LogLevel)+" is no level", "write trace, debug, info, warn or error")
	}
	if s.DataDir == "" && !s.DevMode {
		l.wrongKey("data_dir", "is not set", "name a directory that outlives a restart, or start with -dev")
	}
}

func (l *loader) validateDatacenter(key, name string) {
	if !datacenterName.MatchString(name) || len(name) > maxDatacenter {
		l.wrongKey(key, quote(name)+" is no name for a datacenter", "use 1 to 63 of a-z, 0-9, - and _")
	}
}

func (l *loader) validateDomain(key, name string) {
	if !domainName.MatchString(name) || len(name) > maxDomain {
		l.wrongKey(key, quote(name)+" is no domain", `write one such as "consul."`)
	}
}

func (l *loader) validateNodeName() {
	name := l.settings.NodeName
	bad := func(r rune) bool {
		return !unicode.IsPrint(r) || unicode.IsSpace(r) || strings.ContainsRune("\"'`*\\", r)
	}
	switch {
	case name == "":
		l.wrongKey("node_name", "is empty", "write a name")
	case len(name) > maxNodeName:
		l.wrongKey("node_name", "is longer than 128 bytes", "write a shorter one")
	case strings.ContainsFunc(name, bad):
		l.wrongKey("node_name", quote(name)+" holds a space, a quote, * or a control character, which cannot stand in certificates and gossip",
			"use letters, digits, - and .")
	case !dnsLabel.MatchString(name):
		l.warnf("node_name %s cannot be looked up in DNS: that takes letters, digits and - only", quote(name))
	}
}

// validateMeta checks pairs kept with a node or a service.
func validateMeta(meta map[string]string, wrong func(what, cure string)) {
	if len(meta) > maxMetaPairs {
		wrong("has more than 64 pairs", "remove some")
	}
	for k, v := range meta {
		switch {
		case !metaKey.MatchString(k) || len(k) > maxMetaKey:
			wrong("has the key "+quote(k), "use 1 to 128 of letters, digits, - and _")
		case strings.HasPrefix(strings.ToLower(k), metaReserved):
			wrong("has the key "+quote(k)+", whose beginning is reserved", "use one that does not begin with consul-")
		case len(v) > maxMetaValue:
			wrong("has a value of more than 512 bytes under "+quote(k), "shorten it")
		}
	}
}

func (l *loader) validateServer() {
	s := l.settings
	l.validateBootstrap()
	if s.ServerRejoinAgeMax < minRejoinAge {
		l.wrongKey("server_rejoin_age_max", s.ServerRejoinAgeMax.String()+" is too short", "write 6h or more")
	}
	if s.RaftProtocol != raftProtocol {
		l.wrongKey("raft_protocol", strconv.Itoa(s.RaftProtocol)+" is not spoken", "remove it, or write 3")
	}
	if s.Performance.RaftMultiplier < 1 || s.Performance.RaftMultiplier > maxRaftFactor {
		l.wrongKey("performance.raft_multiplier", strconv.Itoa(s.Performance.RaftMultiplier)+" is out of range", "write 1 to 10")
	}
}

func (l *loader) validateBootstrap() {
	s := l.settings
	given := "bootstrap"
	if !l.isSet(given) && l.isSet("bootstrap_expect") {
		given = "bootstrap_expect" // 1 of it is the same as bootstrap
	}
	switch expect := s.BootstrapExpect; {
	case expect < 0:
		l.wrongKey("bootstrap_expect", "cannot be negative", "write the number of servers, or 0")
	case s.Bootstrap && expect > 0:
		l.wrongKey("bootstrap_expect", "cannot be set together with bootstrap = true", "remove one of the two")
	case s.Bootstrap && !s.Server:
		l.wrongKey(given, "needs server = true", "set server = true, or remove it")
	case expect > 0 && !s.Server:
		l.wrongKey("bootstrap_expect", "needs server = true", "set server = true, or remove it")
	case s.Bootstrap && !s.DevMode:
		l.warnf("%s: this server elects itself: on a second one, a second cluster comes to be", given)
	case expect == 2:
		l.warnf("bootstrap_expect = 2: two servers survive the loss of none; use 3 or 5")
	case expect > 0 && expect%2 == 0:
		l.warnf("bootstrap_expect = %d: an even number of servers survives no more losses than one less", expect)
	}
}

// validateFederation checks the rules of WAN federation through gateways.
func (l *loader) validateFederation() {
	s := l.settings
	if s.Connect.EnableMeshGatewayWANFederation {
		if !s.Connect.Enabled {
			l.wrongKey(federationKey, "needs connect.enabled = true", "set connect.enabled = true")
		}
		if !s.Server {
			l.wrongKey(federationKey, "needs server = true", "set server = true, or remove it: clients need no setting")
		}
		if strings.Contains(s.NodeName, "/") {
			l.wrongKey(federationKey, "does not work while node_name "+quote(s.NodeName)+" contains /", "choose a node_name without /")
		}
		if len(s.RetryJoinWAN) > 0 {
			l.wrongKey("retry_join_wan", "cannot be set together with "+federationKey, "remove it; a secondary datacenter sets primary_gateways")
		}
		l.federationTLS()
	}
	if len(s.PrimaryGateways) > 0 {
		l.validateGateways()
	}
	if provider := s.Connect.CAProvider; provider != "consul" {
		l.wrongKey("connect.ca_provider", "is "+quote(provider)+", which is not built yet", `remove it, or set "consul"`)
	}
}

func (l *loader) validateGateways() {
	s := l.settings
	if !s.Server {
		l.wrongKey("primary_gateways", "needs server = true", "set server = true, or remove it: clients need no gateways")
	}
	if s.PrimaryDatacenter == s.Datacenter {
		l.wrongKey("primary_gateways", "is for a secondary datacenter only, and primary_datacenter is the own datacenter "+quote(s.Datacenter),
			"set primary_datacenter to the primary's name, or remove primary_gateways")
	}
	if !s.Connect.EnableMeshGatewayWANFederation {
		l.warnf("primary_gateways has no effect without %s = true", federationKey)
	}
	for _, addr := range s.PrimaryGateways {
		if _, _, err := net.SplitHostPort(addr); err != nil && !strings.Contains(addr, goDiscoverMark) {
			l.warnf("primary_gateways: %s has no port: write host:port", quote(addr))
		}
	}
}

// federationTLS refuses what would let every dial fail later.
func (l *loader) federationTLS() {
	t := l.settings.TLS.InternalRPC
	var missing []string
	if t.CAFile == "" && t.CAPath == "" {
		missing = append(missing, "tls.internal_rpc.ca_file")
	}
	if t.CertFile == "" {
		missing = append(missing, "tls.internal_rpc.cert_file")
	}
	if t.KeyFile == "" {
		missing = append(missing, "tls.internal_rpc.key_file")
	}
	if len(missing) > 0 {
		l.wrongKey(federationKey, "needs TLS between servers, but "+strings.Join(missing, ", ")+" is not set",
			"set it there or in tls.defaults; the certificate must name server.<datacenter>.<domain>")
	}
}

func (l *loader) validateGossip() {
	s := l.settings
	if s.Encrypt != "" {
		key, err := base64.StdEncoding.DecodeString(s.Encrypt.Reveal())
		if err != nil || !slices.Contains([]int{16, 24, 32}, len(key)) {
			l.wrongKey("encrypt", "is not base64 of 16, 24 or 32 bytes", "make a key with isthmus keygen")
		}
	}
	for key, age := range map[string]time.Duration{"reconnect_timeout": s.ReconnectTimeout, "reconnect_timeout_wan": s.ReconnectTimeoutWAN} {
		if age < minReconnect {
			l.wrongKey(key, age.String()+" is too short", "write 8h or more")
		}
	}
}

// GossipKey yields the bytes of the gossip key, or nil where there is none.
func (s *Settings) GossipKey() []byte {
	if s.Encrypt == "" {
		return nil
	}
	key, err := base64.StdEncoding.DecodeString(s.Encrypt.Reveal())
	if err != nil {
		return nil // Load has refused such a key
	}
	return key
}

// signed are the numbers that may be negative, or are checked elsewhere.
var signed = []string{"log_rotate_max_files", "bootstrap_expect"}

// positive matches the pauses, factors and sizes that cannot be 0.
var positive = regexp.MustCompile(`^gossip_|interval(_wan)?$|^check_output_max_size$`)

// validateSidecarPorts leaves alone what switches the range off.
func (l *loader) validateSidecarPorts() {
	const last = "ports.sidecar_max_port"
	switch p := &l.settings.Ports; {
	case p.SidecarMax > maxPort:
		l.wrongKey(last, strconv.Itoa(p.SidecarMax)+" is no port", "write 1 to 65535, or 0 to give sidecars none")
	case p.SidecarMax < p.SidecarMin:
		l.wrongKey(last, "is below ports.sidecar_min_port", "write the higher port here, or 0 for both to give sidecars none")
	}
}

// validateNumbers refuses negative numbers and durations, and a pause of none
// where a loop would run without any.
func (l *loader) validateNumbers() {
	root := reflect.ValueOf(l.settings).Elem()
	for _, f := range schema() {
		v := root.FieldByIndex(f.index)
		switch {
		case !v.CanInt(), slices.Contains(signed, f.path), strings.HasPrefix(f.path, "ports."):
		case v.Int() < 0:
			l.wrongKey(f.path, "cannot be negative", "write 0 or more")
		case v.Int() == 0 && positive.MatchString(f.path) && f.path != "check_update_interval": // that is a delay
			l.wrongKey(f.path, "cannot be 0", "write more than 0")
		}
	}
}
