package state

import (
	"iter"
	"slices"
	"strings"

	"isthmus/api"
	"isthmus/internal/store"
)

// The instances with their nodes and checks. The rows follow from those of nodes,
// services and checks, so no snapshot holds them; each is put anew when one of its
// parts changes. So the busiest reads walk one tree and wait for one subtree.
var (
	joined       = store.NewTable("instances", func(i *api.Instance) store.Key { return ownerKey(i.Node.Node, i.Service.ID) })
	joinedByName = joined.By("name", func(i *api.Instance) []store.Key {
		return []store.Key{store.Text(strings.ToLower(i.Service.Service))}
	})
	joinedByConnect = joined.By("connect", func(i *api.Instance) []store.Key { return connectKeys(i.Service) })
	joinedByKind    = joined.By("kind", func(i *api.Instance) []store.Key {
		if i.Service.Kind == "" {
			return nil
		}
		return []store.Key{store.Text(i.Service.Kind)}
	})
)

// Instances yields the instances of a service with their nodes and checks,
// ordered by node and id.
func Instances(r store.Reader, name string) iter.Seq[*api.Instance] {
	return joinedByName.Get(r, store.Text(strings.ToLower(name)))
}

// ConnectInstances yields the instances that take the mesh traffic of a service.
func ConnectInstances(r store.Reader, name string) iter.Seq[*api.Instance] {
	return joinedByConnect.Get(r, store.Text(strings.ToLower(name)))
}

// InstancesOfKind yields the instances of a kind, such as mesh-gateway.
func InstancesOfKind(r store.Reader, kind string) iter.Seq[*api.Instance] {
	return joinedByKind.Get(r, store.Text(kind))
}

// AllInstances yields every instance.
func AllInstances(r store.Reader) iter.Seq[*api.Instance] { return joined.All(r) }

// touched is what a command has changed of a node: the node itself or a check of
// it, or some of its instances and their checks.
type touched struct {
	node string
	all  bool
	ids  []string
}

// owner notes a change of a check by whose it is.
func (t *touched) owner(serviceID string) {
	switch {
	case serviceID == "":
		t.all = true
	case !slices.Contains(t.ids, serviceID):
		t.ids = append(t.ids, serviceID)
	}
}

// join puts the instances anew that a change concerns.
func (t *touched) join(w *store.WriteTx) {
	if t.all {
		for row := range services.Prefix(w, nodeKey(t.node)) {
			join(w, row)
		}
		return
	}
	for _, id := range t.ids {
		if row := services.Get(w, ownerKey(t.node, id)); row != nil {
			join(w, row)
		} else {
			joined.Delete(w, ownerKey(t.node, id))
		}
	}
}

// usualChecks is how many checks most instances have: one of the node and their own.
const usualChecks = 2

// join puts an instance together again, unless it is as it was. An instance
// without a node is none.
func join(w *store.WriteTx, row *instance) {
	node := nodes.Get(w, row.at)
	if node == nil {
		joined.Delete(w, row.own)
		return
	}
	all := make([]*api.HealthCheck, 0, usualChecks)
	for _, owner := range [...]store.Key{ownerKey(row.node, ""), row.own} {
		for c := range checksByOwner.Get(w, owner) {
			all = append(all, c)
		}
	}
	old := joined.Get(w, row.own)
	if old != nil && old.Node == node && old.Service == row.NodeService && slices.Equal(old.Checks, all) {
		return
	}
	joined.Put(w, &api.Instance{CheckServiceNode: api.CheckServiceNode{Node: node, Service: row.NodeService, Checks: all}})
}
