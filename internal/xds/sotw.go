package xds

import (
	"time"

	discovery "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"
	"google.golang.org/protobuf/types/known/anypb"
)

// StreamAggregatedResources implements the state-of-the-world service.
func (s *Server) StreamAggregatedResources(stream discovery.AggregatedDiscoveryService_StreamAggregatedResourcesServer) error {
	return s.serve(stream.Context(), wholeConn{stream}, true)
}

type wholeConn struct {
	stream discovery.AggregatedDiscoveryService_StreamAggregatedResourcesServer
}

// Recv implements conn.
func (c wholeConn) Recv() (*hello, *request, error) {
	in, err := c.stream.Recv()
	if err != nil {
		return nil, nil, err
	}
	return newHello(in.GetNode()), &request{
		typeURL: in.GetTypeUrl(), nonce: in.GetResponseNonce(),
		refused: in.GetErrorDetail() != nil, reason: in.GetErrorDetail().GetMessage(),
		names: in.GetResourceNames(), version: in.GetVersionInfo(),
	}, nil
}

// Send implements conn.
func (c wholeConn) Send(p *response) error {
	out := &discovery.DiscoveryResponse{
		TypeUrl: kinds[p.kind], Nonce: p.nonce, VersionInfo: p.version,
		Resources: make([]*anypb.Any, len(p.resources)),
	}
	for i, r := range p.resources {
		out.Resources[i] = r.Body
	}
	return c.stream.Send(out)
}

// requestWhole takes a request of the state-of-the-world protocol: each says all
// that the client wants, and one that answers an older response than the last is
// out of date altogether.
func (s *session) requestWhole(now time.Time, kind int, in *request) (*Rejection, error) {
	if len(in.names) > s.maxNames {
		return nil, errNames(s.maxNames)
	}
	sub := s.subs[kind]
	if sub == nil {
		sub = &subscription{kind: kind, have: make(map[string]string), claim: in.version}
		s.subs[kind] = sub
		sub.replace(in.names)
		sub.answered = !sub.wildcard
		return nil, nil
	}
	if in.nonce != "" && in.nonce != sub.last {
		return nil, nil
	}
	var fresh *Rejection
	if sub.pending != nil && in.nonce == sub.last {
		fresh = s.answer(now, sub, in)
	}
	sub.replace(in.names)
	return fresh, nil
}

// replace sets all names a client wants. Naming nothing is a wildcard, for the
// types that know it, until the client names something.
func (u *subscription) replace(names []string) {
	u.explicit = u.explicit || len(names) > 0
	wildcard := !u.explicit && (u.kind == clusters || u.kind == listeners)
	u.names = make(map[string]struct{}, len(names))
	for _, name := range names {
		if name == anyName || name == "" {
			wildcard = true
			continue
		}
		u.names[name] = struct{}{}
	}
	if wildcard && !u.wildcard {
		u.answered = false
	}
	u.wildcard = wildcard
	u.prune()
}
