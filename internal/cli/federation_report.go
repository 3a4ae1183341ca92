package cli

import (
	"cmp"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"isthmus/internal/wire"
)

// Routes that a server takes to a datacenter.
const (
	routeDirect = "direct"
	routeNone   = "none"
)

// federation is what a node answers: the views of the servers of one datacenter.
type federation struct {
	Datacenter string
	Primary    string
	Servers    []wire.ServerView
}

// report is what an operator is told.
type report struct {
	federation
	now         time.Time
	datacenters []*datacenterReport
	problems    []*problem
}

// datacenterReport unites how the servers see one datacenter. Where they differ,
// the worst counts.
type datacenterReport struct {
	name           string
	primary        bool
	seen           bool // by one server at least, so that the rest is set
	alive, servers int
	routes         []string
	updated        time.Time
	gateways       []*gatewayReport
}

// gatewayReport unites how the servers see one gateway towards one datacenter.
type gatewayReport struct {
	wire.GatewayView
	failing []string // servers whose last dial failed
}

// problem is something wrong, and who sees it so.
type problem struct {
	where  string
	what   string
	seenBy []string
	breaks bool // a datacenter is not reached
}

// report unites the views of the servers.
func (f *federation) report(now time.Time) *report {
	r := &report{federation: *f, now: now}
	for i := range f.Servers {
		s := &f.Servers[i]
		for j := range s.Datacenters {
			r.addDatacenter(s.Node, &s.Datacenters[j])
		}
	}
	slices.SortFunc(r.datacenters, func(a, b *datacenterReport) int {
		if a.primary != b.primary {
			return cmp.Compare(b2i(b.primary), b2i(a.primary))
		}
		return cmp.Compare(a.name, b.name)
	})
	for _, dc := range r.datacenters {
		if dc.name == f.Datacenter && dc.servers > len(f.Servers) {
			what := fmt.Sprintf("only %d of %d servers told what they see", len(f.Servers), dc.servers)
			r.problem(dc.name, what, "", false)
		}
		for _, g := range dc.gateways {
			for _, node := range g.failing {
				r.problem(dc.name, "dialling gateway "+g.Address+" fails: "+g.Error, node, false)
			}
		}
	}
	r.replication()
	slices.SortStableFunc(r.problems, func(a, b *problem) int { return cmp.Compare(b2i(b.breaks), b2i(a.breaks)) })
	return r
}

func b2i(b bool) int {
	if b {
		return 1
	}
	return 0
}

func (r *report) datacenter(name string) *datacenterReport {
	for _, dc := range r.datacenters {
		if dc.name == name {
			return dc
		}
	}
	dc := &datacenterReport{name: name, primary: name == r.Primary}
	r.datacenters = append(r.datacenters, dc)
	return dc
}

func (r *report) addDatacenter(node string, view *wire.DatacenterView) {
	dc := r.datacenter(view.Name)
	if !dc.seen || view.ServersAlive < dc.alive {
		dc.alive = view.ServersAlive
	}
	// The oldest copy is the one to worry about; none at all is older still.
	if !dc.seen || view.UpdatedAt.Before(dc.updated) {
		dc.updated = view.UpdatedAt
	}
	dc.seen = true
	dc.servers = max(dc.servers, view.Servers)
	if !slices.Contains(dc.routes, view.Route) {
		dc.routes = append(dc.routes, view.Route)
	}
	for _, g := range view.Gateways {
		dc.addGateway(node, g)
	}
	switch {
	case view.Servers == 0:
		r.problem(dc.name, "no server is known", node, true)
	case view.ServersAlive == 0:
		r.problem(dc.name, "no server is alive", node, true)
	case view.ServersAlive < view.Servers:
		what := fmt.Sprintf("only %d of %d servers are alive", view.ServersAlive, view.Servers)
		r.problem(dc.name, what, node, false)
	}
	if view.Route == routeNone {
		r.problem(dc.name, "there is no route to it", node, true)
	}
	if view.Route != routeDirect && view.UpdatedAt.IsZero() {
		r.problem(dc.name, "it has published no record of its gateways", node, false)
	}
	for _, what := range view.Problems {
		r.problem(dc.name, what, node, false)
	}
}

func (dc *datacenterReport) addGateway(node string, view wire.GatewayView) {
	i := slices.IndexFunc(dc.gateways, func(g *gatewayReport) bool { return g.Address == view.Address && g.Own == view.Own })
	if i < 0 {
		i = len(dc.gateways)
		dc.gateways = append(dc.gateways, &gatewayReport{GatewayView: view})
	}
	g := dc.gateways[i]
	g.LastSuccess = latest(g.LastSuccess, view.LastSuccess)
	g.LastFailure = latest(g.LastFailure, view.LastFailure)
	if view.Error != "" {
		g.Error = view.Error
		g.failing = append(g.failing, node)
	}
}

func latest(a, b time.Time) time.Time {
	if a.After(b) {
		return a
	}
	return b
}

// replication finds out whether the copy of the primary's records is kept up.
func (r *report) replication() {
	if r.Datacenter == r.Primary {
		return
	}
	running := false
	for _, s := range r.Servers {
		running = running || s.Replication.Running
		if s.Replication.LastError != "" {
			r.problem("replication from "+r.Primary, s.Replication.LastError, s.Node, false)
		}
	}
	if !running {
		r.problem("replication from "+r.Primary, "no server of "+r.Datacenter+" runs it (is there a leader?)", "", false)
	}
}

