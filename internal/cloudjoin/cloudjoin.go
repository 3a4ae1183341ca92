// Package cloudjoin finds the addresses of agents and gateways by asking a
// cloud: it turns a setting such as "provider=aws tag_key=… tag_value=…" into
// addresses. It alone links the providers, which are heavy.
package cloudjoin

import (
	"fmt"
	"log"
	"log/slog"
	"maps"
	"strings"

	discover "github.com/hashicorp/go-discover"
	"github.com/hashicorp/go-discover/provider/k8s"
)

// Is tells whether a setting is a discovery string rather than an address.
func Is(setting string) bool { return strings.Contains(setting, "provider=") }

// Addrs asks the provider that a setting names. Addresses come without a port
// unless the provider knows one.
func Addrs(setting string, logger *slog.Logger) ([]string, error) {
	providers := maps.Clone(discover.Providers)
	providers["k8s"] = &k8s.Provider{}
	d := discover.Discover{Providers: providers}
	args, err := discover.Parse(setting)
	if err != nil {
		return nil, fmt.Errorf("read discovery setting: %w", err)
	}
	if _, known := providers[args["provider"]]; !known {
		return nil, fmt.Errorf("discovery provider %q is not known (known: %s)", args["provider"], strings.Join(Names(), ", "))
	}
	addrs, err := d.Addrs(setting, log.New(writer{logger}, "", 0))
	if err != nil {
		return nil, fmt.Errorf("discover with provider %s: %w", args["provider"], err)
	}
	return addrs, nil
}

// Names lists the providers.
func Names() []string {
	providers := maps.Clone(discover.Providers)
	providers["k8s"] = &k8s.Provider{}
	d := discover.Discover{Providers: providers}
	return d.Names()
}

// writer sends the library's lines to the debug log.
type writer struct{ log *slog.Logger }

func (w writer) Write(b []byte) (int, error) {
	w.log.Debug("discovery", "message", strings.TrimSpace(string(b)))
	return len(b), nil
}
