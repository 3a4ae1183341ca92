package cli

import (
	"context"
	"errors"
	"strings"
	"time"

	consul "github.com/hashicorp/consul/api"
)

type rtt struct {
	WAN bool `flag:"wan" doc:"Compare servers by their WAN coordinates; their names end in a period and the datacenter."`

	Nodes []string `arg:"[node...]"`
}

func (c *rtt) Run(ctx context.Context, e *Env) error {
	if len(c.Nodes) == 0 || len(c.Nodes) > 2 {
		return usageError{errors.New("One or two node names must be specified")} //nolint:staticcheck // the text of Consul's command
	}
	from, to := c.Nodes[0], c.Nodes[len(c.Nodes)-1]
	if len(c.Nodes) == 1 {
		var err error
		if to, err = c.own(e); err != nil {
			return failf("Unable to look up agent info: %w", err)
		}
	}
	kind, find := "LAN", lanCoordinates
	if c.WAN {
		kind, find = "WAN", wanCoordinates
		if strings.Count(from, ".") != 1 || strings.Count(to, ".") != 1 {
			return failf("Node names must be specified as <node name>.<datacenter> with -wan")
		}
	}
	all, err := find(ctx, e)
	if err != nil {
		return failf("Error getting coordinates: %w", err)
	}
	var pair [2]consul.CoordinateEntry
	for i, name := range []string{from, to} {
		found := all[strings.ToLower(name)]
		if found == nil || found.Coord == nil || i > 0 && len(found.Coord.Vec) != len(pair[0].Coord.Vec) {
			return failf("Could not find a coordinate for node %q", name)
		}
		pair[i] = *found
	}
	ms := float64(pair[0].Coord.DistanceTo(pair[1].Coord)) / float64(time.Millisecond)
	return e.printf("Estimated %s <-> %s rtt: %.3f ms (using %s coordinates)\n", from, to, ms, kind)
}

// own is the name of the node that is asked.
func (c *rtt) own(e *Env) (string, error) {
	self, err := e.Client().Agent().Self()
	if err != nil {
		return "", err
	}
	text := func(key string) string {
		s, _ := self["Config"][key].(string)
		return s
	}
	if c.WAN {
		return text("NodeName") + "." + text("Datacenter"), nil
	}
	return text("NodeName"), nil
}

// lanCoordinates are those of the datacenter's nodes, by name.
func lanCoordinates(ctx context.Context, e *Env) (map[string]*consul.CoordinateEntry, error) {
	list, _, err := e.Client().Coordinate().Nodes(e.Query(ctx))
	out := map[string]*consul.CoordinateEntry{}
	for _, c := range list {
		out[strings.ToLower(c.Node)] = c
	}
	return out, err
}

// wanCoordinates are those of the servers of every datacenter, by the names that
// they have in the WAN pool.
func wanCoordinates(_ context.Context, e *Env) (map[string]*consul.CoordinateEntry, error) {
	dcs, err := e.Client().Coordinate().Datacenters()
	out := map[string]*consul.CoordinateEntry{}
	for _, dc := range dcs {
		for i := range dc.Coordinates {
			c := &dc.Coordinates[i]
			out[strings.ToLower(c.Node+"."+dc.Datacenter)] = c
		}
	}
	return out, err
}
