package ca

import (
	"errors"
	"fmt"
	"strconv"
	"time"
)

// Provider is the name of the provider that is built in, and the only one.
const Provider = "consul"

// Settings are how keys and certificates are made.
type Settings struct {
	LeafTTL         time.Duration
	IntermediateTTL time.Duration
	RootTTL         time.Duration
	KeyType         string // ec or rsa; empty is ec
	KeyBits         int    // 0 is the least of the type
}

// Lifetimes where nothing is set.
const (
	defaultLeafTTL         = 72 * time.Hour
	defaultIntermediateTTL = 365 * 24 * time.Hour
	defaultRootTTL         = 10 * defaultIntermediateTTL
)

// Least lifetimes. An intermediate must outlive the leaves it signed even when it
// is renewed late.
const (
	minLeafTTL         = time.Hour
	maxLeafTTL         = 365 * 24 * time.Hour
	leavesIntermediate = 3 // least lifetime of an intermediate, in those of leaves
)

// DefaultSettings are the settings where nothing is set.
func DefaultSettings() Settings {
	return Settings{LeafTTL: defaultLeafTTL, IntermediateTTL: defaultIntermediateTTL, RootTTL: defaultRootTTL}
}

// Check tells what makes settings unusable.
func (s Settings) Check() error {
	switch {
	case s.LeafTTL < minLeafTTL:
		return fmt.Errorf("leaf_cert_ttl %s is less than %s", s.LeafTTL, minLeafTTL)
	case s.LeafTTL > maxLeafTTL:
		return fmt.Errorf("leaf_cert_ttl %s is more than %s", s.LeafTTL, maxLeafTTL)
	case s.IntermediateTTL < leavesIntermediate*s.LeafTTL:
		return fmt.Errorf("intermediate_cert_ttl %s is less than %d times leaf_cert_ttl, %s", s.IntermediateTTL, leavesIntermediate, s.LeafTTL)
	case s.RootTTL <= s.IntermediateTTL:
		return fmt.Errorf("root_cert_ttl %s is not more than intermediate_cert_ttl, %s", s.RootTTL, s.IntermediateTTL)
	}
	return checkKind(s.kind())
}

// Map writes settings as the protocol has them: keys and texts, and only what is
// set of the key.
func (s Settings) Map() map[string]any {
	m := map[string]any{"LeafCertTTL": hours(s.LeafTTL), "IntermediateCertTTL": hours(s.IntermediateTTL), "RootCertTTL": hours(s.RootTTL)}
	if s.KeyType != "" {
		m["PrivateKeyType"] = s.KeyType
	}
	if s.KeyBits != 0 {
		m["PrivateKeyBits"] = s.KeyBits
	}
	return m
}

// hours writes a lifetime without minutes and seconds that are zero.
func hours(d time.Duration) string {
	if d%time.Hour == 0 {
		return strconv.FormatInt(int64(d/time.Hour), 10) + "h"
	}
	return d.String()
}

// ParseSettings reads what Map writes, also when it went through an encoding that
// has only one kind of number. Other keys are left aside.
func ParseSettings(m map[string]any) (Settings, error) {
	s := DefaultSettings()
	var errs []error
	for key, into := range map[string]*time.Duration{
		"LeafCertTTL": &s.LeafTTL, "IntermediateCertTTL": &s.IntermediateTTL, "RootCertTTL": &s.RootTTL,
	} {
		v, ok := m[key]
		if !ok {
			continue
		}
		text, isText := v.(string)
		n, isNumber := whole(v)
		var err error
		switch {
		case isText:
			*into, err = time.ParseDuration(text)
		case isNumber:
			*into = time.Duration(n)
		default:
			err = fmt.Errorf("is a %T", v)
		}
		if err != nil {
			errs = append(errs, fmt.Errorf("%s: %w", key, err))
		}
	}
	if v, ok := m["PrivateKeyType"]; ok {
		if s.KeyType, ok = v.(string); !ok {
			errs = append(errs, fmt.Errorf("PrivateKeyType is a %T", v))
		}
	}
	if v, ok := m["PrivateKeyBits"]; ok {
		n, ok := whole(v)
		if !ok {
			errs = append(errs, fmt.Errorf("PrivateKeyBits is a %T", v))
		}
		s.KeyBits = int(n)
	}
	return s, errors.Join(errs...)
}

func whole(v any) (int64, bool) {
	switch n := v.(type) {
	case int:
		return int64(n), true
	case int64:
		return n, true
	case uint64:
		return int64(n), true //nolint:gosec // sizes and times, which are checked later
	case float64:
		return int64(n), true
	}
	return 0, false
}
