package xds

import (
	"encoding/json"
	"fmt"
	"maps"
	"math"
	"slices"
	"strconv"
	"strings"
	"time"
)

// The gateway's own settings.
const (
	keyTimeout       = "connect_timeout_ms"
	keyDiscovery     = "envoy_dns_discovery_type"
	keyBind          = "envoy_gateway_bind_addresses"
	keyBindTagged    = "envoy_gateway_bind_tagged_addresses"
	keyNoDefaultBind = "envoy_gateway_no_default_bind"
	keyKeepalive     = "envoy_gateway_remote_tcp_enable_keepalive"
	keyTime          = "envoy_gateway_remote_tcp_keepalive_time"
	keyInterval      = "envoy_gateway_remote_tcp_keepalive_interval"
	keyProbes        = "envoy_gateway_remote_tcp_keepalive_probes"
)

type settings struct {
	connectTimeout time.Duration
	logicalDNS     bool
	bind           map[string]address
	bindTagged     bool
	noDefaultBind  bool
	keepalive      bool
	// Seconds, seconds and a number; the system's own where it is 0.
	keepaliveTime, keepaliveInterval, keepaliveProbes uint32
}

type address struct {
	host string
	port int
}

// parseSettings reads what a registration says, which has gone through JSON or
// HCL, was typed in by hand and is checked by nobody before. A value that makes
// no sense is replaced by its default and told of. Keys it does not know belong
// to other kinds of proxies.
func parseSettings(config map[string]any) (settings, []string) {
	const defaultTimeout, hour = 5 * time.Second, 3_600_000
	out := settings{connectTimeout: defaultTimeout, bind: map[string]address{}}
	timeout := uint32(0)
	known := map[string]func(any) bool{
		keyTimeout: func(v any) bool {
			n, ok := number(v, hour)
			timeout = n
			return ok && n > 0
		},
		keyDiscovery: func(v any) bool {
			text, _ := v.(string)
			out.logicalDNS = strings.EqualFold(text, "logical_dns")
			return out.logicalDNS || strings.EqualFold(text, "strict_dns")
		},
		keyBind:          func(v any) bool { return addresses(v, out.bind) },
		keyBindTagged:    into(&out.bindTagged, boolean),
		keyNoDefaultBind: into(&out.noDefaultBind, boolean),
		keyKeepalive:     into(&out.keepalive, boolean),
		keyTime:          into(&out.keepaliveTime, seconds),
		keyInterval:      into(&out.keepaliveInterval, seconds),
		keyProbes:        into(&out.keepaliveProbes, probes),
	}
	var problems []string
	for _, key := range slices.Sorted(maps.Keys(config)) {
		name := strings.ToLower(key)
		// Some had a longer name once, which registrations may still use.
		if rest, longer := strings.CutPrefix(name, "envoy_mesh_gateway_"); longer {
			if name = "envoy_gateway_" + rest; config[name] != nil {
				continue
			}
		}
		parse, ok := known[name]
		if ok && config[key] != nil && !parse(config[key]) {
			problems = append(problems, fmt.Sprintf("setting %s: %v is not valid and not used", key, config[key]))
		}
	}
	if timeout > 0 {
		out.connectTimeout = time.Duration(timeout) * time.Millisecond
	}
	return out, problems
}

// into makes a parser that sets where to put what it parsed, if it could.
func into[T any](to *T, parse func(any) (T, bool)) func(any) bool {
	return func(v any) bool {
		parsed, ok := parse(v)
		if ok {
			*to = parsed
		}
		return ok
	}
}

// seconds and probes as large as Linux takes them: a connection with more fails.
func seconds(v any) (uint32, bool) { return number(v, math.MaxInt16) }
func probes(v any) (uint32, bool)  { return number(v, math.MaxInt8) }

// number reads a whole number up to most, however it was written.
func number(v any, most uint32) (uint32, bool) {
	var f float64
	switch v := v.(type) {
	case float64:
		f = v
	case int:
		f = float64(v)
	case int64:
		f = float64(v)
	case uint64:
		f = float64(v)
	case json.Number:
		return number(v.String(), most)
	case string:
		var err error
		if f, err = strconv.ParseFloat(strings.TrimSpace(v), 64); err != nil {
			return 0, false
		}
	default:
		return 0, false
	}
	if !(f >= 0 && f <= float64(most)) || f != math.Trunc(f) {
		return 0, false
	}
	return uint32(f), true
}

func boolean(v any) (value, ok bool) {
	switch v := v.(type) {
	case bool:
		return v, true
	case string:
		value, err := strconv.ParseBool(v)
		return value, err == nil
	default:
		n, ok := number(v, 1)
		return n == 1, ok
	}
}

// addresses reads addresses by name. A list of one map is how HCL writes a map.
func addresses(v any, into map[string]address) bool {
	all := true
	named, ok := object(v)
	for name, v := range named {
		fields, isObject := object(v)
		var a address
		for key, v := range fields {
			switch strings.ToLower(key) {
			case "address":
				a.host, _ = v.(string)
			case "port":
				n, _ := number(v, math.MaxUint16)
				a.port = int(n)
			}
		}
		if isObject && name != "" && isIP(a.host) && validPort(a.port) {
			into[name] = a
			continue
		}
		all = false
	}
	return ok && all
}

func object(v any) (map[string]any, bool) {
	switch v := v.(type) {
	case map[string]any:
		return v, true
	case []map[string]any:
		if len(v) == 1 {
			return v[0], true
		}
	case []any:
		if len(v) == 1 {
			return object(v[0])
		}
	}
	return nil, false
}
