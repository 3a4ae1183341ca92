package rpc

import "context"

// Parker is a Caller that can also tell later that an answer has changed, so that
// nobody has to wait for that in a goroutine.
type Parker interface {
	Caller
	// Park answers now, whatever MinIndex says, and calls changed once, from any
	// goroutine and quickly to be returned from, when the answer may be another. It
	// returns nil, and has answered nothing, when it cannot: another server answers, or
	// the read has to ask its peers each time.
	Park(ctx context.Context, r *Request, changed func()) (*Parked, error)
}

// Parked is an answer that is watched until Release.
type Parked struct {
	Meta  Meta
	Found bool // the answer is of something that is there
	// Holds tells whether the answer is still the one to a read that waits for what
	// comes after an index, as long as changed was not called.
	Holds   func(minIndex uint64) bool
	Release func()
}

// Park implements Parker.
func (c *Cache) Park(ctx context.Context, r *Request, changed func()) (*Parked, error) {
	next, ok := c.next.(Parker)
	if !ok || r.Header.UseCache {
		return nil, nil //nolint:nilnil // as the interface says
	}
	return next.Park(ctx, r, changed) //nolint:wrapcheck // the next one's errors
}
