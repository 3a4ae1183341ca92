package dns

import (
	"encoding/binary"
	"math/rand/v2"
	"slices"

	"github.com/miekg/dns"
)

// answer is what there is to say to a question, before it is fitted into a
// message. It does not depend on who asks: many messages are made of one. All
// names in it are indices into names.
type answer struct {
	rcode     int
	authority bool // we are the authority for it
	names     []name
	index     map[string]int // of the names, by their bytes
	records   []record       // of the answer section
	ns, extra []record
	// owned are the indices of the additional records of each name; finish makes it.
	owned map[int][]int
	// shuffled answers have their records in another order each time.
	shuffled bool
	// limit is how many of the records may be used; 0 is all.
	limit int
	// notice is told to those who understand it, with the code that says that
	// something is not supported.
	notice string
	// passing answers depend on more than the catalog, and cannot be kept.
	passing bool
}

// name is a name in the wire's form. The last domain bytes of it are the domain,
// which is written the way it was asked for.
type name struct {
	wire   []byte
	domain int
}

// asked is the index of the question's own name.
const asked = 0

// none says that a record leads to no name.
const none = -1

// record is a packed record: what stands between its owner and the name that it
// leads to, if any.
type record struct {
	owner int
	// fixed is type, class and TTL, and data what comes before the name in the data.
	fixed  [8]byte
	data   []byte
	target int
	// whole targets are never compressed.
	whole bool
}

func newRecord(owner int, rtype uint16, ttl uint32, data []byte, target int) record {
	r := record{owner: owner, data: data, target: target, whole: rtype == dns.TypeSRV}
	binary.BigEndian.PutUint16(r.fixed[0:], rtype)
	binary.BigEndian.PutUint16(r.fixed[2:], dns.ClassINET)
	binary.BigEndian.PutUint32(r.fixed[4:], ttl)
	return r
}

func (r *record) rtype() uint16 { return binary.BigEndian.Uint16(r.fixed[:]) }

// newAnswer returns an empty one.
func newAnswer() *answer {
	return &answer{authority: true, names: make([]name, 1), index: map[string]int{}}
}

// name returns the index of a name, which it adds if need be. It is compared by
// its bytes.
func (a *answer) name(n name) int {
	i, ok := a.index[string(n.wire)]
	if !ok {
		i = len(a.names)
		a.names = append(a.names, n)
		a.index[string(n.wire)] = i
	}
	return i
}

// finish is called once there is nothing to add any more. From then on the answer
// is read alone, by any number of writers.
func (a *answer) finish() *answer {
	a.index = nil
	a.owned = make(map[int][]int, len(a.extra))
	for i := range a.extra {
		a.owned[a.extra[i].owner] = append(a.owned[a.extra[i].owner], i)
	}
	return a
}

// query is a question as it came.
type query struct {
	id          uint16
	flags       uint16 // of the header
	question    []byte // the name, type and class, as they came
	name        int    // length of the name in it
	qtype       uint16
	tcp         bool
	edns        bool
	size        int // of the answer at most
	claimed     uint16
	subnet      []byte // option of the client's subnet, for the answer; nil without
	recursion   bool   // we have recursors
	lower       string // the name in lower case
	compression bool
}

// The bits of a header's flags.
const (
	flagQR = 1 << 15
	flagAA = 1 << 10
	flagTC = 1 << 9
	flagRD = 1 << 8
	flagRA = 1 << 7
	// flagRest are the bit without a meaning, the one of DNSSEC that only a resolver
	// sets, and the code.
	flagRest = 1<<6 | 1<<5 | 0xf
)

const (
	headerLen  = 12
	pointer    = 0xc000
	maxPointer = 0x3fff
	plainSize  = 512 // of a message over UDP without EDNS
	extendedOf = 15  // option code of extended errors
	notSupport = 21  // "Not Supported" among them
)

// writer makes one message of an answer. It may be used again.
type writer struct {
	q       *query
	a       *answer
	buf     []byte
	at      []int // where each name was written first; 0 is nowhere
	written []int // the names for which at is not 0
	order   []int32
	chosen  []int // additional records
	fitted  int   // records of the answer section that the last try had room for
}

