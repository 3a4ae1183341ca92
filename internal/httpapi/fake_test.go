package httpapi

import (
	"context"
	"fmt"
	"io"
	"iter"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"strings"
	"testing"

	"isthmus/api"
	"isthmus/internal/gossip"
	"isthmus/internal/rpc"
)

// fakeCaller answers methods by name.
type fakeCaller map[string]func(ctx context.Context, r *rpc.Request) (rpc.Meta, error)

func (f fakeCaller) Call(ctx context.Context, r *rpc.Request) (rpc.Meta, error) {
	answer := f[r.Name]
	if answer == nil {
		return rpc.Meta{}, fmt.Errorf("unexpected call of %s", r.Name)
	}
	return answer(ctx, r)
}

// on makes f the answer to m.
func on[In, Out any](f fakeCaller, m rpc.Method[In, Out], answer func(h rpc.Header, in *In) (Out, rpc.Meta, error)) {
	f[m.Name] = func(_ context.Context, r *rpc.Request) (rpc.Meta, error) {
		in, okIn := r.In.(*In)
		out, okOut := r.Out.(*Out)
		if !okIn || !okOut {
			return rpc.Meta{}, fmt.Errorf("%s called with %T and %T", m.Name, r.In, r.Out)
		}
		var meta rpc.Meta
		var err error
		*out, meta, err = answer(r.Header, in)
		return meta, err
	}
}

// fakePool is a pool with fixed members.
type fakePool struct {
	members []gossip.Member
	joined  []string
	left    []string
	err     error
}

func (p *fakePool) Members() []gossip.Member { return p.members }
func (p *fakePool) Local() gossip.Member     { return p.members[0] }

func (p *fakePool) Join(_ context.Context, addrs []string) (int, error) {
	p.joined = append(p.joined, addrs...)
	return len(addrs), p.err
}

func (p *fakePool) ForceLeave(name string, prune bool) error {
	p.left = append(p.left, fmt.Sprintf("%s prune=%v", name, prune))
	return p.err
}

func newPool(names ...string) *fakePool {
	p := &fakePool{}
	for _, name := range names {
		p.members = append(p.members, gossip.Member{
			Name: name, Addr: netip.MustParseAddr("127.0.0.1"), Port: 8301, Status: gossip.StatusAlive,
			Tags: map[string]string{"role": "consul"},
		})
	}
	return p
}

// fakeLocal is services and checks in two maps.
type fakeLocal struct {
	services map[string]*api.NodeService
	checks   map[string]*api.HealthCheck
	added    []any
	err      error
}

func (l *fakeLocal) AddService(def api.ServiceDefinition, replace bool) error {
	l.added = append(l.added, def, replace)
	return l.err
}

func (l *fakeLocal) AddCheck(def api.CheckType, service string) error {
	l.added = append(l.added, def, service)
	return l.err
}

func (l *fakeLocal) RemoveService(id string) error {
	if l.services[id] == nil {
		return api.Errorf(api.NotFound, "no service %q", id)
	}
	delete(l.services, id)
	return nil
}

func (l *fakeLocal) RemoveCheck(id string) error {
	if l.checks[id] == nil {
		return api.Errorf(api.NotFound, "no check %q", id)
	}
	delete(l.checks, id)
	return nil
}

func (l *fakeLocal) UpdateTTL(id, status, output string) error {
	if l.checks[id] == nil {
		return api.Errorf(api.NotFound, "no check %q", id)
	}
	l.checks[id].Status, l.checks[id].Output = status, output
	return nil
}

func (l *fakeLocal) SetMaintenance(string, bool, string) error { return l.err }

func (l *fakeLocal) Service(id string) *api.NodeService { return l.services[id] }

// Follow yields the service once: nothing changes by itself.
func (l *fakeLocal) Follow(ctx context.Context, id string) iter.Seq[*api.NodeService] {
	return func(yield func(*api.NodeService) bool) {
		if yield(l.services[id]) {
			<-ctx.Done()
		}
	}
}

func (l *fakeLocal) Services() map[string]*api.NodeService { return l.services }
func (l *fakeLocal) Checks() map[string]*api.HealthCheck   { return l.checks }

func config(caller rpc.Caller) Config {
	return Config{
		Datacenter: "dc1", Primary: "dc1", Node: "n1", NodeID: "id1", Build: "1.16.4", Version: "0.1", Server: true,
		Caller: caller, Local: &fakeLocal{}, LAN: newPool("n1", "n2"), WAN: newPool("n1.dc1", "n2.dc1"),
		Leave: func(context.Context) error { return nil }, Reload: func() error { return nil },
	}
}

// do sends a request; headers are pairs of name and value.
func do(t testing.TB, h http.Handler, method, target, body string, headers ...string) *httptest.ResponseRecorder {
	t.Helper()
	var r io.Reader
	if body != "" {
		r = strings.NewReader(body)
	}
	req := httptest.NewRequestWithContext(t.Context(), method, target, r)
	for i := 0; i+1 < len(headers); i += 2 {
		req.Header.Set(headers[i], headers[i+1])
	}
	w := httptest.NewRecorder()
	h.ServeHTTP(w, req)
	return w
}
