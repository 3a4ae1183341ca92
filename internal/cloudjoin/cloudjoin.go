// Package cloudjoin finds the addresses of agents and gateways by asking a
// cloud: it turns a setting such as "provider=aws tag_key=… tag_value=…" into
// addresses. It alone links the providers, which are heavy.
package cloudjoin

import (
	"context"
	"errors"
	"fmt"
	"log"
	"log/slog"
	"maps"
	"strings"
	"time"

	discover "github.com/hashicorp/go-discover"
	"github.com/hashicorp/go-discover/provider/k8s"
)

// limit is how long a provider may take. Some ask for each machine by itself, so
// it is generous.
const limit = 2 * time.Minute

// Is tells whether a setting is a discovery string rather than an address.
func Is(setting string) bool { return strings.Contains(setting, "provider=") }

// Addrs asks the provider that a setting names. Addresses come without a port
// unless the provider knows one. No secret of the setting is in an error or in
// the log.
//
// The providers cannot be told to stop: when ctx is done first, or the provider
// takes too long, its work goes on in the background until it ends by itself, and
// what it finds is dropped.
func Addrs(ctx context.Context, setting string, logger *slog.Logger) ([]string, error) {
	args, err := discover.Parse(setting)
	if err != nil {
		return nil, malformed(setting, err)
	}
	providers := all()
	name := args["provider"]
	if providers[name] == nil {
		return nil, fmt.Errorf("discovery provider %q is not known (known: %s)", name, strings.Join(Names(), ", "))
	}
	hide := newRedactor(args)
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()

	type answer struct {
		addrs []string
		err   error
	}
	done := make(chan answer, 1) // nobody may be left to take it
	go func() {
		d := discover.Discover{Providers: providers}
		addrs, err := d.Addrs(setting, log.New(writer{logger, hide}, "", 0))
		done <- answer{addrs, err}
	}()
	select {
	case <-ctx.Done():
		return nil, fmt.Errorf("discover with provider %s: %w", name, ctx.Err())
	case a := <-done:
		if a.err != nil {
			// The cause would carry the secrets that its text loses here.
			return nil, fmt.Errorf("discover with provider %s: %s", name, hide.Replace(a.err.Error()))
		}
		return a.addrs, nil
	}
}

// malformed is the error of a setting that cannot be read. What the library says
// of it may quote a piece of a value, so it is told only where no value is a
// secret.
func malformed(setting string, err error) error {
	if secret(setting) {
		return errors.New("read discovery setting: want key=value pairs; " +
			"values with spaces, backslashes, quotes or equal signs stand in double quotes")
	}
	return fmt.Errorf("read discovery setting: %w", err)
}

// Names lists the providers.
func Names() []string {
	d := discover.Discover{Providers: all()}
	return d.Names()
}

func all() map[string]discover.Provider {
	providers := maps.Clone(discover.Providers)
	providers["k8s"] = &k8s.Provider{}
	return providers
}

// writer sends the library's lines to the debug log.
type writer struct {
	log  *slog.Logger
	hide *strings.Replacer
}

func (w writer) Write(b []byte) (int, error) {
	w.log.Debug("discovery", "message", w.hide.Replace(strings.TrimSpace(string(b))))
	return len(b), nil
}
