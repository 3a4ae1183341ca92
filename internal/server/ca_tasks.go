package server

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"golang.org/x/sync/errgroup"

	"isthmus/api"
	"isthmus/internal/ca"
	"isthmus/internal/rpc"
	"isthmus/internal/state"
	"isthmus/internal/wire"
)

// How long the authority waits before it tries again, doubling from the first to
// the last, and how often a secondary looks at its intermediate although nothing
// happened: clocks may be set.
const (
	caRetryFirst = 250 * time.Millisecond
	caRetryLast  = 30 * time.Second
	caLookEvery  = time.Hour
)

// primaryRoots is what was last heard of the primary: its roots, or why they are
// not known.
type primaryRoots struct {
	roots *api.CARoots
	err   error
}

// keepCA runs the authority of the mesh. In the primary the root is made once; a
// secondary follows the primary's roots and keeps an intermediate under the one
// in use.
func (s *Server) keepCA(ctx context.Context) error {
	if s.cfg.Primary == s.cfg.Datacenter {
		return s.keep(ctx, nil, func(ctx context.Context, _ primaryRoots) (time.Duration, error) {
			return caLookEvery, s.makeRoot(ctx)
		})
	}
	updates := make(chan primaryRoots)
	g, ctx := errgroup.WithContext(ctx)
	g.Go(func() error {
		h := rpc.Header{Token: s.cfg.Token}
		for update, err := range wire.CARoots.Watch(ctx, s.primary, h, wire.DCQuery{}) {
			heard := primaryRoots{&update.Out, err}
			if err != nil {
				heard.roots = nil
			}
			select {
			case updates <- heard:
			case <-ctx.Done():
			}
		}
		return nil
	})
	g.Go(func() error { return s.keep(ctx, updates, s.followRoots) })
	return g.Wait() //nolint:wrapcheck // the loop's own
}

// keep calls step at each update, or at once where there are none, and again when
// step said, until ctx is done. While step fails it is called again, later each
// time, and what is wrong is told once an hour.
func (s *Server) keep(
	ctx context.Context, updates <-chan primaryRoots, step func(context.Context, primaryRoots) (time.Duration, error),
) error {
	timer := time.NewTimer(0)
	defer timer.Stop()
	if updates != nil {
		timer.Stop()
	}
	var last primaryRoots
	problem, retry := "not tried yet", caRetryFirst
	var told time.Time
	for {
		select {
		case <-ctx.Done():
			return nil
		case u := <-updates:
			if u.err != nil && last.roots != nil {
				continue // what the primary said last still counts
			}
			last = u
		case <-timer.C:
		}
		wait, err := step(ctx, last)
		switch {
		case ctx.Err() != nil:
			return nil
		case err == nil:
			if problem != "" {
				s.cfg.Log.Info("certificate authority of the mesh is up to date")
			}
			problem, retry = "", caRetryFirst
		default:
			if err.Error() != problem || time.Since(told) > caLookEvery {
				s.cfg.Log.Warn("certificate authority of the mesh is not up to date, trying again", "err", err)
				told = time.Now()
			}
			problem, wait, retry = err.Error(), retry, min(2*retry, caRetryLast)
		}
		timer.Reset(wait)
	}
}

// caConfig returns the stored configuration. The first leader of a datacenter
// makes it of the settings; from then on the stored one counts.
func (s *Server) caConfig(ctx context.Context, clusterID string) (api.CAConfiguration, error) {
	if c := state.CAConfig(s.state.Read()); c != nil {
		return *c, nil
	}
	in := state.CARequest{Op: state.CASetConfig, Config: &api.CAConfiguration{
		ClusterID: clusterID, Provider: ca.Provider, Config: s.cfg.CA.Map(),
	}}
	if err := s.changeCA(ctx, in); err != nil {
		return api.CAConfiguration{}, err
	}
	return *in.Config, nil
}

// makeRoot makes the root of the primary, unless it is there.
func (s *Server) makeRoot(ctx context.Context) error {
	cfg, err := s.caConfig(ctx, ca.NewClusterID())
	if err != nil {
		return err
	}
	if cfg.ClusterID == "" {
		// A secondary that never reached its primary, and now is one itself.
		cfg.ClusterID = ca.NewClusterID()
	}
	p, err := s.provider(&cfg)
	if err != nil {
		return err
	}
	text, err := p.Root(ctx)
	if err != nil {
		return fmt.Errorf("root certificate: %w", err)
	}
	root, err := ca.DescribeRoot(text, cfg.ClusterID)
	if err != nil {
		return fmt.Errorf("root certificate: %w", err)
	}
	roots := []*api.CARoot{root}
	for old := range state.CARoots(s.state.Read()) {
		switch {
		case old.ID == root.ID:
			root.IntermediateCerts = old.IntermediateCerts
		case old.Active:
			// Of when this datacenter was a secondary: its leaves are still trusted.
			row := *old
			row.Active, row.RotatedOutAt = false, time.Now().UTC()
			roots = append(roots, &row)
		default:
			roots = append(roots, old)
		}
	}
	return s.storeRoots(ctx, cfg, roots)
}

