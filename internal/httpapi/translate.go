package httpapi

import "isthmus/api"

// translates tells whether the answer to a request shows the addresses that nodes
// and instances have in the WAN: it is so set, and the answer is another
// datacenter's.
func (q *request) translates() bool {
	cfg := &q.api.cfg
	dc := q.query.Get("dc")
	return cfg.TranslateWAN && dc != "" && dc != cfg.Datacenter
}

// translated makes a render function show the addresses of the WAN where they are
// to be shown. translate copies what it changes: others may share the rows.
func translated[T any](translate func(T) T, render func(*request, T) (any, error)) func(*request, T) (any, error) {
	return func(q *request, out T) (any, error) {
		if q.translates() {
			out = translate(out)
		}
		return render(q, out)
	}
}

// translateAll translates the rows of a list.
func translateAll[T any](translate func(T) T) func([]T) []T {
	return func(list []T) []T {
		if list == nil {
			return nil
		}
		out := make([]T, len(list))
		for i, row := range list {
			out[i] = translate(row)
		}
		return out
	}
}

func translateNode(n *api.Node) *api.Node {
	if n == nil {
		return nil
	}
	c := *n
	c.Address = wanAddress(n.Address, n.TaggedAddresses)
	return &c
}

func translateService(s *api.NodeService) *api.NodeService {
	if s == nil {
		return nil
	}
	c := *s
	c.Address, c.Port = wanService(s.Address, s.Port, s.TaggedAddresses)
	return &c
}

func translateServiceNode(s *api.ServiceNode) *api.ServiceNode {
	c := *s
	c.Address = wanAddress(s.Address, s.TaggedAddresses)
	c.ServiceAddress, c.ServicePort = wanService(s.ServiceAddress, s.ServicePort, s.ServiceTaggedAddresses)
	return &c
}

// translateInstance leaves the text of the instance behind, which shows its own
// addresses.
func translateInstance(i *api.Instance) *api.Instance {
	return &api.Instance{CheckServiceNode: api.CheckServiceNode{
		Node: translateNode(i.Node), Service: translateService(i.Service), Checks: i.Checks,
	}}
}

func translateNodeServices(n *api.NodeServices) *api.NodeServices {
	if n == nil {
		return nil
	}
	out := &api.NodeServices{Node: translateNode(n.Node)}
	if n.Services != nil {
		out.Services = make(map[string]*api.NodeService, len(n.Services))
	}
	for id, s := range n.Services {
		out.Services[id] = translateService(s)
	}
	return out
}

func translateNodeServiceList(n api.NodeServiceList) api.NodeServiceList {
	return api.NodeServiceList{Node: translateNode(n.Node), Services: translateAll(translateService)(n.Services)}
}

// wanAddress is the address of a node for who is in another datacenter.
func wanAddress(addr string, tagged map[string]string) string {
	return api.ChooseAddress(addr, func(name string) string { return tagged[name] }, true, api.AnyFamily)
}

// wanService is the address and the port of an instance for who is in another
// datacenter. Only the address named wan has a port of its own.
func wanService(addr string, port int, tagged map[string]api.ServiceAddress) (reached string, at int) {
	if other := tagged["wan"].Port; other != 0 {
		port = other
	}
	return api.ChooseAddress(addr, func(name string) string { return tagged[name].Address }, true, api.AnyFamily), port
}
