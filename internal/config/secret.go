package config

import (
	"fmt"
	"log/slog"
)

// Secret is a text that must not reach logs, answers or error messages: it
// prints as *** wherever it is formatted or encoded.
type Secret string

const hidden = "***"

// Reveal yields the secret text, for the one place that needs it.
func (s Secret) Reveal() string { return string(s) }

// String hides the text, but shows whether there is one.
func (s Secret) String() string {
	if s == "" {
		return ""
	}
	return hidden
}

// Format hides the text under every verb, %#v and %x included.
func (s Secret) Format(f fmt.State, _ rune) {
	_, _ = f.Write([]byte(s.String())) // fmt.State never fails
}

// MarshalText hides the text from encoders.
func (s Secret) MarshalText() ([]byte, error) { return []byte(s.String()), nil }

// LogValue hides the text from loggers.
func (s Secret) LogValue() slog.Value { return slog.StringValue(s.String()) }
