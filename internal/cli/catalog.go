package cli

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"

	consul "github.com/hashicorp/consul/api"
)

type catalogDatacenters struct{}

func (*catalogDatacenters) Run(_ context.Context, e *Env) error {
	dcs, err := e.Client().Catalog().Datacenters()
	if err != nil {
		return failf("Error listing datacenters: %w", err)
	}
	for _, dc := range dcs {
		if err := e.printf("%s\n", dc); err != nil {
			return err
		}
	}
	return nil
}

type catalogNodes struct {
	Detailed bool              `flag:"detailed"  doc:"Show whole IDs, tagged addresses and metadata."`
	Filter   string            `flag:"filter"    doc:"Expression that a node must match."`
	Near     string            `flag:"near"      doc:"Node to sort by distance from; _agent is the one that is asked."`
	NodeMeta map[string]string `flag:"node-meta" doc:"Metadata that a node must have. May be given again."`
	Service  string            `flag:"service"   doc:"Show the nodes that have this service only."`
}

func (c *catalogNodes) Run(ctx context.Context, e *Env) error {
	nodes, err := c.nodes(ctx, e)
	if err != nil {
		return err
	}
	if len(nodes) == 0 {
		return e.nothing("nodes")
	}
	rows := [][]string{{"Node", "ID", "Address", "DC"}}
	if c.Detailed {
		rows[0] = append(rows[0], "TaggedAddresses", "Meta")
	}
	for _, n := range nodes {
		row := []string{n.Node, n.ID, n.Address, n.Datacenter}
		if c.Detailed {
			row = append(row, pairs(n.TaggedAddresses), pairs(n.Meta))
		} else {
			row[1], _, _ = strings.Cut(n.ID, "-") // tells nodes apart well enough
		}
		rows = append(rows, row)
	}
	return e.printf("%s", table(rows))
}

func (c *catalogNodes) nodes(ctx context.Context, e *Env) ([]*consul.Node, error) {
	q := e.Query(ctx)
	q.Near, q.NodeMeta, q.Filter = c.Near, c.NodeMeta, c.Filter
	if c.Service == "" {
		nodes, _, err := e.Client().Catalog().Nodes(q)
		if err != nil {
			return nil, failf("Error listing nodes: %w", err)
		}
		return nodes, nil
	}
	instances, _, err := e.Client().Catalog().Service(c.Service, "", q)
	if err != nil {
		return nil, failf("Error listing nodes for service: %w", err)
	}
	nodes := make([]*consul.Node, len(instances))
	for i, s := range instances {
		nodes[i] = &consul.Node{
			ID: s.ID, Node: s.Node, Address: s.Address, Datacenter: s.Datacenter,
			TaggedAddresses: s.TaggedAddresses, Meta: s.NodeMeta,
		}
	}
	return nodes, nil
}

type catalogServices struct {
	Node     string            `flag:"node"      doc:"Show the services of this node, by name or ID, only."`
	NodeMeta map[string]string `flag:"node-meta" doc:"Metadata that a service's node must have. May be given again."`
	Tags     bool              `flag:"tags"      doc:"Show the tags of each service."`
}

func (c *catalogServices) Run(ctx context.Context, e *Env) error {
	services, err := c.services(ctx, e)
	if err != nil {
		return failf("Error listing services: %w", err)
	}
	if len(services) == 0 {
		return e.nothing("services")
	}
	width, tagged := 0, false
	for name, tags := range services {
		width, tagged = max(width, len(name)), tagged || len(tags) > 0
	}
	for _, name := range slices.Sorted(maps.Keys(services)) {
		line := name
		if c.Tags && tagged {
			line = fmt.Sprintf("%-*s%s", width+6, name, strings.Join(slices.Sorted(slices.Values(services[name])), ","))
		}
		if err := e.printf("%s\n", line); err != nil {
			return err
		}
	}
	return nil
}

// services yields the tags of each service.
func (c *catalogServices) services(ctx context.Context, e *Env) (map[string][]string, error) {
	q := e.Query(ctx)
	q.NodeMeta = c.NodeMeta
	if c.Node == "" {
		services, _, err := e.Client().Catalog().Services(q)
		return services, err
	}
	node, _, err := e.Client().Catalog().Node(c.Node, q)
	if err != nil || node == nil {
		return nil, err
	}
	services := map[string][]string{}
	for _, s := range node.Services {
		services[s.Service] = append(services[s.Service], s.Tags...)
	}
	return services, nil
}

// nothing says on standard error that a list is empty, which is no failure.
func (e *Env) nothing(what string) error {
	_, err := fmt.Fprintf(e.Stderr, "No %s match the given query - try expanding your search.\n", what)
	return err
}

func pairs(m map[string]string) string {
	list := make([]string, 0, len(m))
	for _, key := range slices.Sorted(maps.Keys(m)) {
		list = append(list, key+"="+m[key])
	}
	return strings.Join(list, ", ")
}
