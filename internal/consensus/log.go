package consensus

import (
	"context"
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"time"

	"github.com/hashicorp/raft"
)

// A Log is this server's part in the replicated log. Its methods may be called
// at any time after Open; while Run does not run, it does not lead.
type Log struct {
	cfg     Config
	stores  stores
	machine machine
	known   chan struct{} // closed when a leader was heard of
	hear    sync.Once
	failed  chan error    // has one value when the disk failed for good
	over    chan struct{} // closed when Run is over

	raft    atomic.Pointer[raft.Raft]
	streams *streams
	trans   transport

	starting sync.Mutex // held while raft starts, or is bootstrapped before
	mu       sync.RWMutex
	stopping bool
	calls    sync.WaitGroup // goroutines that wait for an answer of raft
}

// Open opens the log in cfg.Dir, or makes one. It refuses what it cannot trust.
func Open(cfg Config) (*Log, error) {
	cfg.setDefaults()
	if cfg.ID == "" || cfg.Address == "" || cfg.FSM == nil || cfg.Lead == nil || cfg.Dial == nil {
		return nil, errors.New("open log: ID, Address, Dial, FSM and Lead are needed")
	}
	l := &Log{
		cfg: cfg, machine: machine{fsm: cfg.FSM},
		known: make(chan struct{}), failed: make(chan error, 1), over: make(chan struct{}),
	}
	var err error
	if l.stores, err = openStores(&cfg, l.fail); err != nil {
		return nil, fmt.Errorf("open log: %w", err)
	}
	if err := raft.ValidateConfig(l.raftConfig(nil)); err != nil {
		return nil, errors.Join(fmt.Errorf("open log: %w", err), l.stores.close())
	}
	return l, nil
}

// fail makes Run end with an error.
func (l *Log) fail(err error) {
	select {
	case l.failed <- err:
	default: // the first one counts
	}
}

func (l *Log) raftConfig(notify chan<- bool) *raft.Config {
	return &raft.Config{
		ProtocolVersion:    3,
		LocalID:            raft.ServerID(l.cfg.ID),
		HeartbeatTimeout:   l.cfg.Heartbeat,
		ElectionTimeout:    l.cfg.Election,
		LeaderLeaseTimeout: l.cfg.LeaderLease,
		CommitTimeout:      l.cfg.CommitTimeout,
		SnapshotInterval:   l.cfg.SnapshotInterval,
		SnapshotThreshold:  l.cfg.SnapshotThreshold,
		TrailingLogs:       l.cfg.TrailingLogs,
		MaxAppendEntries:   64,
		BatchApplyCh:       true, // who appends does not wait for the main loop twice
		NotifyCh:           notify,
		Logger:             &logger{to: l.cfg.Log},
	}
}

// Run takes part until ctx is done, then returns nil when everything is
// closed. It returns an error when the log cannot go on: the disk failed.
func (l *Log) Run(ctx context.Context) error {
	defer close(l.over)
	notify, quit, idle := make(chan bool), make(chan struct{}), make(chan struct{})
	r, err := l.start(notify)
	if err != nil {
		return errors.Join(fmt.Errorf("run log: %w", err), l.stores.close())
	}
	lead, stopLeading := context.WithCancel(ctx)
	defer stopLeading()
	t := &tenure{
		lead: l.cfg.Lead, notify: notify, giveUp: l.TransferLeadership, retry: l.cfg.Election, log: l.cfg.Log,
	}
	var wg sync.WaitGroup
	wg.Go(func() { t.run(lead, idle, quit) })
	if l.alone() {
		l.campaign()
	}

	select {
	case <-ctx.Done():
	case err = <-l.failed:
		err = fmt.Errorf("run log: %w", err)
	}
	stopLeading()
	<-idle
	l.mu.Lock()
	l.stopping = true
	l.mu.Unlock()
	if err == nil {
		l.calls.Wait() // raft leaves who waits for it without an answer when it stops
	}
	ended := r.Shutdown()
	_ = l.streams.Close() // raft waits for the answers of servers that are gone
	err = errors.Join(err, ended.Error())
	l.closeTransport()
	close(quit)
	wg.Wait()
	return errors.Join(err, l.stores.close())
}

