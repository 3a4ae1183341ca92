package ca

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha1" //nolint:gosec // a name of certificates in the protocol, no protection
	"crypto/sha256"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"log/slog"
	"strings"
)

// Types of keys.
const (
	keyEC  = "ec"
	keyRSA = "rsa"
)

// Least sizes of keys.
const (
	minBitsEC  = 256
	minBitsRSA = 2048
)

// curves are the sizes of EC keys.
var curves = map[int]elliptic.Curve{
	224: elliptic.P224(), 256: elliptic.P256(), 384: elliptic.P384(), 521: elliptic.P521(),
}

// kind is the type and size of keys with the defaults put in.
func (s Settings) kind() (string, int) {
	kind, bits := s.KeyType, s.KeyBits
	if kind == "" {
		kind = keyEC
	}
	if bits == 0 {
		bits = minBitsEC
		if kind == keyRSA {
			bits = minBitsRSA
		}
	}
	return kind, bits
}

func checkKind(kind string, bits int) error {
	switch {
	case kind != keyEC && kind != keyRSA:
		return fmt.Errorf("private_key_type %q is neither ec nor rsa", kind)
	case kind == keyEC && curves[bits] == nil:
		return fmt.Errorf("private_key_bits %d: an EC key has 224, 256, 384 or 521", bits)
	case kind == keyRSA && bits != minBitsRSA && bits != 2*minBitsRSA:
		return fmt.Errorf("private_key_bits %d: an RSA key has 2048 or 4096", bits)
	}
	return nil
}

func newKey(kind string, bits int) (crypto.Signer, error) {
	if err := checkKind(kind, bits); err != nil {
		return nil, err
	}
	var key crypto.Signer
	var err error
	if kind == keyRSA {
		key, err = rsa.GenerateKey(rand.Reader, bits)
	} else {
		key, err = ecdsa.GenerateKey(curves[bits], rand.Reader)
	}
	if err != nil {
		return nil, fmt.Errorf("make key: %w", err)
	}
	return key, nil
}

// Secret is a private key as PEM. It prints as *** wherever it is formatted or
// encoded as text; only the log and its snapshots hold it as it is.
type Secret string

const hidden = "***"

// Format hides the key under every verb.
func (Secret) Format(f fmt.State, _ rune) { _, _ = f.Write([]byte(hidden)) } // fmt.State never fails

// MarshalText hides the key from encoders of texts.
func (Secret) MarshalText() ([]byte, error) { return []byte(hidden), nil }

// LogValue hides the key from loggers.
func (Secret) LogValue() slog.Value { return slog.StringValue(hidden) }

func encodeKey(key crypto.Signer) (Secret, error) {
	var block pem.Block
	var err error
	switch k := key.(type) {
	case *ecdsa.PrivateKey:
		block.Type = "EC PRIVATE KEY"
		block.Bytes, err = x509.MarshalECPrivateKey(k)
	case *rsa.PrivateKey:
		block.Type = "RSA PRIVATE KEY"
		block.Bytes = x509.MarshalPKCS1PrivateKey(k)
	default:
		err = fmt.Errorf("a key cannot be a %T", key)
	}
	if err != nil {
		return "", fmt.Errorf("encode key: %w", err)
	}
	return Secret(pem.EncodeToMemory(&block)), nil
}

var errNoKey = errors.New("no private key of a known form")

func parseKey(text Secret) (crypto.Signer, error) {
	block, _ := pem.Decode([]byte(text))
	if block == nil {
		return nil, errNoKey
	}
	var key any
	var err error
	switch block.Type {
	case "EC PRIVATE KEY":
		key, err = x509.ParseECPrivateKey(block.Bytes)
	case "RSA PRIVATE KEY":
		key, err = x509.ParsePKCS1PrivateKey(block.Bytes)
	default:
		key, err = x509.ParsePKCS8PrivateKey(block.Bytes)
	}
	signer, ok := key.(crypto.Signer)
	if err != nil || !ok {
		return nil, errNoKey // what the parser says may quote the key
	}
	return signer, nil
}

// keyID is what certificates call a public key.
func keyID(key any) ([]byte, error) {
	der, err := x509.MarshalPKIXPublicKey(key)
	if err != nil {
		return nil, fmt.Errorf("encode public key: %w", err)
	}
	sum := sha256.Sum256(der)
	return sum[:], nil
}

// KeyID is the name of a certificate's key, as SigningKeyID has it.
func KeyID(cert *x509.Certificate) (string, error) {
	id, err := keyID(cert.PublicKey)
	return colons(id), err
}

// Fingerprint is the name of a certificate, as the id of a root has it.
func Fingerprint(cert *x509.Certificate) string {
	sum := sha1.Sum(cert.Raw) //nolint:gosec // a name, no protection
	return colons(sum[:])
}

// colons writes bytes in hexadecimal with colons between them.
func colons(b []byte) string {
	return strings.ReplaceAll(fmt.Sprintf("% x", b), " ", ":")
}

// describeKey is the type and size of a public key.
func describeKey(key any) (kind string, bits int, err error) {
	switch k := key.(type) {
	case *ecdsa.PublicKey:
		return keyEC, k.Curve.Params().BitSize, nil
	case *rsa.PublicKey:
		return keyRSA, k.N.BitLen(), nil
	}
	return "", 0, fmt.Errorf("a key of the mesh cannot be a %T", key)
}
