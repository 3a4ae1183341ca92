package ca

import (
	"context"
	"crypto"
	"crypto/sha256"
	"crypto/x509"
	"errors"
	"fmt"
	"strings"

	"isthmus/api"
)

// State is what a provider must not lose. The built-in one has a key and, in the
// primary datacenter, the root, and elsewhere the intermediate and its root.
type State struct {
	ID               string
	PrivateKey       Secret
	RootCert         string
	IntermediateCert string
	api.RaftIndex
}

// Store keeps the states of providers.
type Store interface {
	// Load returns a state, or nil. It must not be changed.
	Load(id string) *State
	// Save replaces a state. It is kept when Save returns nil.
	Save(ctx context.Context, s *State) error
	// Serial draws a serial number that was never drawn before.
	Serial(ctx context.Context) (uint64, error)
}

// Builtin is the provider whose keys are in the log of the servers. A change of
// its key settings finds another state, and so makes a new key.
type Builtin struct {
	Settings  Settings
	ClusterID string
	Store     Store
}

// stateID names the state of one set of key settings, in a primary or elsewhere.
// It is the reference's, so that a snapshot of it is understood.
func (b *Builtin) stateID(primary bool) string {
	kind, bits := b.Settings.kind()
	sum := sha256.Sum256(fmt.Appendf(nil, ",,%s,%d,%v", kind, bits, primary))
	return colons(sum[:])
}

// Root returns the root of the cluster. The first call makes it.
func (b *Builtin) Root(ctx context.Context) (string, error) {
	id := b.stateID(true)
	if s := b.Store.Load(id); s != nil && s.RootCert != "" {
		return s.RootCert, nil
	}
	key, err := newKey(b.Settings.kind())
	if err != nil {
		return "", err
	}
	s := &State{ID: id}
	if s.PrivateKey, err = encodeKey(key); err != nil {
		return "", err
	}
	serial, err := b.Store.Serial(ctx)
	if err != nil {
		return "", fmt.Errorf("draw serial number: %w", err)
	}
	if s.RootCert, err = newRoot(b.ClusterID, serial, key, b.Settings.RootTTL); err != nil {
		return "", err
	}
	if err := b.Store.Save(ctx, s); err != nil {
		return "", fmt.Errorf("store root: %w", err)
	}
	return s.RootCert, nil
}

// signer is the root and its key.
func (b *Builtin) signer() (*x509.Certificate, crypto.Signer, error) {
	s := b.Store.Load(b.stateID(true))
	if s == nil || s.RootCert == "" {
		return nil, nil, errors.New("there is no root yet")
	}
	root, err := ParseCert(s.RootCert)
	if err != nil {
		return nil, nil, fmt.Errorf("root: %w", err)
	}
	key, err := parseKey(s.PrivateKey)
	if err != nil {
		return nil, nil, fmt.Errorf("key of the root: %w", err)
	}
	return root, key, nil
}

// SignIntermediate signs the request of a secondary datacenter.
func (b *Builtin) SignIntermediate(ctx context.Context, request string) (string, error) {
	csr, err := parseRequest(request, b.ClusterID)
	if err != nil {
		return "", err
	}
	root, key, err := b.signer()
	if err != nil {
		return "", err
	}
	serial, err := b.Store.Serial(ctx)
	if err != nil {
		return "", fmt.Errorf("draw serial number: %w", err)
	}
	return newIntermediate(b.ClusterID, root, key, csr.PublicKey, serial, b.Settings.IntermediateTTL)
}

// Intermediate returns the intermediate of this datacenter and the root it leads
// to; both are empty before the first Renew.
func (b *Builtin) Intermediate() (cert, root string) {
	if s := b.Store.Load(b.stateID(false)); s != nil {
		return s.IntermediateCert, s.RootCert
	}
	return "", ""
}

// Renew has an intermediate with a new key signed under a root, and keeps it when
// it is what was asked for. The old one stays until then.
func (b *Builtin) Renew(ctx context.Context, root string, sign func(ctx context.Context, csr string) (string, error)) error {
	key, err := newKey(b.Settings.kind())
	if err != nil {
		return err
	}
	request, err := newRequest(b.ClusterID, key)
	if err != nil {
		return err
	}
	text, err := sign(ctx, request)
	if err != nil {
		return err
	}
	cert, err := CheckIntermediate(text, root)
	if err != nil {
		return err
	}
	own, errOwn := keyID(key.Public())
	got, errGot := keyID(cert.PublicKey)
	if errOwn != nil || errGot != nil || string(own) != string(got) {
		return errors.New("the intermediate is for another key")
	}
	s := &State{ID: b.stateID(false), RootCert: root, IntermediateCert: strings.TrimSpace(text) + "\n"}
	if s.PrivateKey, err = encodeKey(key); err != nil {
		return err
	}
	if err := b.Store.Save(ctx, s); err != nil {
		return fmt.Errorf("store intermediate: %w", err)
	}
	return nil
}
