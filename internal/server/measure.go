package server

import (
	"context"
	"crypto/x509"
	"encoding/pem"
	"io"
	"slices"
	"strconv"
	"strings"
	"time"

	"isthmus/api"
	"isthmus/internal/consensus"
	"isthmus/internal/gossip"
	"isthmus/internal/state"
	"isthmus/internal/telemetry"
	"isthmus/internal/wire"
)

// measureEvery is how often a server says how much there is of what.
const measureEvery = 10 * time.Second

// Measure says how much there is of what, and how the log is, until ctx is done.
func (s *Server) Measure(ctx context.Context) error {
	tick := time.NewTicker(measureEvery)
	defer tick.Stop()
	var (
		usage state.Usage
		of    uint64 // the index that it was counted at
	)
	for {
		if now := s.state.LastIndex(); now != of || of == 0 {
			usage, of = state.UsageOf(s.state.View()), now
		}
		s.measureUsage(&usage)
		s.measureMembers()
		s.measureLog()
		telemetry.RPCBlocking.Set(float64(s.blocking.Load()))
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
	}
}

// meshKinds are the kinds of instances that are always told, if only as 0.
var meshKinds = []string{
	"api-gateway", api.ConnectProxy, state.Native, "ingress-gateway", api.MeshGateway, "terminating-gateway",
}

func (s *Server) measureUsage(u *state.Usage) {
	dc := s.cfg.Datacenter
	telemetry.StateNodes.Set(float64(u.Nodes), dc)
	telemetry.StateServices.Set(float64(u.Services), dc)
	telemetry.StateInstances.Set(float64(u.Instances), dc)
	telemetry.StateBillable.Set(float64(u.Billable), dc)
	telemetry.StateKVEntries.Set(float64(u.KVEntries), dc)
	for _, kind := range meshKinds {
		telemetry.StateConnect.Set(float64(u.Mesh[kind]), dc, kind)
	}
}

func (s *Server) measureMembers() {
	servers, clients := 0, 0
	for _, m := range s.cfg.Members() {
		switch {
		case m.Status != gossip.StatusAlive:
		case IsServer(&m):
			servers++
		default:
			clients++
		}
	}
	telemetry.MembersServers.Set(float64(servers), s.cfg.Datacenter)
	telemetry.MembersClients.Set(float64(clients), s.cfg.Datacenter)
}

func (s *Server) measureLog() {
	stats := s.log.Stats()
	for name, g := range map[string]telemetry.Gauge{"applied_index": telemetry.RaftApplied, "last_log_index": telemetry.RaftLast} {
		if v, err := strconv.ParseFloat(stats[name], 64); err == nil {
			g.Set(v)
		}
	}
	if !s.log.IsLeader() {
		telemetry.ServerIsLeader.Set(0)
		return
	}
	telemetry.ServerIsLeader.Set(1)
	if peers, err := s.log.Servers(); err == nil {
		alive := s.alive(peers)
		telemetry.AutopilotHealthy.Set(map[bool]float64{true: 1}[alive == len(peers)])
		telemetry.AutopilotSpare.Set(float64(max(0, alive-len(peers)/2-1)))
	}
	for root := range state.CARoots(s.state.View()) {
		if root.Active {
			telemetry.RootExpiry.Set(time.Until(root.NotAfter).Seconds())
			telemetry.SigningExpiry.Set(time.Until(signingEnd(root)).Seconds())
		}
	}
}

// signingEnd is when the certificate ends that signs those of services: the last
// intermediate, or the root itself where there is none.
func signingEnd(root *api.CARoot) time.Time {
	if n := len(root.IntermediateCerts); n > 0 {
		if block, _ := pem.Decode([]byte(root.IntermediateCerts[n-1])); block != nil {
			if cert, err := x509.ParseCertificate(block.Bytes); err == nil {
				return cert.NotAfter
			}
		}
	}
	return root.NotAfter
}

// alive counts the peers that the pool holds for alive.
func (s *Server) alive(peers []consensus.Server) int {
	ids := map[string]bool{}
	for _, m := range s.cfg.Members() {
		if m.Status == gossip.StatusAlive {
			ids[m.Tags["id"]] = true
		}
	}
	n := 0
	for _, p := range peers {
		if ids[p.ID] {
			n++
		}
	}
	return n
}

// countRead counts a read of a service.
func countRead(to *telemetry.ServiceReads, in *wire.ServiceQuery, found int) {
	form, name := "service", in.ServiceName
	switch {
	case in.Connect:
		form = "connect"
	case in.Ingress:
		form = "ingress"
	}
	to.Query.Count(form, name)
	if in.ServiceTag != "" {
		to.Tag.Count(form, name, in.ServiceTag)
	}
	if len(in.ServiceTags) > 0 {
		tags := slices.Clone(in.ServiceTags)
		slices.Sort(tags)
		to.Tags.Count(form, name, strings.Join(tags, ","))
	}
	if found == 0 {
		to.NotFound.Count(form, name)
	}
}

// Measured is the state, which measures how long its commands take.
func Measured(st *state.State, datacenter string) consensus.FSM { return measured{st, datacenter} }

type measured struct {
	*state.State

	datacenter string
}

// Apply implements consensus.FSM.
func (m measured) Apply(index uint64, entry []byte) any {
	begin := time.Now()
	result, op := m.Do(index, entry)
	telemetry.FSMApply.Since(begin)
	switch state.Number(entry) {
	case state.Register.ID:
		telemetry.FSMRegister.Since(begin)
	case state.Deregister.ID:
		telemetry.FSMDeregister.Since(begin)
	case state.KVApply.ID:
		telemetry.FSMKVS.Since(begin, op)
	case state.CoordinateUpdate.ID:
		telemetry.FSMCoordinates.Since(begin)
	case state.CAApply.ID:
		telemetry.FSMCA.Since(begin, op)
	case state.FederationApply.ID:
		telemetry.FSMFederation.Since(begin, m.datacenter, op)
	}
	return result
}

// Snapshot implements consensus.FSM.
func (m measured) Snapshot() (func(io.Writer) error, error) {
	write, err := m.State.Snapshot()
	if err != nil {
		return nil, err //nolint:wrapcheck // says what it took
	}
	return func(w io.Writer) error {
		defer telemetry.FSMPersist.Since(time.Now())
		return write(w)
	}, nil
}
