package httpapi

import (
	"bytes"
	"compress/gzip"
	"encoding/json"
	"fmt"
	"strconv"
	"sync"
	"time"

	"isthmus/internal/rpc"
)

const (
	// gzipFrom is from how many bytes on an answer is compressed: below, it fits
	// into one packet anyway.
	gzipFrom = 1400
	// keepBuffer is up to which size a buffer is kept for the next answer.
	keepBuffer = 1 << 20
)

var (
	buffers = sync.Pool{New: func() any { return new(bytes.Buffer) }}
	zippers = sync.Pool{New: func() any {
		z, _ := gzip.NewWriterLevel(nil, gzip.BestSpeed) // the level is valid
		return z
	}}
)

func getBuffer() *bytes.Buffer {
	b, _ := buffers.Get().(*bytes.Buffer)
	b.Reset()
	return b
}

func putBuffer(b *bytes.Buffer) {
	if b.Cap() <= keepBuffer {
		buffers.Put(b)
	}
}

// meta sets the headers that tell how good an answer is.
func (q *request) meta(m rpc.Meta) {
	h := q.w.Header()
	h["X-Consul-Index"] = []string{strconv.FormatUint(max(m.Index, 1), 10)}
	h["X-Consul-Knownleader"] = []string{strconv.FormatBool(m.KnownLeader)}
	h["X-Consul-Lastcontact"] = []string{strconv.FormatInt(m.LastContact.Milliseconds(), 10)}
	h["X-Consul-Query-Backend"] = headerBackend
	if m.Filtered {
		h["X-Consul-Results-Filtered-By-Acls"] = []string{"true"}
	}
	switch {
	case m.Hit:
		h["X-Cache"] = []string{"HIT"}
		h["Age"] = []string{strconv.FormatInt(int64(m.Age/time.Second), 10)}
	case m.Cached:
		h["X-Cache"] = []string{"MISS"}
	}
}

var headerBackend = []string{"blocking-query"}

// consistency is the word for what a caller asked for.
func consistency(h rpc.Header) string {
	switch {
	case h.Consistent:
		return "consistent"
	case h.AllowStale:
		return "stale"
	}
	return "leader"
}

// renderer is a value that writes its own JSON.
type renderer interface{ render(out []byte) []byte }

// json answers with a value.
func (q *request) json(v any) error {
	b := getBuffer()
	if own, ok := v.(renderer); ok {
		b = bytes.NewBuffer(own.render(b.AvailableBuffer()))
	} else if err := json.NewEncoder(b).Encode(v); err != nil {
		return fmt.Errorf("render answer: %w", err)
	} else {
		b.Truncate(b.Len() - 1) // the encoder's line feed
	}
	defer putBuffer(b)
	q.w.Header()["Content-Type"] = headerJSON
	if q.api.cfg.Pretty || q.has("pretty") {
		wide := getBuffer()
		defer putBuffer(wide)
		if err := json.Indent(wide, b.Bytes(), "", "    "); err != nil {
			return fmt.Errorf("render answer: %w", err)
		}
		wide.WriteByte('\n')
		b = wide
	}
	q.send(b.Bytes())
	return nil
}

// send writes the body, compressed when that is worth it. A caller that went
// away is told by its context, so errors of writing are not.
func (q *request) send(body []byte) {
	h := q.w.Header()
	if len(body) >= gzipFrom && acceptsGzip(q.Header) {
		zipped := getBuffer()
		defer putBuffer(zipped)
		z, _ := zippers.Get().(*gzip.Writer)
		z.Reset(zipped)
		_, err := z.Write(body)
		if z.Close() == nil && err == nil {
			h.Set("Content-Encoding", "gzip")
			body = zipped.Bytes()
		}
		zippers.Put(z)
	}
	h["Content-Length"] = []string{strconv.Itoa(len(body))}
	_, _ = q.w.Write(body)
}
