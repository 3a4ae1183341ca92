package httpapi

import (
	"encoding/json"
	"maps"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"

	"isthmus/api"
)

// The rows of the busiest reads are written by hand, several times faster than
// encoding/json does and to the same bytes, which a test proves of every field.
// As in the reference, lists of tags and checks are never null here, while they
// may be within federation states.

// rows is a list whose elements are written by hand. It is never null.
type rows[T any] struct {
	list []T
	add  func(out []byte, row T) []byte
}

func (r rows[T]) render(out []byte) []byte {
	out = append(out, '[')
	for i, row := range r.list {
		if i > 0 {
			out = append(out, ',')
		}
		out = r.add(out, row)
	}
	return append(out, ']')
}

// byHand makes a render function of a list.
func byHand[T any](add func(out []byte, row T) []byte) func(*request, []T) (any, error) {
	return func(_ *request, list []T) (any, error) { return rows[T]{list, add}, nil }
}

// nodeByID is a node with its instances by id, or null when there is none.
type nodeByID struct{ *api.NodeServices }

func (n nodeByID) render(out []byte) []byte {
	if n.NodeServices == nil {
		return append(out, "null"...)
	}
	out = append(out, `{"Node":`...)
	out = appendNode(out, n.Node)
	out = append(out, `,"Services":{`...)
	for i, id := range slices.Sorted(maps.Keys(n.Services)) {
		if i > 0 {
			out = append(out, ',')
		}
		out = append(appendString(out, id), ':')
		out = appendService(out, n.Services[id])
	}
	return append(out, "}}"...)
}

// nodeInOrder is a node with its instances as a list; of an unknown node both are
// null.
type nodeInOrder api.NodeServiceList

func (n nodeInOrder) render(out []byte) []byte {
	if n.Node == nil {
		return append(out, `{"Node":null,"Services":null}`...)
	}
	out = append(out, `{"Node":`...)
	out = appendNode(out, n.Node)
	out = append(out, `,"Services":`...)
	out = rows[*api.NodeService]{n.Services, appendService}.render(out)
	return append(out, '}')
}

// appendReady copies the text of an instance, which is written once.
func appendReady(out []byte, one *api.Instance) []byte {
	return append(out, one.Text(func(c *api.CheckServiceNode) []byte { return slices.Clip(appendInstance(nil, c)) })...)
}

func appendInstance(out []byte, c *api.CheckServiceNode) []byte {
	out = append(out, `{"Node":`...)
	out = appendNode(out, c.Node)
	out = append(out, `,"Service":`...)
	out = appendService(out, c.Service)
	out = append(out, `,"Checks":[`...)
	for i, check := range c.Checks {
		if i > 0 {
			out = append(out, ',')
		}
		out = appendCheck(out, check)
	}
	return append(out, "]}"...)
}

func appendNode(out []byte, n *api.Node) []byte {
	if n == nil {
		return append(out, "null"...)
	}
	out = appendField(out, `{"ID":`, n.ID)
	out = appendField(out, `,"Node":`, n.Node)
	out = appendField(out, `,"Address":`, n.Address)
	out = appendField(out, `,"Datacenter":`, n.Datacenter)
	out = appendGiven(out, `,"Partition":`, n.Partition)
	out = appendGiven(out, `,"PeerName":`, n.PeerName)
	out = append(out, `,"TaggedAddresses":`...)
	out = appendMap(out, n.TaggedAddresses)
	out = append(out, `,"Meta":`...)
	out = appendMap(out, n.Meta)
	if n.Locality != nil {
		out = append(out, `,"Locality":`...)
		out = appendAny(out, n.Locality)
	}
	return appendIndex(out, n.RaftIndex)
}

