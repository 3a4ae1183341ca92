package state

import (
	"maps"
	"reflect"
	"slices"
	"strings"

	"isthmus/api"
	"isthmus/internal/store"
	"isthmus/internal/wire"
)

// Register puts a node, an instance and checks into the catalog. What is already
// there as it should be keeps its index, so that nobody is woken by it.
var Register = Command[api.Registration, wire.Empty]{
	ID: 0, Name: "register",
	Apply: func(w *store.WriteTx, in *api.Registration) (out wire.Empty, err error) {
		t := touched{node: in.Node}
		if t.all, err = registerNode(w, in); err != nil {
			return out, err
		}
		if in.Service != nil && registerService(w, in.Node, in.Service) {
			t.owner(in.Service.ID)
		}
		all := in.Checks
		if in.Check != nil {
			all = append(slices.Clone(all), in.Check)
		}
		for _, c := range all {
			if err := registerCheck(w, &t, c); err != nil {
				return out, err
			}
		}
		t.join(w)
		return out, nil
	},
}

// registerNode reports whether the node is new or has changed.
func registerNode(w *store.WriteTx, in *api.Registration) (bool, error) {
	old := Node(w, in.Node)
	if old != nil && in.SkipNodeUpdate {
		return false, nil
	}
	row := &api.Node{
		ID: in.ID, Node: in.Node, Address: in.Address, Datacenter: in.Datacenter, PeerName: in.PeerName,
		TaggedAddresses: in.TaggedAddresses, Meta: in.NodeMeta, Locality: in.Locality,
	}
	if old == nil && row.ID != "" {
		if twin := NodeByID(w, row.ID); twin != nil {
			if err := renameNode(w, twin, row.Node); err != nil {
				return false, err
			}
		}
	}
	if old != nil && old.ID != "" {
		switch {
		case row.ID == "":
			row.ID = old.ID
		case row.ID != old.ID && alive(w, old.Node):
			return false, api.Errorf(api.Invalid, "node name %s is reserved by node %s with name %s (%s)", row.Node, old.ID, old.Node, old.Address)
		}
	}
	row.CreateIndex, row.ModifyIndex = w.Index(), w.Index()
	if old != nil {
		row.CreateIndex = old.CreateIndex
		if sameNode(old, row) {
			return false, nil
		}
	}
	nodes.Put(w, row)
	return true, nil
}

// renameNode takes a node out of the catalog whose id comes back under another
// name, unless the old name is still alive.
func renameNode(w *store.WriteTx, old *api.Node, name string) error {
	if alive(w, old.Node) {
		return api.Errorf(api.Invalid, "node %s with name %s cannot be renamed to %s while it is alive", old.ID, old.Node, name)
	}
	deregisterNode(w, old.Node)
	return nil
}

// alive tells whether gossip holds a node for alive.
func alive(r store.Reader, node string) bool {
	c := Check(r, node, api.SerfHealth)
	return c != nil && c.Status != api.Critical
}

// registerService reports whether the instance is new or has changed.
func registerService(w *store.WriteTx, node string, in *api.NodeService) bool {
	row := *in
	if row.Weights == nil {
		row.Weights = &api.Weights{Passing: 1, Warning: 1}
	}
	row.CreateIndex, row.ModifyIndex = w.Index(), w.Index()
	if old := Service(w, node, row.ID); old != nil {
		row.CreateIndex = old.CreateIndex
		if sameService(old, &row) {
			return false
		}
	}
	services.Put(w, newInstance(node, &row))
	return true
}

func registerCheck(w *store.WriteTx, t *touched, in *api.HealthCheck) error {
	row := *in
	row.Node = t.node
	if row.Status == "" {
		row.Status = api.Critical
	}
	if row.ServiceID != "" {
		s := Service(w, t.node, row.ServiceID)
		if s == nil {
			return api.Errorf(api.Invalid, "Unknown service ID '%s' for check ID '%s'", row.ServiceID, row.CheckID)
		}
		row.ServiceName, row.ServiceTags = s.Service, s.Tags
	}
	if row.ServiceTags == nil {
		row.ServiceTags = []string{}
	}
	row.CreateIndex, row.ModifyIndex = w.Index(), w.Index()
	if old := Check(w, t.node, row.CheckID); old != nil {
		row.CreateIndex = old.CreateIndex
		if sameCheck(old, &row) {
			return nil
		}
		t.owner(old.ServiceID)
	}
	t.owner(row.ServiceID)
	checks.Put(w, &row)
	return nil
}

// The comparisons leave the indexes out, and hold an empty list or map for the
// same as none, since the two come and go on the way through JSON and msgpack.