// followRoots makes the roots of a secondary those of the primary, with an
// intermediate of its own under the active one. It returns when to look again.
func (s *Server) followRoots(ctx context.Context, primary primaryRoots) (time.Duration, error) {
	cfg, err := s.caConfig(ctx, "")
	switch {
	case err != nil:
		return 0, err
	case primary.err != nil:
		return 0, fmt.Errorf("roots of the primary datacenter: %w", primary.err)
	}
	i := slices.IndexFunc(primary.roots.Roots, func(r *api.CARoot) bool { return r.ID == primary.roots.ActiveRootID })
	if i < 0 {
		return 0, errors.New("the primary datacenter has no active root")
	}
	cfg.ClusterID = ca.ClusterID(primary.roots.TrustDomain)
	p, err := s.provider(&cfg)
	if err != nil {
		return 0, err
	}
	active := *primary.roots.Roots[i]
	cert, again, late := s.intermediate(ctx, p, active.RootCert)
	if cert == "" {
		return 0, late
	}
	if err := use(&active, cert); err != nil {
		return 0, err
	}
	roots := make([]*api.CARoot, len(primary.roots.Roots))
	for j, r := range primary.roots.Roots {
		roots[j] = s.asBefore(r)
	}
	roots[i] = &active
	if err := s.storeRoots(ctx, cfg, roots); err != nil {
		return 0, err
	}
	return again, late
}

// asBefore is a root that is not in use, with what signed leaves here while it
// was.
func (s *Server) asBefore(root *api.CARoot) *api.CARoot {
	for old := range state.CARoots(s.state.Read()) {
		if old.ID == root.ID {
			row := *root
			row.SigningKeyID, row.IntermediateCerts = old.SigningKeyID, old.IntermediateCerts
			return &row
		}
	}
	return root
}

// use makes an intermediate what signs leaves under a root. It stands behind those
// of the primary, which lead from a new root to the one before.
func use(root *api.CARoot, intermediate string) error {
	cert, err := ca.ParseCert(intermediate)
	if err != nil {
		return fmt.Errorf("intermediate: %w", err)
	}
	root.SigningKeyID, err = ca.KeyID(cert)
	root.IntermediateCerts = append(slices.Clone(root.IntermediateCerts), intermediate)
	return err //nolint:wrapcheck // says what it encodes
}

// intermediate returns this datacenter's intermediate under a root, and when to
// look at it again. One that is half over is renewed; when that fails it still
// serves, and comes with the error.
func (s *Server) intermediate(ctx context.Context, p subordinate, root string) (cert string, again time.Duration, err error) {
	cert, issuer := p.Intermediate()
	if left, ok := serves(cert, issuer, root); !ok {
		cert = ""
	} else if left > 0 {
		return cert, min(left, caLookEvery), nil
	}
	err = p.Renew(ctx, root, func(ctx context.Context, csr string) (string, error) {
		h := rpc.Header{Datacenter: s.cfg.Primary, Token: s.cfg.Token}
		signed, _, err := wire.CASignIntermediate.Call(ctx, s.primary, h, wire.SignRequest{CSR: csr})
		if err != nil {
			return "", fmt.Errorf("signature of the primary datacenter: %w", err)
		}
		return signed, nil
	})
	if err != nil {
		return cert, 0, fmt.Errorf("intermediate certificate: %w", err)
	}
	s.cfg.Log.Info("intermediate certificate stored")
	cert, issuer = p.Intermediate()
	left, _ := serves(cert, issuer, root)
	return cert, min(max(left, caRetryLast), caLookEvery), nil
}

// serves tells whether an intermediate that was signed under issuer is good under
// root, and how long until it should be renewed.
func serves(cert, issuer, root string) (time.Duration, bool) {
	if strings.TrimSpace(issuer) != strings.TrimSpace(root) {
		return 0, false
	}
	parsed, err := ca.CheckIntermediate(cert, root)
	if err != nil {
		return 0, false
	}
	return time.Until(ca.RenewAt(parsed)), true
}