// start starts raft, which restores the newest snapshot first.
func (l *Log) start(notify chan<- bool) (*raft.Raft, error) {
	l.starting.Lock()
	defer l.starting.Unlock()
	l.streams = newStreams(&l.cfg)
	l.trans = transport{raft.NewNetworkTransportWithConfig(&raft.NetworkTransportConfig{
		Stream: l.streams, MaxPool: transportPool, Timeout: transportTimeout, Logger: &logger{to: l.cfg.Log},
	})}
	r, err := raft.NewRaft(l.raftConfig(notify), &l.machine, l.stores.logs, l.stores.stable, l.stores.snapshots, l.trans)
	if err != nil {
		l.closeTransport()
		return nil, err
	}
	// The filter is all there is to the observer: it is called at once, and a
	// channel could be full.
	r.RegisterObserver(raft.NewObserver(nil, false, func(o *raft.Observation) bool {
		if at, ok := o.Data.(raft.LeaderObservation); ok && at.LeaderID != "" {
			l.hear.Do(func() { close(l.known) })
		}
		return false
	}))
	l.raft.Store(r)
	if _, id := l.Leader(); id != "" {
		l.hear.Do(func() { close(l.known) })
	}
	return r, nil
}

func (l *Log) closeTransport() {
	_ = l.trans.Close() // it never fails
	_ = l.streams.Close()
	l.trans.CloseStreams()
	l.streams.wg.Wait()
}

// alone reports whether this server is the only voter.
func (l *Log) alone() bool {
	servers, err := l.Servers()
	if err != nil {
		return false
	}
	voters := 0
	mine := false
	for _, s := range servers {
		if s.Voter {
			voters++
			mine = mine || s.ID == l.cfg.ID
		}
	}
	return mine && voters == 1
}

// campaign stands for election at once, without waiting for a heartbeat that
// nobody sends. It uses the message a leader sends to its successor, so it is
// an election like any other, and the timers are the configured ones all along.
func (l *Log) campaign() {
	if l.raft.Load().State() != raft.Follower {
		return
	}
	id, at := raft.ServerID(l.cfg.ID), raft.ServerAddress(l.cfg.Address)
	req := &raft.TimeoutNowRequest{RPCHeader: raft.RPCHeader{ProtocolVersion: 3, ID: []byte(id), Addr: []byte(at)}}
	if err := l.trans.TimeoutNow(id, at, req, &raft.TimeoutNowResponse{}); err != nil {
		l.cfg.Log.Warn("no early election; waiting for the timer", "error", err)
	}
}

// An answer is what raft says to a request.
type answer struct {
	result any
	index  uint64
	err    error
}

// ask makes a request and waits for the answer, which raft may owe for long:
// while a disk hangs, or after the end.
func (l *Log) ask(ctx context.Context, leader bool, f func(*raft.Raft) answer) answer {
	l.mu.RLock()
	r := l.raft.Load()
	if r == nil || l.stopping || (leader && r.State() != raft.Leader) {
		l.mu.RUnlock()
		return answer{err: ErrNotLeader}
	}
	done := make(chan answer, 1)
	l.calls.Go(func() { done <- f(r) })
	l.mu.RUnlock()
	select {
	case a := <-done:
		a.err = translate(a.err)
		return a
	case <-ctx.Done():
		return answer{err: ctx.Err()}
	case <-l.over:
		return answer{err: ErrLeadershipLost}
	}
}

