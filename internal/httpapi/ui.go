package httpapi

import (
	"cmp"
	"maps"
	"slices"
	"strings"

	"isthmus/api"
	"isthmus/internal/rpc"
	"isthmus/internal/wire"
)

// Routes that web pages of the catalog are made of.

// serviceSummary is what such a page tells of a service.
type serviceSummary struct {
	Kind                 string `json:",omitempty"`
	Name                 string
	Datacenter           string
	Tags                 []string
	Nodes                []string
	ExternalSources      []string
	InstanceCount        int
	ChecksPassing        int
	ChecksWarning        int
	ChecksCritical       int
	GatewayConfig        struct{}
	TransparentProxy     bool
	ConnectNative        bool
	ConnectedWithProxy   bool
	ConnectedWithGateway bool

	checks map[[2]string]string // states, by node and id
}

// show makes a route of a method as read does. It says nothing of its consistency,
// as in the reference.
func show[In, Out any](m rpc.Method[In, Out], parse func(*request) (In, error), answer func(*request, Out) error) handler {
	return func(q *request) error {
		h, err := q.read()
		if err != nil {
			return err
		}
		in, err := parse(q)
		if err != nil {
			return err
		}
		out, meta, err := ask(q, m, h, in)
		q.meta(meta)
		if err != nil {
			return err
		}
		return answer(q, out)
	}
}

func uiNodes(q *request, all []*wire.NodeInfo) error {
	v, _ := listed(q, all)
	return q.json(v)
}

func uiNode(q *request, one []*wire.NodeInfo) error {
	if len(one) == 0 {
		return q.missing()
	}
	return q.json(one[0])
}

func uiServices(q *request, all wire.DumpReply) error {
	return q.json(q.summaries(all.Nodes, func(string) bool { return true }))
}

func uiOverview(q *request, all wire.CatalogSummary) error { return q.json(all) }

// uiGateway shows the services that a gateway leads to.
func uiGateway(q *request, bound []*wire.GatewayService) error {
	if len(bound) == 0 {
		return q.json([]*serviceSummary{})
	}
	all, _, err := ask(q, wire.ServiceDump, q.write(), wire.DumpQuery{})
	if err != nil {
		return err
	}
	return q.json(q.summaries(all.Nodes, func(name string) bool {
		return slices.ContainsFunc(bound, func(g *wire.GatewayService) bool { return g.Service.Name == name })
	}))
}

// summaries tells of each service that wanted holds true of, in order of names. The
// checks of a proxy count for its service too, which is told of even if it is not
// there.
func (q *request) summaries(all []api.CheckServiceNode, wanted func(name string) bool) []*serviceSummary {
	by := map[string]*serviceSummary{}
	of := func(name string) *serviceSummary {
		if by[name] == nil {
			by[name] = &serviceSummary{Name: name, checks: map[[2]string]string{}}
		}
		return by[name]
	}
	for i := range all {
		c := &all[i]
		s := of(c.Service.Service)
		s.Kind, s.Datacenter = c.Service.Kind, cmp.Or(c.Node.Datacenter, q.api.cfg.Datacenter)
		s.InstanceCount++
		s.Tags = append(s.Tags, c.Service.Tags...)
		s.Nodes = append(s.Nodes, c.Node.Node)
		for _, meta := range []map[string]string{c.Service.Meta, c.Node.Meta} {
			if from := meta["external-source"]; from != "" {
				s.ExternalSources = append(s.ExternalSources, from)
			}
		}
		s.ConnectNative = s.ConnectNative || c.Service.Connect.Native
		s.add(c)
		if c.Service.Kind == api.ConnectProxy {
			s := of(c.Service.Proxy.DestinationServiceName)
			s.ConnectedWithProxy = true
			s.TransparentProxy = s.TransparentProxy || c.Service.Proxy.Mode == "transparent"
			s.add(c)
		}
	}
	out := []*serviceSummary{}
	for _, name := range slices.Sorted(maps.Keys(by)) {
		if wanted(name) {
			out = append(out, by[name].finish())
		}
	}
	return out
}

func (s *serviceSummary) add(c *api.CheckServiceNode) {
	for _, check := range c.Checks {
		s.checks[[2]string{strings.ToLower(check.Node), check.CheckID}] = check.Status
	}
}

// finish counts the checks, each once, and sorts the lists.
func (s *serviceSummary) finish() *serviceSummary {
	for _, status := range s.checks {
		switch status {
		case api.Passing:
			s.ChecksPassing++
		case api.Warning:
			s.ChecksWarning++
		case api.Critical:
			s.ChecksCritical++
		}
	}
	for _, list := range []*[]string{&s.Tags, &s.Nodes, &s.ExternalSources} {
		slices.Sort(*list)
		*list = slices.Compact(*list)
	}
	return s
}

func dumpQuery(q *request) (wire.DumpQuery, error) { return wire.DumpQuery{Source: q.source()}, nil }