// write appends the message to buf, which is empty. Where not everything fits, it
// leaves out records: those beyond the limits, then the additional ones that no
// other refers to, then answers, and it says so if told to.
func (w *writer) write(buf []byte, q *query, a *answer, s *Settings) []byte {
	w.q, w.a, w.buf = q, a, buf
	n := len(a.records)
	if a.limit > 0 {
		n = min(n, a.limit)
	}
	trimmed := false
	if !q.tcp && q.size <= plainSize && s.UDPAnswerLimit > 0 && n > s.UDPAnswerLimit {
		n, trimmed = s.UDPAnswerLimit, true
	}
	w.shuffle(min(n, q.size/minRecord))
	if !w.try(n, trimmed) {
		trimmed = true
		w.cut(n)
	}
	w.flags(trimmed && (s.EnableTruncate || len(a.records) > 0 && binary.BigEndian.Uint16(w.buf[6:]) == 0))
	return w.buf
}

// cut makes a message of as many of the first n records as fit.
func (w *writer) cut(n int) {
	low, high := 0, min(n, w.fitted+1)
	if w.try(n, true) {
		return
	}
	for low+1 < high {
		if mid := (low + high) / 2; w.try(mid, true) {
			low = mid
		} else {
			high = mid
		}
	}
	// One is better than none: then additional ones go.
	if low = max(low, min(n, 1)); !w.try(low, true) {
		w.squeeze(low)
	}
}

// minRecord is the length of the shortest record there is.
const minRecord = 12

// flags writes the flags of the header.
func (w *writer) flags(truncated bool) {
	flags := w.q.flags&^(flagAA|flagTC|flagRA|flagRest) | flagQR | uint16(w.a.rcode)&0xf //nolint:gosec // a code of four bits
	if w.a.authority {
		flags |= flagAA
	}
	if w.q.recursion || !w.a.authority && w.a.rcode == dns.RcodeServerFailure {
		flags |= flagRA
	}
	if truncated {
		flags |= flagTC
	}
	binary.BigEndian.PutUint16(w.buf[2:], flags)
}

// shuffle chooses the order of the first n of the answer's records. What order
// there was before is as good as any other to begin with.
func (w *writer) shuffle(n int) {
	all := len(w.a.records)
	if len(w.order) != all || !w.a.shuffled {
		w.order = w.order[:0]
		for i := range all {
			w.order = append(w.order, int32(i))
		}
	}
	if w.a.shuffled {
		for i := range min(n, all) {
			j := i + rand.IntN(all-i) //nolint:gosec // spreads load, hides nothing
			w.order[i], w.order[j] = w.order[j], w.order[i]
		}
	}
}

// squeeze makes a message that leaves out additional records from the end, and all
// others where not even that is enough.
func (w *writer) squeeze(n int) {
	whole, a := w.a, *w.a
	w.choose(n)
	a.extra = nil
	for _, i := range w.chosen {
		a.extra = append(a.extra, whole.extra[i])
	}
	w.a = &a
	for !w.try(n, false) {
		switch {
		case len(a.extra) > 0:
			a.extra = a.extra[:len(a.extra)-1]
		case n > 0:
			n = 0
		default:
			a.ns = nil
		}
	}
	w.a = whole
}

// try writes a message with n records in its answer section, and returns false
// when it does not fit. A message that is cut has those additional records alone
// that its answers lead to.
func (w *writer) try(n int, cut bool) bool {
	w.head()
	w.fitted = 0
	for _, i := range w.order[:n] {
		if w.record(&w.a.records[i]); len(w.buf) > w.q.size {
			return false
		}
		w.fitted++
	}
	for i := range w.a.ns {
		w.record(&w.a.ns[i])
	}
	extras := len(w.a.extra)
	if cut {
		w.choose(n)
		extras = len(w.chosen)
		for _, i := range w.chosen {
			if w.record(&w.a.extra[i]); len(w.buf) > w.q.size {
				return false
			}
		}
	} else {
		for i := range w.a.extra {
			if w.record(&w.a.extra[i]); len(w.buf) > w.q.size {
				return false
			}
		}
	}
	if w.q.edns {
		w.opt()
		extras++
	}
	binary.BigEndian.PutUint16(w.buf[6:], uint16(n))           //nolint:gosec // a message has fewer
	binary.BigEndian.PutUint16(w.buf[8:], uint16(len(w.a.ns))) //nolint:gosec // the same
	binary.BigEndian.PutUint16(w.buf[10:], uint16(extras))     //nolint:gosec // the same
	return len(w.buf) <= w.q.size
}

