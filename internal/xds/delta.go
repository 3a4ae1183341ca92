package xds

import (
	"time"

	discovery "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

// anyName subscribes to all resources of a type; an empty name says the same.
const anyName = "*"

// DeltaAggregatedResources implements the incremental service.
func (s *Server) DeltaAggregatedResources(stream discovery.AggregatedDiscoveryService_DeltaAggregatedResourcesServer) error {
	return s.serve(stream.Context(), deltaConn{stream}, false)
}

type deltaConn struct {
	stream discovery.AggregatedDiscoveryService_DeltaAggregatedResourcesServer
}

// Recv implements conn.
func (c deltaConn) Recv() (*hello, *request, error) {
	in, err := c.stream.Recv()
	if err != nil {
		return nil, nil, err
	}
	return newHello(in.GetNode()), &request{
		typeURL: in.GetTypeUrl(), nonce: in.GetResponseNonce(),
		refused: in.GetErrorDetail() != nil, reason: in.GetErrorDetail().GetMessage(),
		subscribe: in.GetResourceNamesSubscribe(), unsubscribe: in.GetResourceNamesUnsubscribe(),
		initial: in.GetInitialResourceVersions(),
	}, nil
}

// Send implements conn.
func (c deltaConn) Send(p *response) error {
	out := &discovery.DeltaDiscoveryResponse{
		TypeUrl: kinds[p.kind], Nonce: p.nonce, RemovedResources: p.removed,
		Resources: make([]*discovery.Resource, len(p.resources)),
	}
	for i, r := range p.resources {
		out.Resources[i] = &discovery.Resource{Name: r.Name, Version: r.Version, Resource: r.Body}
	}
	return c.stream.Send(out)
}

// requestDelta takes a request of the incremental protocol. Subscriptions count
// whatever the nonce is; only what is on its way can be taken or refused.
func (s *session) requestDelta(now time.Time, kind int, in *request) (*Rejection, error) {
	sub := s.subs[kind]
	if sub == nil {
		sub = &subscription{kind: kind, names: make(map[string]struct{}), have: make(map[string]string)}
		s.subs[kind] = sub
		if err := s.beginDelta(sub, in); err != nil {
			return nil, err
		}
	} else {
		// Asking again for what the client has means: send it again.
		for _, name := range in.subscribe {
			if !sub.subscribe(name) {
				sub.force(name)
			}
		}
	}
	for _, name := range in.unsubscribe {
		sub.unsubscribe(name)
	}
	if len(sub.names) > s.maxNames {
		return nil, errNames(s.maxNames)
	}
	if p := sub.pending; p != nil && in.nonce == p.nonce {
		return s.answer(now, sub, in), nil
	}
	return nil, nil
}

// beginDelta takes the first request of a type, which may say what the client
// kept of an earlier stream.
func (s *session) beginDelta(sub *subscription, in *request) error {
	if len(in.initial) > s.maxNames {
		return errNames(s.maxNames)
	}
	// Only these two types know the older form of a wildcard, naming nothing.
	sub.wildcard = len(in.subscribe) == 0 && (sub.kind == clusters || sub.kind == listeners)
	for _, name := range in.subscribe {
		sub.subscribe(name)
	}
	for name, version := range in.initial {
		if sub.wants(name) && version != "" {
			sub.have[name] = version
		}
	}
	sub.answered = len(sub.have) > 0 || !sub.wildcard
	return nil
}

// subscribe adds a name. It returns false for a single resource, which must be
// sent in any case.
func (u *subscription) subscribe(name string) bool {
	if name == anyName || name == "" {
		if !u.wildcard {
			u.wildcard, u.answered = true, false
		}
		return true
	}
	u.names[name] = struct{}{}
	return false
}

// unsubscribe takes a name away. A client that has a wildcard besides cannot know
// whether that covers the name, so it is told.
func (u *subscription) unsubscribe(name string) {
	if name == anyName || name == "" {
		u.wildcard, u.answered = false, true
		u.prune()
		return
	}
	if _, ok := u.names[name]; !ok {
		return
	}
	delete(u.names, name)
	if u.wildcard {
		u.force(name)
		return
	}
	u.drop(name)
}

func errNames(limit int) error {
	return status.Errorf(codes.ResourceExhausted, "more than %d names of one type", limit)
}
