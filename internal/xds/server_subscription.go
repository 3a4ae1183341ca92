package xds

import (
	"crypto/sha256"
	"encoding/hex"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"
)

const (
	// What was refused is tried again although it has not changed, for the reason
	// may be the client's: an address in use, a file that is not there yet.
	retryFirst = 10 * time.Second
	retryMax   = 5 * time.Minute
)

// stale is a version that no resource has: the client has one that must be
// replaced in any case.
const stale = "\x00"

// subscription is one type of a session.
type subscription struct {
	kind     int
	wildcard bool
	explicit bool // a state-of-the-world client has named resources before
	names    map[string]struct{}
	// have are the versions that the client has; "" is a name that it was told
	// does not exist, and stale what it must be sent again.
	have     map[string]string
	claim    string // what a state-of-the-world client says it has, until there is a view
	answered bool   // the client need not be told that there is nothing
	pending  *response
	last     string // nonce of the last response

	rejection *Rejection
	rejected  map[string]string // versions that the client refused
	single    bool              // one resource at a time, to find the one that is refused
	retries   int
	retryAt   time.Time
}

// wants tells whether the client asked for a name.
func (u *subscription) wants(name string) bool {
	_, ok := u.names[name]
	return ok || u.wildcard
}

// told is the version of a name that the client has, or will have when it takes
// what is on its way.
func (u *subscription) told(name string) (string, bool) {
	if u.pending != nil {
		if v, ok := u.pending.versions[name]; ok {
			return v, true
		}
	}
	v, ok := u.have[name]
	return v, ok
}

// after is the version of all that the client has when it takes a response; nil is
// none.
func (u *subscription) after(p *response) string {
	if p == nil {
		return digest(u.have)
	}
	have := maps.Clone(u.have)
	maps.Copy(have, p.versions)
	return digest(have)
}

// has tells whether the client holds a resource, or soon will.
func (u *subscription) has(name string) bool {
	if u == nil {
		return false
	}
	v, _ := u.told(name)
	return v != ""
}

// force makes a name be sent again, or its absence be told again.
func (u *subscription) force(name string) {
	if v, ok := u.told(name); ok && v != "" {
		u.drop(name)
		u.have[name] = stale
		return
	}
	u.drop(name)
}

// drop forgets what the client knows of a name it does not ask for any more.
func (u *subscription) drop(name string) {
	delete(u.have, name)
	delete(u.rejected, name)
	if u.pending != nil {
		delete(u.pending.versions, name)
	}
}

// prune drops all names that the client does not ask for any more.
func (u *subscription) prune() {
	for name := range u.have {
		if !u.wants(name) {
			u.drop(name)
		}
	}
	if u.pending == nil {
		return
	}
	for name := range u.pending.versions {
		if !u.wants(name) {
			u.drop(name)
		}
	}
}

// refuse notes that the client does not take a response. It returns what is
// known of that if it is news. A client may drop all of a response for one bad
// resource, so that what was refused together is sent again one by one.
func (u *subscription) refuse(now time.Time, p *response, reason string, whole bool) *Rejection {
	names := slices.Sorted(maps.Keys(p.versions))
	old := u.rejection
	u.rejection = &Rejection{
		Time: now, Error: clip(reason, maxReason), Version: u.after(p), Names: names[:min(len(names), maxRejectedNames)],
	}
	if len(p.versions) > 1 && !whole {
		u.single = true
	} else {
		if u.rejected == nil {
			u.rejected = make(map[string]string)
		}
		maps.Copy(u.rejected, p.versions)
		if !u.retryAt.After(now) {
			u.retryAt = now.Add(min(retryMax, retryFirst<<min(u.retries, 10)))
		}
	}
	if old != nil && old.Error == u.rejection.Error {
		return nil
	}
	return u.rejection
}

// retry gives what was refused another chance once its time has come.
func (u *subscription) retry(now time.Time) {
	if len(u.rejected) == 0 || now.Before(u.retryAt) || u.pending != nil {
		return
	}
	clear(u.rejected)
	u.single = true
	u.retries++
}

// settle ends a search and, if nothing is refused any more, the refusal.
func (u *subscription) settle() {
	u.single = false
	if len(u.rejected) == 0 {
		u.rejection, u.retries = nil, 0
	}
}

// digest is a version of many resources, equal on every server.
func digest(versions map[string]string) string {
	var text []byte
	for _, name := range slices.Sorted(maps.Keys(versions)) {
		if v := versions[name]; v != "" {
			// The lengths keep names and versions apart.
			text = strconv.AppendInt(text, int64(len(name)), 10)
			text = append(append(text, ':'), name...)
			text = strconv.AppendInt(text, int64(len(v)), 10)
			text = append(append(text, ':'), v...)
		}
	}
	sum := sha256.Sum256(text)
	return hex.EncodeToString(sum[:16])
}

// clip cuts a text that came from outside.
func clip(text string, limit int) string {
	if len(text) <= limit {
		return text
	}
	return strings.ToValidUTF8(text[:limit], "") + "…"
}