// problem notes what a server sees; an empty one stands for all of them.
func (r *report) problem(where, what, seenBy string, breaks bool) {
	i := slices.IndexFunc(r.problems, func(p *problem) bool { return p.where == where && p.what == what })
	if i < 0 {
		i = len(r.problems)
		r.problems = append(r.problems, &problem{where: where, what: what, breaks: breaks})
	}
	if p := r.problems[i]; seenBy != "" && !slices.Contains(p.seenBy, seenBy) {
		p.seenBy = append(p.seenBy, seenBy)
	}
}

func (r *report) broken() bool {
	return slices.ContainsFunc(r.problems, func(p *problem) bool { return p.breaks })
}

func (r *report) String() string {
	parts := []string{r.verdict()}
	if len(r.problems) > 0 {
		parts = append(parts, r.wrong())
	}
	parts = append(parts, r.datacenterTable())
	if text := r.gatewayTable(); text != "" {
		parts = append(parts, text)
	}
	if text := r.replicationTable(); text != "" {
		parts = append(parts, text)
	}
	return strings.Join(parts, "\n")
}

// verdict is the first line.
func (r *report) verdict() string {
	state := "whole"
	switch {
	case r.broken():
		state = "BROKEN"
	case len(r.problems) > 0:
		state = "DEGRADED"
	case len(r.datacenters) == 1:
		return fmt.Sprintf("There is no federation: %s knows no other datacenter.\n", r.Datacenter)
	}
	alive, servers := 0, 0
	for _, dc := range r.datacenters {
		alive += dc.alive
		servers += dc.servers
	}
	return fmt.Sprintf("Federation is %s: %s, %d of %d servers alive, seen by %s of %s.\n", state,
		count(len(r.datacenters), "datacenter"), alive, servers, count(len(r.Servers), "server"), r.Datacenter)
}

func count(n int, what string) string {
	if n == 1 {
		return "1 " + what
	}
	return fmt.Sprintf("%d %ss", n, what)
}

// wrong lists the problems, those that break the federation first.
func (r *report) wrong() string {
	var out strings.Builder
	out.WriteString("What is wrong:\n")
	for _, p := range r.problems {
		fmt.Fprintf(&out, "  %s: %s", p.where, p.what)
		// Who sees it matters when the servers do not agree.
		if n := len(p.seenBy); n > 0 && n < len(r.Servers) {
			fmt.Fprintf(&out, " (seen by %s)", strings.Join(p.seenBy, ", "))
		}
		out.WriteByte('\n')
	}
	return out.String()
}

func (r *report) datacenterTable() string {
	rows := [][]string{{"Datacenter", "Role", "Servers", "Gateways", "Route", "Record"}}
	for _, dc := range r.datacenters {
		role := "secondary"
		if dc.primary {
			role = "primary"
		}
		answering := 0
		for _, g := range dc.gateways {
			if len(g.failing) == 0 {
				answering++
			}
		}
		gateways := "-"
		if len(dc.gateways) > 0 {
			gateways = fmt.Sprintf("%d/%d ok", answering, len(dc.gateways))
		}
		rows = append(rows, []string{
			dc.name, role, fmt.Sprintf("%d/%d alive", dc.alive, dc.servers), gateways,
			strings.Join(dc.routes, ", "), r.age(dc.updated, "none"),
		})
	}
	return table(rows)
}

func (r *report) gatewayTable() string {
	rows := [][]string{{"Towards", "Gateway", "Side", "Known", "Last success", "State"}}
	for _, dc := range r.datacenters {
		for _, g := range dc.gateways {
			side, state := "far", "ok"
			if g.Own {
				side = "own"
			}
			switch {
			case len(g.failing) > 0:
				state = "fails, last " + r.age(g.LastFailure, "never")
			case g.LastSuccess.IsZero():
				state = "not tried yet"
			}
			rows = append(rows, []string{dc.name, g.Address, side, g.Source, r.age(g.LastSuccess, "never"), state})
		}
	}
	if len(rows) == 1 {
		return ""
	}
	return table(rows)
}

func (r *report) replicationTable() string {
	if r.Datacenter == r.Primary {
		return ""
	}
	rows := [][]string{{"Replication from " + r.Primary, "Last success", "Index", "State"}}
	for _, s := range r.Servers {
		if !s.Replication.Running {
			continue
		}
		state := "ok"
		if s.Replication.LastError != "" {
			state = "fails"
		}
		rows = append(rows, []string{
			s.Node, r.age(s.Replication.LastSuccess, "never"), strconv.FormatUint(s.Replication.Index, 10), state,
		})
	}
	if len(rows) == 1 {
		return ""
	}
	return table(rows)
}

// age says how long ago something was, in one unit.
func (r *report) age(t time.Time, zero string) string {
	const day = 24 * time.Hour
	switch d := r.now.Sub(t); {
	case t.IsZero():
		return zero
	case d < time.Second: // Clocks differ a little; the future is now, too.
		return "now"
	case d < 2*time.Minute:
		return fmt.Sprintf("%ds ago", d/time.Second)
	case d < 2*time.Hour:
		return fmt.Sprintf("%dm ago", d/time.Minute)
	case d < 2*day:
		return fmt.Sprintf("%dh ago", d/time.Hour)
	default:
		return fmt.Sprintf("%dd ago", d/day)
	}
}