func translate(err error) error {
	switch {
	case errors.Is(err, raft.ErrLeadershipLost):
		return ErrLeadershipLost
	case errors.Is(err, raft.ErrNotLeader), errors.Is(err, raft.ErrLeadershipTransferInProgress),
		errors.Is(err, raft.ErrRaftShutdown), errors.Is(err, raft.ErrEnqueueTimeout):
		return fmt.Errorf("%w: %w", ErrNotLeader, err)
	default:
		return err
	}
}

// Append appends an entry and returns when it is applied here: what the FSM
// made of it, an error included, and its index. When ctx is done first, the
// entry may be applied later.
func (l *Log) Append(ctx context.Context, entry []byte) (result any, index uint64, err error) {
	a := l.ask(ctx, true, func(r *raft.Raft) answer {
		f := r.Apply(entry, 0)
		if err := f.Error(); err != nil {
			return answer{err: err}
		}
		return answer{result: f.Response(), index: f.Index()}
	})
	if a.err != nil {
		return nil, 0, fmt.Errorf("append: %w", a.err)
	}
	return a.result, a.index, nil
}

func (l *Log) request(ctx context.Context, what string, f func(*raft.Raft) raft.Future) error {
	a := l.ask(ctx, true, func(r *raft.Raft) answer { return answer{err: f(r).Error()} })
	if a.err != nil {
		return fmt.Errorf("%s: %w", what, a.err)
	}
	return nil
}

// Verify confirms with a majority that this server still leads.
func (l *Log) Verify(ctx context.Context) error {
	return l.request(ctx, "verify leader", func(r *raft.Raft) raft.Future { return r.VerifyLeader() })
}

// Barrier returns when every entry before it is applied here.
func (l *Log) Barrier(ctx context.Context) error {
	return l.request(ctx, "barrier", func(r *raft.Raft) raft.Future { return r.Barrier(0) })
}

// AddVoter adds a server to the configuration, or changes its address.
func (l *Log) AddVoter(ctx context.Context, id, address string) error {
	return l.request(ctx, "add voter "+id, func(r *raft.Raft) raft.Future {
		return r.AddVoter(raft.ServerID(id), raft.ServerAddress(address), 0, 0)
	})
}

// RemoveServer removes a server from the configuration.
func (l *Log) RemoveServer(ctx context.Context, id string) error {
	return l.request(ctx, "remove server "+id, func(r *raft.Raft) raft.Future {
		return r.RemoveServer(raft.ServerID(id), 0, 0)
	})
}

// TransferLeadership makes another voter lead.
func (l *Log) TransferLeadership(ctx context.Context) error {
	return l.request(ctx, "transfer leadership", func(r *raft.Raft) raft.Future { return r.LeadershipTransfer() })
}

// IsLeader reports whether this server leads.
func (l *Log) IsLeader() bool {
	r := l.raft.Load()
	return r != nil && r.State() == raft.Leader
}

// Leader is the server that leads, or empty when none is known.
func (l *Log) Leader() (address, id string) {
	r := l.raft.Load()
	if r == nil {
		return "", ""
	}
	at, leader := r.LeaderWithID()
	return string(at), string(leader)
}

// LeaderKnown is closed when a leader was heard of for the first time.
func (l *Log) LeaderKnown() <-chan struct{} { return l.known }

// LastContact is how long ago the leader was heard: 0 on the leader itself.
func (l *Log) LastContact() time.Duration {
	r := l.raft.Load()
	if r == nil {
		return math.MaxInt64
	}
	if r.State() == raft.Leader {
		return 0
	}
	at := r.LastContact()
	if at.IsZero() {
		return math.MaxInt64
	}
	return time.Since(at)
}

// AppliedIndex is the last index whose effects, if it has any, are in the FSM.
func (l *Log) AppliedIndex() uint64 {
	applied := l.machine.applied.Load()
	r := l.raft.Load()
	if r == nil {
		return applied
	}
	// The FSM never sees the entries by which raft itself works.
	for sent := r.AppliedIndex(); applied < sent; applied++ {
		var e raft.Log
		err := l.stores.logs.GetLog(applied+1, &e)
		if err != nil || e.Type == raft.LogCommand || e.Type == raft.LogConfiguration {
			break
		}
	}
	return applied
}

