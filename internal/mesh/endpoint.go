package mesh

import (
	"cmp"
	"slices"

	"isthmus/api"
)

// lan is where an instance is reached inside its datacenter.
func lan(c *api.CheckServiceNode) (host string, port int) {
	return cmp.Or(c.Service.Address, c.Node.Address), c.Service.Port
}

// wan is where an instance is reached from other datacenters.
func wan(c *api.CheckServiceNode) (host string, port int) {
	if tagged, ok := c.Service.TaggedAddresses["wan"]; ok && tagged.Address != "" {
		return tagged.Address, cmp.Or(tagged.Port, c.Service.Port)
	}
	return cmp.Or(c.Service.Address, c.Node.TaggedAddresses["wan"], c.Node.Address), c.Service.Port
}

// sorted returns the instances by node and id, without rows that lack one half,
// which another datacenter's servers may send.
func sorted(rows []api.CheckServiceNode) []*api.CheckServiceNode {
	out := make([]*api.CheckServiceNode, len(rows))
	for i := range rows {
		out[i] = &rows[i]
	}
	return inOrder(out)
}

// inOrder does the same in place.
func inOrder(rows []*api.CheckServiceNode) []*api.CheckServiceNode {
	rows = slices.DeleteFunc(rows, func(c *api.CheckServiceNode) bool { return c.Node == nil || c.Service == nil })
	slices.SortFunc(rows, func(a, b *api.CheckServiceNode) int {
		return cmp.Or(cmp.Compare(a.Node.Node, b.Node.Node), cmp.Compare(a.Service.ID, b.Service.ID))
	})
	return rows
}

func endpoint(c *api.CheckServiceNode, address func(*api.CheckServiceNode) (string, int)) Endpoint {
	status := c.Status()
	e := Endpoint{Node: c.Node.Node, Healthy: status != api.Critical}
	e.Host, e.Port = address(c)
	if w := c.Service.Weights; w != nil {
		e.Weight = w.Passing
		if status == api.Warning {
			e.Weight = w.Warning
		}
	}
	return e
}

// serverEndpoints are the servers of the own datacenter.
func serverEndpoints(rows []*api.Instance) []Endpoint {
	own := make([]*api.CheckServiceNode, len(rows))
	for i, row := range rows {
		own[i] = &row.CheckServiceNode
	}
	var out []Endpoint
	for _, c := range inOrder(own) {
		out = append(out, endpoint(c, lan))
	}
	return out
}

// gatewayEndpoints are mesh gateways as other datacenters reach them.
func gatewayEndpoints(rows []*api.CheckServiceNode) []Endpoint {
	var out []Endpoint
	for _, c := range rows {
		e := endpoint(c, wan)
		e.Servers = c.Service.Meta[api.FederationKey] == "1"
		out = append(out, e)
	}
	return out
}

// serviceEndpoints are the proxies of the mesh by the service they stand before.
func serviceEndpoints(rows []api.CheckServiceNode) map[string][]Endpoint {
	out := map[string][]Endpoint{}
	for _, c := range sorted(rows) {
		if name := c.Service.Proxy.DestinationServiceName; name != "" {
			out[name] = append(out[name], endpoint(c, lan))
		}
	}
	return out
}