func sameNode(a, b *api.Node) bool {
	return a.ID == b.ID && a.Node == b.Node && a.Address == b.Address && a.Datacenter == b.Datacenter &&
		a.Partition == b.Partition && a.PeerName == b.PeerName &&
		maps.Equal(a.TaggedAddresses, b.TaggedAddresses) && maps.Equal(a.Meta, b.Meta) && reflect.DeepEqual(a.Locality, b.Locality)
}

func sameService(a, b *api.NodeService) bool {
	x, y := *a, *b
	for _, s := range []*api.NodeService{&x, &y} {
		s.RaftIndex = api.RaftIndex{}
		if len(s.Tags) == 0 {
			s.Tags = nil
		}
		if len(s.Meta) == 0 {
			s.Meta = nil
		}
		if len(s.TaggedAddresses) == 0 {
			s.TaggedAddresses = nil
		}
	}
	return reflect.DeepEqual(x, y)
}

func sameCheck(a, b *api.HealthCheck) bool {
	x, y := *a, *b
	for _, c := range []*api.HealthCheck{&x, &y} {
		c.RaftIndex = api.RaftIndex{}
		if len(c.ServiceTags) == 0 {
			c.ServiceTags = nil
		}
		if len(c.Definition.Header) == 0 {
			c.Definition.Header = nil
		}
		if len(c.Definition.ScriptArgs) == 0 {
			c.Definition.ScriptArgs = nil
		}
	}
	return reflect.DeepEqual(x, y)
}

// Deregister takes a node, or one of its instances or checks, out of the
// catalog. What is not there is gone already.
var Deregister = Command[api.Deregistration, wire.Empty]{
	ID: 1, Name: "deregister",
	Apply: func(w *store.WriteTx, in *api.Deregistration) (out wire.Empty, err error) {
		t := touched{node: in.Node}
		switch {
		case in.ServiceID != "":
			t.owner(in.ServiceID)
			deregisterService(w, in.Node, in.ServiceID)
		case in.CheckID != "":
			if c := Check(w, in.Node, in.CheckID); c != nil {
				t.owner(c.ServiceID)
				checks.Delete(w, store.Join(strings.ToLower(in.Node), in.CheckID))
			}
		default:
			deregisterNode(w, in.Node)
		}
		t.join(w)
		return out, nil
	},
}

func deregisterService(w *store.WriteTx, node, id string) {
	if !services.Delete(w, ownerKey(node, id)) {
		return
	}
	for _, c := range slices.Collect(checksByOwner.Get(w, ownerKey(node, id))) {
		checks.Delete(w, store.Join(strings.ToLower(c.Node), c.CheckID))
	}
}

func deregisterNode(w *store.WriteTx, node string) {
	joined.DeletePrefix(w, nodeKey(node))
	services.DeletePrefix(w, nodeKey(node))
	checks.DeletePrefix(w, nodeKey(node))
	coordinates.DeletePrefix(w, nodeKey(node))
	nodes.Delete(w, nodeKey(node))
}

// Records of a snapshot: a registration each for the node, its instances and its
// checks.

func nodeRecord(n *api.Node) any {
	return api.Registration{
		Datacenter: n.Datacenter, ID: n.ID, Node: n.Node, Address: n.Address, TaggedAddresses: n.TaggedAddresses,
		NodeMeta: n.Meta, PeerName: n.PeerName, Locality: n.Locality, RaftIndex: n.RaftIndex,
	}
}

func serviceRecord(s *instance) any {
	return api.Registration{Node: s.node, Service: s.NodeService}
}

func checkRecord(c *api.HealthCheck) any {
	return api.Registration{Node: c.Node, Check: c}
}

// restoreRegistration puts back what a record holds: rows with the indexes they
// had. A record with an instance or check brings no node of its own.
func restoreRegistration(w *store.WriteTx, r *api.Registration) error {
	if r.Service != nil {
		services.Put(w, newInstance(r.Node, r.Service))
	}
	if r.Check != nil {
		checks.Put(w, r.Check)
	}
	for _, c := range r.Checks {
		checks.Put(w, c)
	}
	if r.Service == nil && r.Check == nil && len(r.Checks) == 0 || r.Address != "" && Node(w, r.Node) == nil {
		nodes.Put(w, &api.Node{
			Datacenter: r.Datacenter, ID: r.ID, Node: r.Node, Address: r.Address, TaggedAddresses: r.TaggedAddresses,
			Meta: r.NodeMeta, PeerName: r.PeerName, Locality: r.Locality, RaftIndex: r.RaftIndex,
		})
	}
	return nil
}
