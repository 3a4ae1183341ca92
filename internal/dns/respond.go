package dns

import (
	"context"
	"encoding/binary"
	"errors"
	"strings"
	"time"

	"github.com/miekg/dns"

	"isthmus/api"
	"isthmus/internal/telemetry"
)

// scratch is what answering one question after the other needs again.
type scratch struct {
	query  query
	writer writer
	out    []byte
	key    []byte
}

// prepare reads a message. It returns the answer where it is at hand, and false
// when somebody has to be asked.
func (f *Front) prepare(sc *scratch, raw []byte, tcp bool) (out []byte, done bool) {
	s := f.settings.Load()
	sc.query.recursion, sc.query.compression = len(s.Recursors) > 0, !s.DisableCompression
	err := sc.query.parse(raw, tcp)
	switch {
	case errors.Is(err, errShort):
		return nil, true
	case errors.Is(err, errFormat):
		return refusal(raw, dns.RcodeFormatError), true
	case errors.Is(err, errOpcode):
		return refusal(raw, dns.RcodeNotImplemented), true
	case err != nil:
		return sc.write(&answer{rcode: dns.RcodeBadVers, names: make([]name, 1)}, s), true
	}
	sc.key = appendKey(sc.key[:0], &sc.query)
	begin := time.Now()
	if a := f.ready.find(sc.key); a != nil {
		telemetry.DNSDomain.Since(begin)
		return sc.write(a, s), true
	}
	return nil, false
}

func (sc *scratch) write(a *answer, s *Settings) []byte {
	sc.out = sc.writer.write(sc.out[:0], &sc.query, a, s)
	return sc.out
}

// appendKey appends the question in lower case.
func appendKey(b []byte, q *query) []byte {
	for _, c := range q.question[:q.name] {
		b = append(b, lower(c)) // no length of a label is a letter
	}
	return append(b, q.question[q.name:]...)
}

// refusal answers a message that is no question.
func refusal(raw []byte, rcode int) []byte {
	out := make([]byte, headerLen)
	flags := binary.BigEndian.Uint16(raw[2:])&(0xf<<11|flagRD) | flagQR | uint16(rcode) //nolint:gosec // of four bits
	copy(out, raw[:2])
	binary.BigEndian.PutUint16(out[2:], flags)
	return out
}

// respond answers a question that was prepared and is not at hand.
func (f *Front) respond(ctx context.Context, sc *scratch, raw []byte) []byte {
	s := f.settings.Load()
	q := &sc.query
	q.compression = !s.DisableCompression
	l := &lookup{f: f, s: s, q: q, answer: newAnswer()}
	if domain, rest, ok := f.domainOf(q.text()); ok {
		defer telemetry.DNSDomain.Since(time.Now())
		l.domain = domain
		f.inDomain(ctx, l, rest)
		if f.isHot(l) {
			f.ready.ask(sc.key, l.place)
		}
		return sc.write(l.answer.finish(), s)
	}
	if strings.HasSuffix(q.text(), ".arpa.") || q.text() == "arpa." {
		defer telemetry.DNSPTR.Since(time.Now())
		if f.backwards(ctx, l) {
			return sc.write(l.answer.finish(), s)
		}
		l.answer.rcode = dns.RcodeServerFailure
	} else if l.answer.rcode = dns.RcodeServerFailure; len(s.Recursors) == 0 {
		l.answer.rcode = dns.RcodeRefused
	}
	if out := f.forward(ctx, s, raw, q); out != nil {
		return out
	}
	l.answer.authority = false
	return sc.write(l.answer.finish(), s)
}

// inDomain answers a question about a name of ours.
func (f *Front) inDomain(ctx context.Context, l *lookup, rest string) {
	ctx, cancel := context.WithTimeout(ctx, allWithin)
	defer cancel()
	switch l.q.qtype {
	case dns.TypeSOA, dns.TypeNS:
		l.zone(ctx)
		return
	case dns.TypeAXFR:
		l.answer.rcode = dns.RcodeNotImplemented
		return
	}
	l.place = parseName(rest)
	err := l.resolve(ctx)
	if err == nil {
		return
	}
	l.answer = newAnswer()
	switch api.CodeOf(err) {
	case api.NoPath:
		l.nameError()
		return
	case api.NotAllowed:
		l.answer.rcode = dns.RcodeRefused
	case api.NotBuilt:
		l.answer.rcode, l.answer.notice = dns.RcodeNotImplemented, "this kind of name is not built yet"
	default:
		l.answer.rcode = dns.RcodeServerFailure
	}
	f.cfg.Log.Debug("question has no answer", "name", l.q.text(), "type", dns.TypeToString[l.q.qtype], "err", err)
}

// backwards answers a question for the name of an address, and returns false where
// it has none.
func (f *Front) backwards(ctx context.Context, l *lookup) bool {
	addr, ok := reversed(l.q.text())
	if !ok || len(f.domains) == 0 {
		return false
	}
	found, err := l.reverse(ctx, addr)
	if err != nil {
		f.cfg.Log.Debug("address has no name", "address", addr, "err", err)
	}
	return found
}
