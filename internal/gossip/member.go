package gossip

import (
	"cmp"
	"net/netip"
	"slices"

	"github.com/hashicorp/serf/serf"
)

// Status is what the pool holds of a member.
type Status int

// What a member can be. Leaving has announced that it goes; Left has gone so; Failed has gone without a word.
const (
	StatusNone    = Status(serf.StatusNone)
	StatusAlive   = Status(serf.StatusAlive)
	StatusLeaving = Status(serf.StatusLeaving)
	StatusLeft    = Status(serf.StatusLeft)
	StatusFailed  = Status(serf.StatusFailed)
)

// String is the protocol's word for the status.
func (s Status) String() string { return serf.MemberStatus(s).String() }

// Member is one node of a pool.
type Member struct {
	Name string
	Addr netip.Addr
	Port uint16
	// Tags are shared with the pool and must not be changed.
	Tags   map[string]string
	Status Status

	// The versions of the two layers of the protocol that the member understands and speaks.
	ProtocolMin, ProtocolMax, ProtocolCur uint8
	DelegateMin, DelegateMax, DelegateCur uint8
}

func memberOf(m *serf.Member) Member {
	addr, _ := netip.AddrFromSlice(m.Addr) // An address of a wrong length stays the zero Addr.
	return Member{
		Name:        m.Name,
		Addr:        addr.Unmap(),
		Port:        m.Port,
		Tags:        m.Tags,
		Status:      Status(m.Status),
		ProtocolMin: m.ProtocolMin,
		ProtocolMax: m.ProtocolMax,
		ProtocolCur: m.ProtocolCur,
		DelegateMin: m.DelegateMin,
		DelegateMax: m.DelegateMax,
		DelegateCur: m.DelegateCur,
	}
}

// EventKind tells what happened.
type EventKind int

// What can happen. Reap means that a member which had left or failed is forgotten. User is a message that any member
// can send to all.
const (
	EventJoin EventKind = iota
	EventLeave
	EventFailed
	EventUpdate
	EventReap
	EventUser
)

// String is the protocol's word for the kind.
func (k EventKind) String() string { return serf.EventType(k).String() }

// Event is something that happened in the pool.
type Event struct {
	Kind EventKind
	// Members are those it happened to. It is empty for EventUser.
	Members []Member
	// Name, Payload and LTime, the Lamport time, are those of an EventUser.
	Name    string
	Payload []byte
	LTime   uint64
}

// eventOf is false for what nobody above this package is told: the pool's internal queries.
func eventOf(e serf.Event) (Event, bool) {
	switch e := e.(type) {
	case serf.MemberEvent:
		members := make([]Member, len(e.Members))
		for i := range e.Members {
			members[i] = memberOf(&e.Members[i])
		}
		return Event{Kind: EventKind(e.Type), Members: members}, true
	case serf.UserEvent:
		return Event{Kind: EventUser, Name: e.Name, Payload: e.Payload, LTime: uint64(e.LTime)}, true
	default:
		return Event{}, false
	}
}

func sortedByName(members []Member) []Member {
	slices.SortFunc(members, func(a, b Member) int { return cmp.Compare(a.Name, b.Name) })
	return members
}
