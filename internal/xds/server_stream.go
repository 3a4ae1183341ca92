package xds

import (
	"context"
	"errors"
	"fmt"
	"io"
	"sync"
	"time"

	core "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/peer"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/structpb"

	"isthmus/internal/telemetry"
)

const (
	// The first request names the proxy. Who does not say it in this time is none.
	helloPatience = 15 * time.Second
	// What a proxy says of itself is shown to operators and not kept beyond that.
	maxMetadata = 64 << 10
	maxID       = 512
	maxText     = 128

	tokenHeader = "x-consul-token"
)

// conn is the connection of a stream, whichever protocol it speaks. One goroutine
// sends, another one receives.
type conn interface {
	Send(p *response) error
	Recv() (*hello, *request, error)
}

// hello is what a client says of itself, in the first request at least.
type hello struct {
	id       string
	cluster  string
	version  string // of Envoy
	metadata map[string]string
	size     int // of the metadata
}

func newHello(n *core.Node) *hello {
	if n == nil {
		return nil
	}
	h := &hello{id: n.GetId(), cluster: clip(n.GetCluster(), maxText), size: proto.Size(n.GetMetadata())}
	if v := n.GetUserAgentBuildVersion().GetVersion(); v != nil {
		h.version = fmt.Sprintf("%d.%d.%d", v.GetMajorNumber(), v.GetMinorNumber(), v.GetPatch())
	} else {
		h.version = clip(n.GetUserAgentVersion(), maxText)
	}
	if h.size > maxMetadata {
		return h
	}
	h.metadata = make(map[string]string)
	for key, value := range n.GetMetadata().GetFields() {
		if text, ok := value.GetKind().(*structpb.Value_StringValue); ok {
			h.metadata[key] = text.StringValue
		}
	}
	return h
}

// stream is one stream of a proxy.
type stream struct {
	token string
	peer  string
	whole bool
	since time.Time

	mu      sync.Mutex
	hello   *hello // nil before the first request
	feed    *feed
	session session
}

// incoming is what was received.
type incoming struct {
	hello   *hello
	request *request
}

// serve answers one stream until it ends.
func (s *Server) serve(ctx context.Context, c conn, whole bool) error {
	t := &stream{
		token: token(ctx), whole: whole, since: time.Now(),
		session: session{whole: whole, maxNames: s.maxNames},
	}
	if p, ok := peer.FromContext(ctx); ok {
		t.peer = p.Addr.String()
	}
	if err := s.enter(t); err != nil {
		return err
	}
	defer s.leave(t)

	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	// The receiver ends when the stream does, which is when this function returns.
	requests, ended := make(chan incoming), make(chan error, 1)
	go func() {
		for {
			h, r, err := c.Recv()
			if err != nil {
				ended <- err
				return
			}
			select {
			case requests <- incoming{h, r}:
			case <-ctx.Done():
				return
			}
		}
	}()

	first, err := s.welcome(ctx, requests, ended)
	if err != nil {
		return stopped(err)
	}
	f := s.join(ctx, feedKey{first.hello.id, t.token})
	defer s.part(f)
	t.mu.Lock()
	t.hello, t.feed = first.hello, f
	t.mu.Unlock()
	s.log.Debug("stream of a proxy begins", "proxy", f.key.proxy, "peer", t.peer, "envoy", first.hello.version)
	if err := s.receive(t, first.request); err != nil {
		return err
	}
	err = s.pump(ctx, t, c, requests, ended)
	s.log.Debug("stream of a proxy ends", "proxy", f.key.proxy, "peer", t.peer, "err", err)
	return stopped(err)
}

// welcome waits for the first request.
func (s *Server) welcome(ctx context.Context, requests <-chan incoming, ended <-chan error) (in incoming, err error) {
	limit := time.NewTimer(helloPatience)
	defer limit.Stop()
	select {
	case in = <-requests:
	case err := <-ended:
		return in, err
	case <-limit.C:
		return in, status.Error(codes.DeadlineExceeded, "the first request did not come")
	case <-s.stop:
		return in, errStopping()
	case <-ctx.Done():
		return in, status.FromContextError(ctx.Err()).Err()
	}
	switch h := in.hello; {
	case h == nil || h.id == "":
		return in, status.Error(codes.InvalidArgument, "the first request must bear a node with the id of the proxy")
	case len(h.id) > maxID:
		return in, status.Errorf(codes.InvalidArgument, "the node id is over %d bytes", maxID)
	case h.size > maxMetadata:
		return in, status.Errorf(codes.InvalidArgument, "the node metadata are over %d bytes", maxMetadata)
	}
	return in, nil
}

// pump sends what the session has to say and takes what the client says.
func (s *Server) pump(ctx context.Context, t *stream, c conn, requests <-chan incoming, ended <-chan error) error {
	timer := time.NewTimer(time.Hour)
	defer timer.Stop()
	told := false
	for {
		v, changed, err := t.feed.now()
		if err != nil {
			return err
		}
		out, wake := t.next(v)
		if out != nil {
			if err := c.Send(out); err != nil {
				return err
			}
			if !told {
				told = true
				telemetry.XDSStart.Since(t.since)
			}
			continue
		}
		var due <-chan time.Time
		if !wake.IsZero() {
			timer.Reset(time.Until(wake))
			due = timer.C
		}
		select {
		case in := <-requests:
			if err := s.receive(t, in.request); err != nil {
				return err
			}
		case <-changed:
		case <-due:
		case err := <-ended:
			return err
		case <-s.stop:
			return errStopping()
		case <-ctx.Done():
			return status.FromContextError(ctx.Err()).Err()
		}
	}
}

// next asks the session what to send, and when to ask again.
func (t *stream) next(v *view) (*response, time.Time) {
	t.mu.Lock()
	defer t.mu.Unlock()
	now := time.Now()
	if v != t.session.view {
		t.session.update(now, v)
	}
	return t.session.next(now), t.session.wake(now)
}

// receive hands a request to the session.
func (s *Server) receive(t *stream, in *request) error {
	if in.typeURL == "" {
		return status.Error(codes.InvalidArgument, "a request over the aggregated stream must bear a type URL")
	}
	t.mu.Lock()
	refused, err := t.session.request(time.Now(), in)
	t.mu.Unlock()
	if in.refused {
		telemetry.XDSNacks.Count(shortType(in.typeURL))
	}
	if refused != nil {
		s.log.Warn("proxy refuses resources", "proxy", t.feed.key.proxy, "peer", t.peer,
			"type", shortType(in.typeURL), "names", refused.Names, "err", refused.Error)
	}
	return err
}

// token is the one the client sent, if any.
func token(ctx context.Context) string {
	if values := metadata.ValueFromIncomingContext(ctx, tokenHeader); len(values) > 0 {
		return values[0]
	}
	return ""
}

// stopped takes away ends that are none of the server's business.
func stopped(err error) error {
	if errors.Is(err, io.EOF) {
		return nil
	}
	return err
}
