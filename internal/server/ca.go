package server

import (
	"context"
	"fmt"
	"slices"

	"isthmus/api"
	"isthmus/internal/acl"
	"isthmus/internal/ca"
	"isthmus/internal/rpc"
	"isthmus/internal/state"
	"isthmus/internal/store"
	"isthmus/internal/wire"
)

// provider holds the keys. A server uses the half that fits its datacenter.
type provider interface {
	issuer
	subordinate
}

// issuer is the authority of the primary datacenter.
type issuer interface {
	// Root returns the root certificate, which the first call makes.
	Root(ctx context.Context) (string, error)
	// SignIntermediate signs the request of a secondary.
	SignIntermediate(ctx context.Context, request string) (string, error)
}

// subordinate is the authority of a secondary datacenter.
type subordinate interface {
	// Intermediate returns the intermediate and the root it leads to, or nothing.
	Intermediate() (cert, root string)
	// Renew has a new intermediate signed under a root.
	Renew(ctx context.Context, root string, sign func(ctx context.Context, csr string) (string, error)) error
}

// The protocol's errors of the authority.
var (
	errNoConnect  = api.Errorf(api.Internal, "Connect must be enabled in order to use this endpoint")
	errNotPrimary = api.Errorf(api.Internal, "not the primary datacenter")
	errNoCA       = api.Errorf(api.Internal, "CA has not finished initializing")
)

func bindCA(s *Server) {
	enabled := func() error {
		if !s.cfg.Connect {
			return errNoConnect
		}
		return nil
	}
	bindRead(s, wire.CARoots, Read[wire.DCQuery, api.CARoots]{
		Allow: func(acl.Authorizer, *wire.DCQuery) error { return enabled() }, // anybody may know whom the mesh trusts
		Run:   func(tx *store.Tx, _ *wire.DCQuery) (api.CARoots, error) { return trusted(tx) },
	})
	bindRead(s, wire.CAConfiguration, Read[wire.DCQuery, api.CAConfiguration]{
		Allow: func(z acl.Authorizer, _ *wire.DCQuery) error {
			if err := enabled(); err != nil {
				return err
			}
			return z.Allow(acl.Operator, "", acl.Write) //nolint:wrapcheck // the protocol's error
		},
		Run: func(tx *store.Tx, _ *wire.DCQuery) (api.CAConfiguration, error) {
			if c := state.CAConfig(tx); c != nil {
				return *c, nil
			}
			return api.CAConfiguration{}, errNoCA
		},
	})
	d := wire.CASignIntermediate.Desc()
	rpc.Bind(s.handlers, wire.CASignIntermediate, func(ctx context.Context, h rpc.Header, in *wire.SignRequest) (out string, meta rpc.Meta, err error) {
		if err := enabled(); err != nil {
			return "", rpc.Meta{}, err
		}
		if s.cfg.Primary != s.cfg.Datacenter {
			return "", rpc.Meta{}, errNotPrimary
		}
		meta, err = s.route(ctx, &rpc.Request{Desc: d, Header: h, In: in, Out: &out}, func() (rpc.Meta, error) {
			out, err = s.signIntermediate(ctx, h.Token, in.CSR)
			return rpc.Meta{}, err
		})
		return out, meta, err
	})
}

// trusted is what the mesh trusts, without keys.
func trusted(tx *store.Tx) (api.CARoots, error) {
	cfg := state.CAConfig(tx)
	out := api.CARoots{Roots: []*api.CARoot{}}
	for root := range state.CARoots(tx) {
		row := *root
		row.SigningCert, row.SigningKey = "", ""
		out.Roots = append(out.Roots, &row)
		if row.Active {
			out.ActiveRootID = row.ID
		}
	}
	if cfg == nil || cfg.ClusterID == "" || out.ActiveRootID == "" {
		return api.CARoots{}, errNoCA
	}
	out.TrustDomain = ca.TrustDomain(cfg.ClusterID)
	return out, nil
}

func (s *Server) signIntermediate(ctx context.Context, token, request string) (string, error) {
	z, err := s.authorizer(token)
	if err != nil {
		return "", err
	}
	if err := z.Allow(acl.Operator, "", acl.Write); err != nil {
		return "", err //nolint:wrapcheck // the protocol's error
	}
	tx := s.state.Read()
	if _, err := trusted(tx); err != nil {
		return "", err
	}
	p, err := s.provider(state.CAConfig(tx))
	if err != nil {
		return "", err
	}
	cert, err := p.SignIntermediate(ctx, request)
	if err != nil {
		return "", fmt.Errorf("sign intermediate: %w", err)
	}
	s.cfg.Log.Info("intermediate certificate signed for another datacenter")
	return cert, nil
}

// provider is the provider that a configuration names.
func (s *Server) provider(cfg *api.CAConfiguration) (provider, error) {
	if cfg.Provider != ca.Provider {
		return nil, api.Errorf(api.NotBuilt, "CA provider %q is not built yet", cfg.Provider)
	}
	settings, err := ca.ParseSettings(cfg.Config)
	if err != nil {
		return nil, fmt.Errorf("CA configuration: %w", err)
	}
	return &ca.Builtin{Settings: settings, ClusterID: cfg.ClusterID, Store: caStore{s}}, nil
}

// caStore keeps the provider's state in the log.
type caStore struct{ server *Server }

// Load implements ca.Store.
func (c caStore) Load(id string) *ca.State { return state.CAState(c.server.state.Read(), id) }

// Save implements ca.Store.
func (c caStore) Save(ctx context.Context, s *ca.State) error {
	return c.server.changeCA(ctx, state.CARequest{Op: state.CASetState, ProviderState: s})
}

// Serial implements ca.Store.
func (c caStore) Serial(ctx context.Context) (uint64, error) {
	out, _, err := apply(ctx, c.server, &state.CAApply, &state.CARequest{Op: state.CANextSerial})
	return out.Serial, err
}

// changeCA appends a change whose condition must be met.
func (s *Server) changeCA(ctx context.Context, in state.CARequest) error {
	out, _, err := apply(ctx, s, &state.CAApply, &in)
	if err == nil && !out.Done {
		err = fmt.Errorf("%s: the authority was changed by another server", in.Op)
	}
	return err
}

// storeRoots makes the stored roots and configuration what they should be. It
// writes nothing when they are.
func (s *Server) storeRoots(ctx context.Context, cfg api.CAConfiguration, roots []*api.CARoot) error {
	tx := s.state.Read()
	stored := slices.Collect(state.CARoots(tx))
	old := state.CAConfig(tx)
	same := !slices.ContainsFunc(roots, func(r *api.CARoot) bool {
		return !slices.ContainsFunc(stored, func(o *api.CARoot) bool { return sameRoot(o, r) })
	})
	if same && len(roots) == len(stored) && old != nil && old.ClusterID == cfg.ClusterID {
		return nil
	}
	cfg.RaftIndex = api.RaftIndex{}
	return s.changeCA(ctx, state.CARequest{Op: state.CASetRootsConfig, Index: state.CARootsIndex(tx), Roots: roots, Config: &cfg})
}

// sameRoot compares what may change of a root. Its id says what its certificate
// is.
func sameRoot(a, b *api.CARoot) bool {
	return a.ID == b.ID && a.Active == b.Active && a.Name == b.Name && a.SigningKeyID == b.SigningKeyID &&
		a.ExternalTrustDomain == b.ExternalTrustDomain && a.RotatedOutAt.Equal(b.RotatedOutAt) &&
		slices.Equal(a.IntermediateCerts, b.IntermediateCerts)
}
