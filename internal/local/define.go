package local

import (
	"fmt"
	"maps"
	"net/netip"
	"reflect"
	"slices"
	"strings"
	"time"
	"unicode"

	"isthmus/api"
	"isthmus/internal/checks"
)

// Limits of service metadata.
const (
	maxMetaPairs = 64
	maxMetaKey   = 128
	maxMetaValue = 512
)

const maxPort = 65535

// reservedMeta begins the metadata keys that only the system itself may set.
const reservedMeta = "consul-"

// newService makes a service of a valid definition, with the defaults filled in.
func newService(def *api.ServiceDefinition) *service {
	row := &api.NodeService{
		Kind: def.Kind, ID: serviceID(def), Service: def.Name, Tags: slices.Clone(def.Tags), Address: def.Address,
		TaggedAddresses: taggedAddresses(def), Meta: maps.Clone(def.Meta), Port: def.Port, SocketPath: def.SocketPath,
		Weights: &api.Weights{Passing: 1, Warning: 1}, EnableTagOverride: def.EnableTagOverride, Locality: def.Locality,
	}
	if row.Tags == nil {
		row.Tags = []string{}
	}
	if row.Meta == nil {
		row.Meta = map[string]string{}
	}
	if def.Weights != nil {
		row.Weights = new(*def.Weights)
	}
	if def.Proxy != nil {
		row.Proxy = *def.Proxy
		row.Proxy.Upstreams = slices.Clone(def.Proxy.Upstreams)
		for i := range row.Proxy.Upstreams {
			if u := &row.Proxy.Upstreams[i]; u.DestinationType == "" {
				u.DestinationType = upstreamService
			}
		}
	}
	if def.Connect != nil {
		row.Connect = *def.Connect
		row.Connect.SidecarService = nil // a service of its own
	}
	return &service{asked: row, row: row, token: def.Token}
}

func serviceID(def *api.ServiceDefinition) string {
	if def.ID != "" {
		return def.ID
	}
	return def.Name
}

// taggedAddresses adds the tags that name the protocol of the service's own
// address, by which dual-stack clients choose.
func taggedAddresses(def *api.ServiceDefinition) map[string]api.ServiceAddress {
	tagged := maps.Clone(def.TaggedAddresses)
	ip, err := netip.ParseAddr(def.Address)
	if err != nil {
		return tagged
	}
	family := "_ipv4"
	if ip.Unmap().Is6() {
		family = "_ipv6"
	}
	if tagged == nil {
		tagged = map[string]api.ServiceAddress{}
	}
	for _, reach := range []string{"lan", "wan"} {
		if _, set := tagged[reach+family]; !set {
			tagged[reach+family] = api.ServiceAddress{Address: def.Address, Port: def.Port}
		}
	}
	return tagged
}

// validateService tells what is wrong with a definition. The texts that the
// protocol has a counterpart for are its own.
func validateService(def *api.ServiceDefinition) error {
	switch {
	case def.Name == "":
		return api.Errorf(api.Invalid, "Missing service name")
	case strings.ContainsFunc(def.Name+def.ID, unicode.IsControl):
		return api.Errorf(api.Invalid, "Invalid service name or ID %q: it contains a control character", serviceID(def))
	case serviceID(def) == api.ConsulService:
		return api.Errorf(api.Invalid, "Invalid service ID %q: it is reserved for servers", api.ConsulService)
	}
	if err := validateKind(def); err != nil {
		return err
	}
	if err := validateAddresses(def); err != nil {
		return err
	}
	if err := validateMeta("Invalid Service Meta: ", def.Meta, def.Kind); err != nil {
		return err
	}
	return validateWeights(def.Weights)
}

func validateAddresses(def *api.ServiceDefinition) error {
	switch {
	case unspecified(def.Address):
		return api.Errorf(api.Invalid, "Invalid service address")
	case def.Port < 0 || def.Port > maxPort:
		return api.Errorf(api.Invalid, "Invalid service port %d: it must be between 0 and %d", def.Port, maxPort)
	}
	for tag, at := range def.TaggedAddresses {
		if at.Port < 0 || at.Port > maxPort {
			return api.Errorf(api.Invalid, "Invalid port %d of tagged address %q: it must be between 0 and %d", at.Port, tag, maxPort)
		}
	}
	return nil
}

// unspecified tells whether nobody could connect to the address.
func unspecified(address string) bool {
	ip, err := netip.ParseAddr(strings.Trim(address, "[]"))
	return err == nil && ip.IsUnspecified()
}