func appendService(out []byte, s *api.NodeService) []byte {
	if s == nil {
		return append(out, "null"...)
	}
	out = append(out, '{')
	if s.Kind != "" {
		out = appendField(out, `"Kind":`, s.Kind)
		out = append(out, ',')
	}
	out = appendField(out, `"ID":`, s.ID)
	out = appendField(out, `,"Service":`, s.Service)
	out = append(out, `,"Tags":`...)
	out = appendTexts(out, s.Tags)
	out = appendField(out, `,"Address":`, s.Address)
	if len(s.TaggedAddresses) > 0 {
		out = append(out, `,"TaggedAddresses":`...)
		out = appendAny(out, s.TaggedAddresses)
	}
	out = append(out, `,"Meta":`...)
	out = appendMap(out, s.Meta)
	out = appendInt(out, `,"Port":`, s.Port)
	out = appendGiven(out, `,"SocketPath":`, s.SocketPath)
	out = append(out, `,"Weights":`...)
	if s.Weights == nil {
		out = append(out, "null"...)
	} else {
		out = appendWeights(out, *s.Weights)
	}
	out = append(out, `,"EnableTagOverride":`...)
	out = strconv.AppendBool(out, s.EnableTagOverride)
	out = appendProxy(out, `,"Proxy":`, &s.Proxy)
	out = appendConnect(out, `,"Connect":`, &s.Connect)
	if s.Locality != nil {
		out = append(out, `,"Locality":`...)
		out = appendAny(out, s.Locality)
	}
	out = appendField(out, `,"PeerName":`, s.PeerName)
	return appendIndex(out, s.RaftIndex)
}

func appendCheck(out []byte, c *api.HealthCheck) []byte {
	if c == nil {
		return append(out, "null"...)
	}
	out = appendField(out, `{"Node":`, c.Node)
	out = appendField(out, `,"CheckID":`, c.CheckID)
	out = appendField(out, `,"Name":`, c.Name)
	out = appendField(out, `,"Status":`, c.Status)
	out = appendField(out, `,"Notes":`, c.Notes)
	out = appendField(out, `,"Output":`, c.Output)
	out = appendField(out, `,"ServiceID":`, c.ServiceID)
	out = appendField(out, `,"ServiceName":`, c.ServiceName)
	out = append(out, `,"ServiceTags":`...)
	out = appendTexts(out, c.ServiceTags)
	out = appendField(out, `,"Type":`, c.Type)
	out = appendField(out, `,"Interval":`, c.Interval)
	out = appendField(out, `,"Timeout":`, c.Timeout)
	out = appendInt(out, `,"ExposedPort":`, c.ExposedPort)
	out = appendGiven(out, `,"PeerName":`, c.PeerName)
	out = append(out, `,"Definition":`...)
	if reflect.ValueOf(&c.Definition).Elem().IsZero() {
		out = append(out, "{}"...)
	} else {
		d := &c.Definition
		out = appendAny(out, definition{d.Interval, d.Timeout, d.DeregisterCriticalServiceAfter, d})
	}
	return appendIndex(out, c.RaftIndex)
}

// definition has the durations first, as the reference does.
type definition struct {
	Interval                       api.Duration `json:",omitempty"`
	Timeout                        api.Duration `json:",omitempty"`
	DeregisterCriticalServiceAfter api.Duration `json:",omitempty"`
	*api.HealthCheckDefinition
}

func appendServiceNode(out []byte, s *api.ServiceNode) []byte {
	if s == nil {
		return append(out, "null"...)
	}
	out = appendField(out, `{"ID":`, s.ID)
	out = appendField(out, `,"Node":`, s.Node)
	out = appendField(out, `,"Address":`, s.Address)
	out = appendField(out, `,"Datacenter":`, s.Datacenter)
	out = append(out, `,"TaggedAddresses":`...)
	out = appendMap(out, s.TaggedAddresses)
	out = append(out, `,"NodeMeta":`...)
	out = appendMap(out, s.NodeMeta)
	out = appendField(out, `,"ServiceKind":`, s.ServiceKind)
	out = appendField(out, `,"ServiceID":`, s.ServiceID)
	out = appendField(out, `,"ServiceName":`, s.ServiceName)
	out = append(out, `,"ServiceTags":`...)
	out = appendTexts(out, s.ServiceTags)
	out = appendField(out, `,"ServiceAddress":`, s.ServiceAddress)
	if len(s.ServiceTaggedAddresses) > 0 {
		out = append(out, `,"ServiceTaggedAddresses":`...)
		out = appendAny(out, s.ServiceTaggedAddresses)
	}
	out = append(out, `,"ServiceWeights":`...)
	out = appendWeights(out, s.ServiceWeights)
	out = append(out, `,"ServiceMeta":`...)
	if s.ServiceMeta == nil {
		out = append(out, "{}"...)
	} else {
		out = appendMap(out, s.ServiceMeta)
	}
	out = appendInt(out, `,"ServicePort":`, s.ServicePort)
	out = appendField(out, `,"ServiceSocketPath":`, s.ServiceSocketPath)
	out = append(out, `,"ServiceEnableTagOverride":`...)
	out = strconv.AppendBool(out, s.ServiceEnableTagOverride)
	out = appendProxy(out, `,"ServiceProxy":`, &s.ServiceProxy)
	out = appendConnect(out, `,"ServiceConnect":`, &s.ServiceConnect)
	out = append(out, `,"ServiceLocality":`...)
	out = appendAny(out, s.ServiceLocality)
	out = appendGiven(out, `,"PeerName":`, s.PeerName)
	return appendIndex(out, s.RaftIndex)
}