// LastIndex is the last index on this server, applied or not.
func (l *Log) LastIndex() uint64 {
	if r := l.raft.Load(); r != nil {
		return r.LastIndex()
	}
	last, err := l.stores.logs.LastIndex()
	if err != nil {
		return 0
	}
	return last
}

// HasState reports whether this server ever took part: it has a log, a term or
// a snapshot, and must not be bootstrapped again.
func (l *Log) HasState() bool {
	has, err := raft.HasExistingState(l.stores.logs, l.stores.stable, l.stores.snapshots)
	return err != nil || has // what cannot be read is state too
}

// Bootstrap gives a server without state its first configuration. A lone
// server then leads at once.
func (l *Log) Bootstrap(servers []Server) error {
	var c raft.Configuration
	for _, s := range servers {
		suffrage := raft.Nonvoter
		if s.Voter {
			suffrage = raft.Voter
		}
		c.Servers = append(c.Servers, raft.Server{
			ID: raft.ServerID(s.ID), Address: raft.ServerAddress(s.Address), Suffrage: suffrage,
		})
	}
	l.starting.Lock()
	if l.raft.Load() == nil {
		defer l.starting.Unlock()
		err := raft.BootstrapCluster(l.raftConfig(nil), l.stores.logs, l.stores.stable, l.stores.snapshots, l.trans, c)
		if err != nil {
			return fmt.Errorf("bootstrap: %w", err)
		}
		return nil
	}
	l.starting.Unlock()
	a := l.ask(context.Background(), false, func(r *raft.Raft) answer {
		return answer{err: r.BootstrapCluster(c).Error()}
	})
	if a.err != nil {
		return fmt.Errorf("bootstrap: %w", a.err)
	}
	l.firstElection(servers)
	return nil
}

// lateVote is how long the servers that are not the first leave it the field. It
// varies, so that two of them do not stand at the same time.
const lateVote = 60 * time.Millisecond

// firstElection stands for election without waiting for the timers, which are made
// for leaders that fail, not for a cluster that never had one. The server with the
// lowest id stands at once; another one a moment later, unless there is a leader:
// the first may have found a cluster that was founded already and stand by.
func (l *Log) firstElection(servers []Server) {
	if first(servers) != l.cfg.ID {
		t := time.NewTimer(lateVote + rand.N(2*lateVote)) //nolint:gosec // spreads votes, hides nothing
		defer t.Stop()
		select {
		case <-l.known:
			return
		case <-l.over:
			return
		case <-t.C:
		}
	}
	l.ask(context.Background(), false, func(*raft.Raft) answer {
		l.campaign()
		return answer{}
	})
}

// first is the server with the lowest id.
func first(servers []Server) string {
	lowest := ""
	for _, s := range servers {
		if s.Voter && (lowest == "" || s.ID < lowest) {
			lowest = s.ID
		}
	}
	return lowest
}

// Servers is the latest configuration.
func (l *Log) Servers() ([]Server, error) {
	r := l.raft.Load()
	if r == nil {
		return nil, errors.New("servers: the log does not run yet")
	}
	f := r.GetConfiguration()
	if err := f.Error(); err != nil {
		return nil, fmt.Errorf("servers: %w", err)
	}
	var servers []Server
	for _, s := range f.Configuration().Servers {
		servers = append(servers, Server{ID: string(s.ID), Address: string(s.Address), Voter: s.Suffrage == raft.Voter})
	}
	return servers, nil
}

// Stats is for people: what the raft library counts.
func (l *Log) Stats() map[string]string {
	r := l.raft.Load()
	if r == nil {
		return map[string]string{}
	}
	return r.Stats()
}