// validateMeta begins what it tells with what.
func validateMeta(what string, meta map[string]string, kind string) error {
	if len(meta) > maxMetaPairs {
		return api.Errorf(api.Invalid, "%sNode metadata cannot contain more than %d key/value pairs", what, maxMetaPairs)
	}
	for _, key := range slices.Sorted(maps.Keys(meta)) {
		if why := wrongMeta(key, meta[key], kind); why != "" {
			return api.Errorf(api.Invalid, "%sCouldn't load metadata pair ('%s', '%s'): %s", what, key, meta[key], why)
		}
	}
	return nil
}

// wrongMeta tells why a pair cannot be, if so.
func wrongMeta(key, value, kind string) string {
	allowed := func(r rune) bool {
		return r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' || r == '-' || r == '_'
	}
	switch {
	case key == "":
		return "Key cannot be blank"
	case strings.ContainsFunc(key, func(r rune) bool { return !allowed(r) }):
		return "Key contains invalid characters"
	case len(key) > maxMetaKey:
		return fmt.Sprintf("Key is too long (limit: %d characters)", maxMetaKey)
	case strings.HasPrefix(key, reservedMeta) && (key != api.FederationKey || kind != api.MeshGateway):
		return "Key prefix '" + reservedMeta + "' is reserved for internal use"
	case len(value) > maxMetaValue:
		return fmt.Sprintf("Value is too long (limit: %d characters)", maxMetaValue)
	}
	return ""
}

func validateWeights(w *api.Weights) error {
	switch {
	case w == nil:
		return nil
	case w.Passing < 1:
		return api.Errorf(api.Invalid, "Invalid Weights: Passing must be greater than 0")
	case w.Warning < 0:
		return api.Errorf(api.Invalid, "Invalid Weights: Warning must be greater or equal than 0")
	case w.Passing > maxPort || w.Warning > maxPort:
		return api.Errorf(api.Invalid, "Invalid Weights: DNS Weight must be between 0 and %d", maxPort)
	}
	return nil
}

// serviceChecks are the checks of a definition, with their ids and names.
func serviceChecks(def *api.ServiceDefinition) []api.CheckType {
	var all []api.CheckType
	if !reflect.ValueOf(def.Check).IsZero() {
		all = append(all, def.Check)
	}
	for _, c := range def.Checks {
		if c != nil {
			all = append(all, *c)
		}
	}
	for i := range all {
		c := &all[i]
		if c.CheckID == "" {
			c.CheckID = "service:" + serviceID(def)
			if len(all) > 1 {
				c.CheckID += fmt.Sprintf(":%d", i+1)
			}
		}
		if c.Name == "" {
			c.Name = fmt.Sprintf("Service '%s' check", def.Name)
		}
	}
	return all
}

// newCheck makes a check of its definition. of is the service it belongs to, if
// any.
func (a *Agent) newCheck(def api.CheckType, of *api.NodeService, from origin) (*check, error) {
	c := &check{def: def, origin: from}
	switch {
	case def.CheckID == api.SerfHealth:
		return nil, api.Errorf(api.Invalid, "Invalid check ID %q: it is reserved for servers", api.SerfHealth)
	case strings.ContainsFunc(def.CheckID, unicode.IsControl):
		return nil, api.Errorf(api.Invalid, "Invalid check ID %q: it contains a control character", def.CheckID)
	case def.Status != "" && !validStatus(def.Status) && of != nil:
		return nil, api.Errorf(api.Invalid, "Status for checks must 'passing', 'warning', 'critical'")
	case def.Status != "" && !validStatus(def.Status):
		return nil, api.Errorf(api.Invalid, "Bad check status")
	}
	runner, err := checks.New(def, func(status, output string) { a.report(c, status, output) }, a.checkEnv())
	if err != nil {
		return nil, err
	}
	if checks.RunsCommands(&def) {
		if err := a.cfg.Scripts.allow(from); err != nil {
			return nil, err
		}
	}
	c.runner = runner
	c.row = &api.HealthCheck{
		Node: a.cfg.Node, CheckID: def.CheckID, Name: def.Name, Status: def.Status, Notes: def.Notes,
		ServiceTags: []string{}, Type: checks.Type(&def), Interval: durationText(def.Interval), Timeout: durationText(def.Timeout),
	}
	if c.row.Status == "" {
		c.row.Status = api.Critical
	}
	if of != nil {
		c.of = of.ID
		c.row.ServiceID, c.row.ServiceName, c.row.ServiceTags = of.ID, of.Service, of.Tags
	}
	return c, nil
}

// durationText is empty for a duration that was not given.
func durationText(d api.Duration) string {
	if d == 0 {
		return ""
	}
	return time.Duration(d).String()
}