// choose picks the additional records that the first n answers lead to.
func (w *writer) choose(n int) {
	w.chosen = w.chosen[:0]
	for _, i := range w.order[:n] {
		w.follow(w.a.records[i].target)
	}
}

// follow picks the additional records of a name, and of those that they lead to.
func (w *writer) follow(name int) {
	if name == none {
		return
	}
	for _, i := range w.a.owned[name] {
		if !slices.Contains(w.chosen, i) {
			w.chosen = append(w.chosen, i)
			w.follow(w.a.extra[i].target)
		}
	}
}

// head writes the header, whose flags come last, and the question.
func (w *writer) head() {
	w.buf = append(w.buf[:0], 0, 0, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0)
	binary.BigEndian.PutUint16(w.buf, w.q.id)
	w.buf = append(w.buf, w.q.question...)
	for _, i := range w.written {
		w.at[i] = 0
	}
	w.written = w.written[:0]
	if more := len(w.a.names) - len(w.at); more > 0 {
		w.at = append(w.at, make([]int, more)...)
	}
	w.at[asked] = headerLen
}

// record writes one record.
func (w *writer) record(r *record) {
	w.writeName(r.owner, !w.q.compression)
	w.buf = append(w.buf, r.fixed[:]...)
	length := len(w.buf)
	w.buf = append(w.buf, 0, 0)
	w.buf = append(w.buf, r.data...)
	if r.target >= 0 {
		w.writeName(r.target, r.whole || !w.q.compression)
	}
	binary.BigEndian.PutUint16(w.buf[length:], uint16(len(w.buf)-length-2)) //nolint:gosec // data of a record is short
}

// writeName writes a name, or a pointer to where it stands already.
func (w *writer) writeName(i int, whole bool) {
	if at := w.at[i]; at > 0 && at <= maxPointer && !whole {
		w.buf = binary.BigEndian.AppendUint16(w.buf, pointer|uint16(at))
		return
	}
	if i == asked {
		w.buf = append(w.buf, w.q.question[:w.q.name]...)
		return
	}
	if w.at[i] == 0 {
		w.at[i] = len(w.buf)
		w.written = append(w.written, i)
	}
	n := &w.a.names[i]
	own := len(n.wire) - n.domain
	w.buf = append(w.buf, n.wire[:own]...)
	if n.domain == 0 {
		return
	}
	begin := w.q.name - n.domain // of the domain in the question
	switch {
	case begin < 0:
		w.buf = append(w.buf, n.wire[own:]...)
	case whole:
		w.buf = append(w.buf, w.q.question[begin:w.q.name]...)
	default:
		w.buf = binary.BigEndian.AppendUint16(w.buf, pointer|uint16(headerLen+begin)) //nolint:gosec // a question is short
	}
}

// opt writes the record of EDNS.
func (w *writer) opt() {
	w.buf = append(w.buf, 0, 0, byte(dns.TypeOPT))
	w.buf = binary.BigEndian.AppendUint16(w.buf, w.q.claimed)
	w.buf = append(w.buf, byte(w.a.rcode>>4), 0, 0, 0) //nolint:gosec // codes have 12 bits
	length := len(w.buf)
	w.buf = append(w.buf, 0, 0)
	if w.q.subnet != nil {
		w.buf = append(w.buf, 0, byte(dns.EDNS0SUBNET))
		w.buf = binary.BigEndian.AppendUint16(w.buf, uint16(len(w.q.subnet))) //nolint:gosec // it fitted into the question
		w.buf = append(w.buf, w.q.subnet...)
	}
	if w.a.notice != "" {
		w.buf = append(w.buf, 0, extendedOf)
		w.buf = binary.BigEndian.AppendUint16(w.buf, uint16(2+len(w.a.notice))) //nolint:gosec // a short text
		w.buf = append(w.buf, 0, notSupport)
		w.buf = append(w.buf, w.a.notice...)
	}
	binary.BigEndian.PutUint16(w.buf[length:], uint16(len(w.buf)-length-2)) //nolint:gosec // short
}
