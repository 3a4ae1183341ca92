package proxy

import (
	"bytes"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"sync/atomic"
)

// Stats are the counters of a gateway at one moment.
type Stats struct {
	// Routes has the counters of each route by its name. Those of a route that
	// has left the table stay until its last connection has ended.
	Routes map[string]RouteStats
	// Refused has the number of connections refused, by reason: unknown_name,
	// no_name, not_tls, malformed, timeout, too_many, and closed for clients
	// that hung up before their hello was complete.
	Refused map[string]uint64
	// Hellos is how many connections have not finished their hello yet.
	Hellos int
}

// RouteStats are the counters of one route.
type RouteStats struct {
	Connections  uint64 // routed here since the start
	Active       int64  // of these, not yet ended
	Failed       uint64 // of these, ended because no address could be reached
	DialFailures uint64 // dials that failed; a connection may see several
	BytesIn      uint64 // written to the backend, the hello included
	BytesOut     uint64 // written to the client
}

// counters are the live form of RouteStats.
type counters struct {
	connections, failed, dialFailures, bytesIn, bytesOut atomic.Uint64

	active atomic.Int64
}

func (c *counters) stats() RouteStats {
	return RouteStats{
		Connections:  c.connections.Load(),
		Active:       c.active.Load(),
		Failed:       c.failed.Load(),
		DialFailures: c.dialFailures.Load(),
		BytesIn:      c.bytesIn.Load(),
		BytesOut:     c.bytesOut.Load(),
	}
}

// Stats yields the counters as they are now.
func (g *Gateway) Stats() Stats {
	s := Stats{Routes: make(map[string]RouteStats), Refused: make(map[string]uint64)}
	g.mu.Lock()
	for name, c := range g.counters {
		s.Routes[name] = c.stats()
	}
	g.mu.Unlock()
	for reason := range refusals {
		s.Refused[reason.Error()] = g.refused[reason].Load()
	}
	g.hellos.mu.Lock()
	s.Hellos = g.hellos.count
	g.hellos.mu.Unlock()
	return s
}

// WriteMetrics writes the counters in the Prometheus text format.
func (g *Gateway) WriteMetrics(w io.Writer) error {
	s := g.Stats()
	names := slices.Sorted(maps.Keys(s.Routes))
	var out bytes.Buffer
	family := func(name, kind, help string) {
		fmt.Fprintf(&out, "# HELP isthmus_gateway_%s %s\n# TYPE isthmus_gateway_%s %s\n", name, help, name, kind)
	}
	routes := func(name, kind, help string, value func(RouteStats) any) {
		family(name, kind, help)
		for _, route := range names {
			fmt.Fprintf(&out, "isthmus_gateway_%s{route=\"%s\"} %d\n", name, escape(route), value(s.Routes[route]))
		}
	}

	routes("connections_total", "counter", "Connections routed.",
		func(r RouteStats) any { return r.Connections })
	routes("connections_active", "gauge", "Connections routed that have not ended.",
		func(r RouteStats) any { return r.Active })
	routes("connections_failed_total", "counter", "Connections ended because no address of the route could be reached.",
		func(r RouteStats) any { return r.Failed })
	routes("dial_failures_total", "counter", "Dials of single addresses that failed.",
		func(r RouteStats) any { return r.DialFailures })
	family("bytes_total", "counter", "Bytes relayed: in to the backend, out to the client.")
	for _, route := range names {
		const line = "isthmus_gateway_bytes_total{route=\"%s\",direction=\"%s\"} %d\n"
		fmt.Fprintf(&out, line, escape(route), "in", s.Routes[route].BytesIn)
		fmt.Fprintf(&out, line, escape(route), "out", s.Routes[route].BytesOut)
	}
	family("refused_total", "counter", "Connections refused before they were routed.")
	for _, reason := range slices.Sorted(maps.Keys(s.Refused)) {
		fmt.Fprintf(&out, "isthmus_gateway_refused_total{reason=\"%s\"} %d\n", reason, s.Refused[reason])
	}
	family("hellos_unfinished", "gauge", "Connections that have not finished their hello yet.")
	fmt.Fprintf(&out, "isthmus_gateway_hellos_unfinished %d\n", s.Hellos)

	if _, err := out.WriteTo(w); err != nil {
		return fmt.Errorf("write metrics: %w", err)
	}
	return nil
}

// escape makes a label value as the Prometheus text format wants it.
func escape(label string) string {
	return strings.NewReplacer(`\`, `\\`, `"`, `\"`, "\n", `\n`).Replace(label)
}
