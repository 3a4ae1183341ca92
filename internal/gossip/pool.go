package gossip

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"net/netip"
	"sync"
	"time"

	"github.com/hashicorp/serf/serf"
)

// eventQueue is the number of events that may wait for Config.Events. It takes in a join of the largest pools at once,
// and exceeds what the library itself queues, which is why the library never waits for a Run that has returned.
const eventQueue = 8192

// Config is what a pool is made from. Zero intervals and counts stand for the protocol's defaults, which differ
// between LAN and WAN.
type Config struct {
	Name string
	Tags map[string]string

	// Net is where the pool listens. The pool closes it.
	Net *Net
	// Carrier sends. Nil sends through Net.
	Carrier Carrier
	// AdvertiseAddr and AdvertisePort are what the others are told. Empty and zero stand for what Net listens on,
	// which must then be a specific address.
	AdvertiseAddr string
	AdvertisePort int

	// WAN takes the defaults for a pool across datacenters.
	WAN bool
	// RequireNodeNames refuses to send to a member whose name is not known: a gateway routes by name.
	RequireNodeNames bool
	// DisableTCPPings names the members that are not probed through a stream when a packet got no answer.
	DisableTCPPings func(name string) bool

	// Allowed are the networks that members may be in: all when empty. This node's own address must be in one.
	Allowed []netip.Prefix

	// Keyring holds the keys, of 16, 24 or 32 bytes. The first encrypts, all decrypt. Without keys nothing is
	// encrypted; with keys nothing that is not encrypted is sent or accepted.
	Keyring [][]byte
	// AcceptPlain and SendPlain let gossip that is not encrypted in and out all the same: they are for the time in
	// which a pool that had no keys is given some, member by member.
	AcceptPlain, SendPlain bool
	// KeyringFile keeps the keys across restarts, with the changes that key operations make: once it exists, Keyring
	// does not count. Empty keeps changes in memory only.
	KeyringFile string

	// SnapshotPath names the file that remembers the members, so that a restarted node finds its pool again.
	SnapshotPath string
	// RejoinAfterLeave makes a node that left the pool join it again when restarted with its snapshot.
	RejoinAfterLeave bool

	// ReconnectTimeout is how long a failed member is tried again before it is forgotten: 72 hours by default.
	ReconnectTimeout  time.Duration
	ReconnectInterval time.Duration
	ReapInterval      time.Duration
	// LeaveDelay is how long a node that has left goes on answering, until all know that it has left.
	LeaveDelay       time.Duration
	GossipInterval   time.Duration
	ProbeInterval    time.Duration
	ProbeTimeout     time.Duration
	PushPullInterval time.Duration
	GossipNodes      int
	SuspicionMult    int
	RetransmitMult   int

	// Merge vetoes members with an error: all those of a pool about to be joined, or one that was heard of. It is
	// called with locks of the library held. It decides from its argument alone, and must not call the pool.
	Merge func(members []Member) error
	// Events is told what happens, in order, from one goroutine of Run. While it does not return, events queue up,
	// and when the queue is full the whole pool waits, or with a snapshot loses events.
	Events func(Event)
	// UserEventSize is the limit for the name and payload of a user event, in bytes.
	UserEventSize int

	Log *slog.Logger
}

// Pool is this node's membership in a pool.
type Pool struct {
	transport *transport
	serf      *serf.Serf
	port      int
	queue     chan serf.Event
	events    func(Event)

	// tagging lets one change of tags at a time through to the library, which takes no lock of its own for them.
	tagging sync.Mutex

	// calls counts joins and leaves under way. It grows under mu only, and while stopping is false.
	calls    sync.WaitGroup
	mu       sync.Mutex
	stopping bool
}

// New makes a pool of one, this node, which is ready to be joined. Only Run lets go of what it holds: who has called
// New calls Run, if only with a context that is done. When New fails, it has closed cfg.Net.
func New(cfg Config) (*Pool, error) {
	if cfg.Net == nil {
		return nil, errors.New("gossip: nothing to listen on")
	}
	p, err := newPool(&cfg)
	if err != nil {
		_ = cfg.Net.Close() // It may be closed already.
		return nil, fmt.Errorf("gossip: %w", err)
	}
	return p, nil
}

func newPool(cfg *Config) (*Pool, error) {
	conf, err := libraryConfig(cfg)
	if err != nil {
		return nil, err
	}
	advertise, err := advertised(cfg)
	if err != nil {
		return nil, err
	}
	carrier := cfg.Carrier
	if carrier == nil {
		carrier = cfg.Net
	}
	p := &Pool{
		port:   cfg.Net.Port(),
		queue:  make(chan serf.Event, eventQueue),
		events: cfg.Events,
	}
	conf.EventCh = p.queue

	p.transport = newTransport(cfg.Net, carrier, advertise, cfg.Log)
	conf.MemberlistConfig.Transport = p.transport
	if p.serf, err = serf.Create(conf); err != nil {
		return nil, errors.Join(fmt.Errorf("create pool: %w", err), p.transport.Shutdown())
	}
	return p, nil
}

