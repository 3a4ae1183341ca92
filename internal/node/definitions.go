package node

import (
	"encoding/json"
	"fmt"
	"reflect"
	"strings"

	"isthmus/api"
	"isthmus/internal/config"
	"isthmus/internal/httpapi"
	"isthmus/internal/local"
)

// definitions are the services and checks that the configuration files declare.
func definitions(cfg *config.Settings) ([]api.ServiceDefinition, []local.CheckDefinition, error) {
	services := make([]api.ServiceDefinition, len(cfg.Services))
	for i := range cfg.Services {
		def, err := ServiceDefinition(&cfg.Services[i])
		if err != nil {
			return nil, nil, fmt.Errorf("%s: service %q: %w", cfg.Services[i].Source, cfg.Services[i].Name, err)
		}
		services[i] = def
	}
	checks := make([]local.CheckDefinition, len(cfg.Checks))
	for i := range cfg.Checks {
		checks[i] = local.CheckDefinition{CheckType: checkType(&cfg.Checks[i]), ServiceID: cfg.Checks[i].ServiceID}
	}
	return services, checks, nil
}

// ServiceDefinition is a service that a file declares, as the API takes it.
func ServiceDefinition(s *config.ServiceDefinition) (api.ServiceDefinition, error) {
	def := api.ServiceDefinition{
		Kind: s.Kind, ID: s.ID, Name: s.Name, Tags: s.Tags, Address: s.Address, Port: s.Port, SocketPath: s.SocketPath,
		Meta: s.Meta, EnableTagOverride: s.EnableTagOverride, Token: s.Token.Reveal(),
	}
	if s.Weights != (config.Weights{}) {
		def.Weights = &api.Weights{Passing: 1, Warning: 1}
		if s.Weights.Passing != nil {
			def.Weights.Passing = *s.Weights.Passing
		}
		if s.Weights.Warning != nil {
			def.Weights.Warning = *s.Weights.Warning
		}
	}
	for name, a := range s.TaggedAddresses {
		if def.TaggedAddresses == nil {
			def.TaggedAddresses = map[string]api.ServiceAddress{}
		}
		def.TaggedAddresses[name] = api.ServiceAddress{Address: a.Address, Port: a.Port}
	}
	for i := range s.Checks {
		c := checkType(&s.Checks[i])
		def.Checks = append(def.Checks, &c)
	}
	var err error
	if def.Proxy, err = opaque[api.ConnectProxyConfig](s.Proxy); err != nil {
		return def, fmt.Errorf("proxy: %w", err)
	}
	if def.Connect, err = opaque[api.ServiceConnect](s.Connect); err != nil {
		return def, fmt.Errorf("connect: %w", err)
	}
	if def.Locality, err = opaque[api.Locality](s.Locality); err != nil {
		return def, fmt.Errorf("locality: %w", err)
	}
	return def, nil
}

// opaque reads a part of a definition that the settings keep as it was written: as
// the API takes it.
func opaque[T any](raw map[string]any) (*T, error) {
	if len(raw) == 0 {
		return nil, nil //nolint:nilnil // nothing was set
	}
	b, err := json.Marshal(shaped(raw, reflect.TypeFor[T]()))
	if err != nil {
		return nil, fmt.Errorf("read: %w", err)
	}
	out := new(T)
	if err := httpapi.Unmarshal(b, out); err != nil {
		return nil, fmt.Errorf("read: %w", err)
	}
	return out, nil
}

// shaped is a value of a file in the shape of t: a block where there may be several
// is a list of one, and a list of one where there is a single object is that
// object. Checks are called by the names that files give them. Maps are data and
// stay as they are.
func shaped(v any, t reflect.Type) any {
	for t.Kind() == reflect.Pointer {
		t = t.Elem()
	}
	list, isList := v.([]any)
	object, isObject := v.(map[string]any)
	switch {
	case t.Kind() == reflect.Slice && isObject:
		return []any{shaped(object, t.Elem())}
	case t.Kind() == reflect.Slice && isList:
		out := make([]any, len(list))
		for i, item := range list {
			out[i] = shaped(item, t.Elem())
		}
		return out
	case t.Kind() == reflect.Struct && isList && len(list) == 1:
		return shaped(list[0], t)
	case t.Kind() == reflect.Struct && isObject:
		return shapedObject(object, t)
	}
	return v
}

func shapedObject(object map[string]any, t reflect.Type) map[string]any {
	out := make(map[string]any, len(object))
	var checks []any
	for key, v := range object {
		name := strings.ToLower(strings.ReplaceAll(key, "_", ""))
		field, ok := t.FieldByNameFunc(func(field string) bool { return strings.EqualFold(field, name) })
		switch {
		case t == reflect.TypeFor[api.ServiceDefinition]() && (name == "check" || name == "checks"):
			more, _ := shaped(v, reflect.TypeFor[[]api.CheckType]()).([]any)
			if name == "check" {
				more, checks = checks, more // those of blocks come first
			}
			checks = append(checks, more...)
		case t == reflect.TypeFor[api.CheckType]() && name == "id":
			out["CheckID"] = v
		case idle(t, name):
		case ok:
			out[key] = shaped(v, field.Type)
		default:
			out[key] = v // refused by who reads it
		}
	}
	if len(checks) > 0 {
		out["Checks"] = checks
	}
	return out
}

// idle tells whether a key of a file says nothing: a check in a sidecar is the
// sidecar's whatever it says, and is sent with its token, and a port to expose is
// that of a path.
func idle(t reflect.Type, name string) bool {
	return t == reflect.TypeFor[api.CheckType]() && (name == "serviceid" || name == "token") ||
		t == reflect.TypeFor[api.ExposeConfig]() && name == "port"
}

func checkType(c *config.CheckDefinition) api.CheckType {
	out := api.CheckType{
		CheckID: c.ID, Name: c.Name, Notes: c.Notes, Status: c.Status,
		HTTP: c.HTTP, Method: c.Method, Header: c.Header, Body: c.Body, DisableRedirects: c.DisableRedirects,
		TCP: c.TCP, TCPUseTLS: c.TCPUseTLS, UDP: c.UDP, GRPC: c.GRPC, GRPCUseTLS: c.GRPCUseTLS, H2PING: c.H2Ping,
		TLSServerName: c.TLSServerName, TLSSkipVerify: c.TLSSkipVerify, ScriptArgs: c.Args,
		DockerContainerID: c.DockerContainerID, Shell: c.Shell, OSService: c.OSService,
		TTL: api.Duration(c.TTL), AliasNode: c.AliasNode, AliasService: c.AliasService,
		Interval: api.Duration(c.Interval), Timeout: api.Duration(c.Timeout),
		SuccessBeforePassing: c.SuccessBeforePassing, FailuresBeforeCritical: c.FailuresBeforeCritical,
		DeregisterCriticalServiceAfter: api.Duration(c.DeregisterCriticalServiceAfter), OutputMaxSize: c.OutputMaxSize,
	}
	out.H2PingUseTLS = c.H2Ping != "" && (c.H2PingUseTLS == nil || *c.H2PingUseTLS)
	if c.FailuresBeforeWarning != nil {
		out.FailuresBeforeWarning = *c.FailuresBeforeWarning
	}
	return out
}
