package cli

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"log/slog"
	"net/http"
	"net/url"
	"reflect"
	"time"

	consul "github.com/hashicorp/consul/api"

	"isthmus/api"
	"isthmus/internal/rpc"
	"isthmus/internal/wire"
)

// sourceWait is how long one blocking read waits.
const sourceWait = 5 * time.Minute

// agentSource is an rpc.Caller that answers from the HTTP API of any agent, ours
// or the reference's, what a mesh gateway asks for. Other methods are not built:
// HTTP has no route for them.
type agentSource struct{ client *consul.Client }

// Call implements rpc.Caller. The HTTP API shows the methods' own types.
func (s agentSource) Call(ctx context.Context, r *rpc.Request) (rpc.Meta, error) {
	path, err := sourcePath(r)
	if err != nil {
		return rpc.Meta{}, err
	}
	h := &r.Header
	opts := &consul.QueryOptions{Datacenter: h.Datacenter, Token: h.Token, AllowStale: h.AllowStale, WaitIndex: h.MinIndex}
	if h.MinIndex > 0 {
		if opts.WaitTime = h.MaxWait; opts.WaitTime == 0 {
			opts.WaitTime = sourceWait
		}
	}
	meta, err := s.client.Raw().Query(path, r.Out, opts.WithContext(ctx))
	if err != nil {
		return rpc.Meta{}, sourceError(path, err)
	}
	return rpc.Meta{
		Index: meta.LastIndex, LastContact: meta.LastContact, KnownLeader: meta.KnownLeader, Filtered: meta.ResultsFilteredByACLs,
	}, nil
}

// sourcePath is the route that answers a method.
func sourcePath(r *rpc.Request) (string, error) {
	switch r.Name {
	case wire.CARoots.Name:
		return "/v1/agent/connect/ca/roots", nil
	case wire.CatalogDatacenters.Name:
		return "/v1/catalog/datacenters", nil
	case wire.FederationGateways.Name:
		return "/v1/internal/federation-states/mesh-gateways", nil
	case wire.HealthServiceNodes.Name:
		if in, ok := r.In.(*wire.ServiceQuery); ok {
			return "/v1/health/service/" + url.PathEscape(in.ServiceName), nil
		}
	}
	return "", api.Errorf(api.NotBuilt, "no route of the HTTP API answers %s", r.Name)
}

// sourceError tells an agent that lacks a route from one that cannot answer now.
func sourceError(path string, err error) error {
	var status consul.StatusError
	if errors.As(err, &status) && (status.Code == http.StatusNotFound || status.Code == http.StatusNotImplemented) {
		return api.Errorf(api.NotBuilt, "the agent does not answer %s: %w", path, err)
	}
	return fmt.Errorf("ask the agent for %s: %w", path, err)
}

// registered is what the agent knows of a gateway under an id, which somebody else
// has registered.
func (s agentSource) registered(id string, log *slog.Logger) gatewayOf {
	return func(ctx context.Context) iter.Seq[*api.NodeService] {
		return func(yield func(*api.NodeService) bool) {
			var last *api.NodeService
			for told := false; ; {
				found, err := s.service(ctx, id)
				switch {
				case err == nil:
					told = false
				case api.CodeOf(err) != api.NotBuilt:
					found = last // the agent cannot tell at the moment
				case !told:
					told = true
					log.Warn("the gateway is not registered: routes wait for that, or for -register", "id", id)
				}
				if !reflect.DeepEqual(found, last) && !yield(found) {
					return
				}
				last = found
				select {
				case <-ctx.Done():
					return
				case <-time.After(lookAgain):
				}
			}
		}
	}
}

// service asks for the registration under an id.
func (s agentSource) service(ctx context.Context, id string) (*api.NodeService, error) {
	path := "/v1/agent/service/" + url.PathEscape(id)
	var found *api.NodeService
	if _, err := s.client.Raw().Query(path, &found, (&consul.QueryOptions{}).WithContext(ctx)); err != nil {
		return nil, sourceError(path, err)
	}
	return found, nil
}