// appendIndex ends a row: its indexes are its last fields.
func appendIndex(out []byte, i api.RaftIndex) []byte {
	out = append(out, `,"CreateIndex":`...)
	out = strconv.AppendUint(out, i.CreateIndex, 10)
	out = append(out, `,"ModifyIndex":`...)
	out = strconv.AppendUint(out, i.ModifyIndex, 10)
	return append(out, '}')
}

func appendWeights(out []byte, w api.Weights) []byte {
	out = appendInt(out, `{"Passing":`, w.Passing)
	out = appendInt(out, `,"Warning":`, w.Warning)
	return append(out, '}')
}

// appendProxy takes a short way for the many instances that are no proxies.
func appendProxy(out []byte, name string, p *api.ConnectProxyConfig) []byte {
	out = append(out, name...)
	if reflect.ValueOf(p).Elem().IsZero() {
		return append(out, `{"Mode":"","MeshGateway":{},"Expose":{}}`...)
	}
	return appendAny(out, p)
}

func appendConnect(out []byte, name string, c *api.ServiceConnect) []byte {
	out = append(out, name...)
	if *c == (api.ServiceConnect{}) {
		return append(out, "{}"...)
	}
	return appendAny(out, c)
}

func appendField(out []byte, name, value string) []byte {
	return appendString(append(out, name...), value)
}

// plain are the bytes that stand for themselves in a JSON text.
var plain = func() (t [256]bool) {
	for c := ' '; c < utf8.RuneSelf; c++ {
		t[c] = !strings.ContainsRune("\"\\<>&", c)
	}
	return t
}()

// appendString writes a text. The rare ones that need escapes go the long way.
func appendString(out []byte, s string) []byte {
	for i := range len(s) {
		if !plain[s[i]] {
			return appendAny(out, s)
		}
	}
	out = append(out, '"')
	out = append(out, s...)
	return append(out, '"')
}

// appendGiven leaves out an empty value.
func appendGiven(out []byte, name, value string) []byte {
	if value == "" {
		return out
	}
	return appendField(out, name, value)
}

func appendInt(out []byte, name string, value int) []byte {
	return strconv.AppendInt(append(out, name...), int64(value), 10)
}

func appendTexts(out []byte, texts []string) []byte {
	out = append(out, '[')
	for i, s := range texts {
		if i > 0 {
			out = append(out, ',')
		}
		out = appendString(out, s)
	}
	return append(out, ']')
}

// usualKeys is up to how many keys of a map are sorted without allocating.
const usualKeys = 16

func appendMap(out []byte, m map[string]string) []byte {
	if m == nil {
		return append(out, "null"...)
	}
	var room [usualKeys]string
	keys := room[:0]
	for key := range m {
		keys = append(keys, key)
	}
	slices.Sort(keys)
	out = append(out, '{')
	for i, key := range keys {
		if i > 0 {
			out = append(out, ',')
		}
		out = appendString(out, key)
		out = append(out, ':')
		out = appendString(out, m[key])
	}
	return append(out, '}')
}

// appendAny writes what is rare. A value without a JSON form, such as a NaN in a
// proxy's free settings, is null: one row must not fail the others.
func appendAny(out []byte, v any) []byte {
	b, err := json.Marshal(v)
	if err != nil {
		return append(out, "null"...)
	}
	return append(out, b...)
}