// Run delivers events until ctx is done, then shuts the pool down. It does not leave: to the others this node has
// failed unless Leave was called. A leave under way is finished first.
func (p *Pool) Run(ctx context.Context) error {
	stopped := make(chan struct{})
	var wg sync.WaitGroup
	wg.Go(func() { p.deliver(stopped) })

	<-ctx.Done()
	p.mu.Lock()
	p.stopping = true
	p.mu.Unlock()
	p.transport.closeStreams() // Ends the joins.
	p.calls.Wait()
	err := p.serf.Shutdown()
	close(stopped)
	wg.Wait()
	if err != nil {
		return fmt.Errorf("gossip: shut down: %w", err)
	}
	return nil
}

// deliver tells of events until stopped, and then of those that are there.
func (p *Pool) deliver(stopped <-chan struct{}) {
	for {
		select {
		case e := <-p.queue:
			p.tell(e)
		case <-stopped:
			for {
				select {
				case e := <-p.queue:
					p.tell(e)
				default:
					return
				}
			}
		}
	}
}

func (p *Pool) tell(e serf.Event) {
	if event, ok := eventOf(e); ok && p.events != nil {
		p.events(event)
	}
}

// call runs f, which the library gives no way to end. When ctx is done first, f goes on in the background, and Run
// waits for it.
func (p *Pool) call(ctx context.Context, f func() error) error {
	p.mu.Lock()
	if p.stopping {
		p.mu.Unlock()
		return errStopped
	}
	result := make(chan error, 1) // Nobody may be left to receive.
	p.calls.Go(func() { result <- f() })
	p.mu.Unlock()

	select {
	case err := <-result:
		return err
	case <-ctx.Done():
		return ctx.Err()
	}
}

// Join tries every address, and yields how many answered. It fails when none did. An address is a host, which may be
// an IP address or a DNS name, with or without a port; a member's name and a slash may stand before it, and must when
// Config.RequireNodeNames is set.
func (p *Pool) Join(ctx context.Context, addrs []string) (int, error) {
	targets, err := resolve(ctx, addrs, p.port)
	if len(targets) == 0 {
		return 0, err
	}
	joined := make(chan int, 1)
	if callErr := p.call(ctx, func() error {
		n, err := p.serf.Join(targets, true)
		joined <- n
		if n > 0 {
			return nil
		}
		return err
	}); callErr != nil {
		return 0, fmt.Errorf("gossip: join: %w", errors.Join(err, callErr))
	}
	return <-joined, nil
}

// Leave tells the others that this node goes, and waits until they know. It goes on after ctx is done.
func (p *Pool) Leave(ctx context.Context) error {
	if err := p.call(ctx, p.serf.Leave); err != nil {
		return fmt.Errorf("gossip: leave: %w", err)
	}
	return nil
}

// ForceLeave declares that a failed member has left. With prune it is forgotten at once, even if it had left already.
func (p *Pool) ForceLeave(name string, prune bool) error {
	remove := p.serf.RemoveFailedNode
	if prune {
		remove = p.serf.RemoveFailedNodePrune
	}
	if err := remove(name); err != nil {
		return fmt.Errorf("gossip: force %s to leave: %w", name, err)
	}
	return nil
}

// Members are those known, ordered by name, with those that left or failed and are not forgotten yet.
func (p *Pool) Members() []Member {
	found := p.serf.Members()
	members := make([]Member, len(found))
	for i := range found {
		members[i] = memberOf(&found[i])
	}
	return sortedByName(members)
}

// Local is this node.
func (p *Pool) Local() Member {
	m := p.serf.LocalMember()
	return memberOf(&m)
}

// NumNodes is the number of members known, whatever their status.
func (p *Pool) NumNodes() int { return p.serf.NumNodes() }

// SetTags replaces the tags of this node, and waits until another member was told.
func (p *Pool) SetTags(tags map[string]string) error {
	p.tagging.Lock()
	defer p.tagging.Unlock()
	if err := p.serf.SetTags(maps.Clone(tags)); err != nil {
		return fmt.Errorf("gossip: set tags: %w", err)
	}
	return nil
}

// UserEvent sends a message to all members. With coalesce a receiver may drop all but the newest of a name.
func (p *Pool) UserEvent(name string, payload []byte, coalesce bool) error {
	if err := p.serf.UserEvent(name, payload, coalesce); err != nil {
		return fmt.Errorf("gossip: send event %s: %w", name, err)
	}
	return nil
}

// Stats are the library's figures, for people to read.
func (p *Pool) Stats() map[string]string { return p.serf.Stats() }
