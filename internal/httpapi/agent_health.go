package httpapi

import (
	"fmt"
	"net/http"
	"slices"
	"strings"

	"isthmus/api"
)

// maintenance is the health of what is taken out of use on purpose.
const maintenance = "maintenance"

// worst are the states of health, the worst first.
var worst = []string{maintenance, api.Critical, api.Warning, api.Passing}

// healthStatuses are the statuses that stand for them.
var healthStatuses = map[string]int{
	api.Passing: http.StatusOK, api.Warning: http.StatusTooManyRequests,
	api.Critical: http.StatusServiceUnavailable, maintenance: http.StatusServiceUnavailable,
}

// serviceState is a service of this node with all that bears on its health.
type serviceState struct {
	AggregatedStatus string
	Service          *agentService
	Checks           []healthCheck
}

// healthCheck is a check as these routes show it: without its kind and its times.
type healthCheck struct {
	Node        string
	CheckID     string
	Name        string
	Status      string
	Notes       string
	Output      string
	ServiceID   string
	ServiceName string
	ServiceTags []string
	Type        string
	ExposedPort int
	Definition  healthDefinition
	api.RaftIndex
}

// healthDefinition is always empty, with durations as texts.
type healthDefinition struct {
	Interval                       string
	Timeout                        string
	DeregisterCriticalServiceAfter string
	HTTP                           string
	Header                         map[string][]string
	Method                         string
	Body                           string
	TLSServerName                  string
	TLSSkipVerify                  bool
	TCP                            string
	TCPUseTLS                      bool
	UDP                            string
	GRPC                           string
	OSService                      string
	GRPCUseTLS                     bool
}

func agentHealthByID(q *request) error {
	if q.rest == "" {
		return api.Errorf(api.Internal, "Missing serviceID")
	}
	s := q.api.cfg.Local.Service(q.rest)
	if s == nil {
		return q.health(http.StatusNotFound, fmt.Sprintf("ServiceId %s not found", q.rest), serviceState{AggregatedStatus: api.Critical})
	}
	state := q.api.stateOf(s, ordered(q.api.cfg.Local.Checks()))
	return q.health(healthStatuses[state.AggregatedStatus], state.AggregatedStatus, state)
}

func agentHealthByName(q *request) error {
	if q.rest == "" {
		return api.Errorf(api.Internal, "Missing service Name")
	}
	out, overall := []serviceState{}, api.Passing
	checks := ordered(q.api.cfg.Local.Checks())
	for _, s := range ordered(q.api.cfg.Local.Services()) {
		if s.Service != q.rest {
			continue
		}
		state := q.api.stateOf(s, checks)
		overall = worse(overall, state.AggregatedStatus)
		out = append(out, state)
	}
	if len(out) == 0 {
		return q.health(http.StatusNotFound, fmt.Sprintf("ServiceName %s Not Found", q.rest), out)
	}
	return q.health(healthStatuses[overall], overall, out)
}

// ordered are the values of a map in the order of their keys.
func ordered[T any](m map[string]T) []T {
	keys := make([]string, 0, len(m))
	for key := range m {
		keys = append(keys, key)
	}
	slices.Sort(keys)
	out := make([]T, len(keys))
	for i, key := range keys {
		out[i] = m[key]
	}
	return out
}

func worse(a, b string) string {
	if slices.Index(worst, b) < slices.Index(worst, a) {
		return b
	}
	return a
}

// stateOf is a service with its checks and those of the node.
func (a *API) stateOf(s *api.NodeService, checks []*api.HealthCheck) serviceState {
	shown := a.agentService(s)
	out := serviceState{AggregatedStatus: api.Passing, Service: &shown, Checks: []healthCheck{}}
	for _, c := range checks {
		if c.ServiceID != "" && c.ServiceID != s.ID {
			continue
		}
		status := c.Status
		if c.Type == maintenance {
			status = maintenance
		}
		out.AggregatedStatus = worse(out.AggregatedStatus, status)
		shown := healthCheck{
			Node: c.Node, CheckID: c.CheckID, Name: c.Name, Status: c.Status, Notes: c.Notes, Output: c.Output,
			ServiceID: c.ServiceID, ServiceName: c.ServiceName, Definition: healthDefinition{"0s", "0s", "0s", "", nil, "", "", "", false, "", false, "", "", "", false},
		}
		if len(c.ServiceTags) > 0 {
			shown.ServiceTags = c.ServiceTags
		}
		out.Checks = append(out.Checks, shown)
	}
	return out
}

// health answers with a status and its reason: as a text for who wants one, else
// with all of it.
func (q *request) health(status int, reason string, all any) error {
	q.w.Header().Set("X-Consul-Reason", reason)
	q.w = &statusWriter{q.w, status}
	if q.query.Get("format") == "text" || strings.HasPrefix(q.Header.Get("Accept"), "text/plain") {
		q.w.Header().Set("Content-Type", "text/plain")
		q.send([]byte(reason))
		return nil
	}
	return q.json(all)
}

// statusWriter answers with a status other than 200 once something is written.
type statusWriter struct {
	http.ResponseWriter

	status int
}

// Write is the only write of an answer.
func (w *statusWriter) Write(b []byte) (int, error) {
	w.WriteHeader(w.status)
	return w.ResponseWriter.Write(b) //nolint:wrapcheck // nobody reads it
}
