package telemetry

import (
	"context"
	"log/slog"
	"net"
	"strconv"
	"strings"
	"time"
)

const (
	// maxPacket is how long a packet to a collector may be, in bytes.
	maxPacket = 1400
	// maxQueue is how many packets wait for a collector that is slow or away. What
	// comes then is dropped.
	maxQueue = 256
	// redialAfter is the pause after a connection that failed.
	redialAfter = 5 * time.Second
	// sendWithin is how long a collector may take to accept a packet or connection.
	sendWithin = 5 * time.Second
)

// target is where metrics are sent.
type target struct {
	network, address string
	tagged           bool // labels are told as tags, not as parts of the name
	tags             []string
	queue            chan []byte
}

// gather makes a metric keep its news.
func (m *metric) gather() {
	m.mu.Lock()
	m.pending = true
	m.mu.Unlock()
}

// send queues the news of all metrics.
func (m *Metrics) send() {
	packets := make([][]byte, len(m.targets))
	line := func(name string, d *metric, key *values, v float64) {
		for i, t := range m.targets {
			one := t.line(name, d, key, v)
			if len(packets[i])+len(one) > maxPacket {
				t.put(packets[i])
				packets[i] = nil
			}
			packets[i] = append(packets[i], one...)
		}
	}
	for _, d := range m.from.metrics() {
		d.gather() // there may be new ones
		d.each(func(key *values, s *series) {
			if len(s.news) == 0 && s.newSum == 0 {
				return
			}
			if name := m.name(d, key); name != "" {
				if d.Kind == KindCounter {
					line(name, d, key, s.newSum)
				}
				for _, v := range s.news {
					line(name, d, key, v)
				}
			}
			s.news, s.newSum = s.news[:0], 0
		})
	}
	for i, t := range m.targets {
		t.put(packets[i])
	}
}

// statsTypes are the words for the kinds.
var statsTypes = map[Kind]string{KindCounter: "|c", KindGauge: "|g", KindSample: "|ms"}

// statsName replaces what separates the fields of a line.
var statsName = strings.NewReplacer(":", "_", " ", "_", "|", "_", "\n", "_")

// line is how a value is told.
func (t *target) line(name string, d *metric, key *values, v float64) string {
	labels := key[d.stars : d.stars+len(d.Labels)]
	if !t.tagged {
		for _, l := range labels {
			name += "." + l
		}
	}
	out := statsName.Replace(name) + ":" + strconv.FormatFloat(v, 'f', -1, 64) + statsTypes[d.Kind]
	if !t.tagged {
		return out + "\n"
	}
	mark := "|#"
	for _, tag := range t.tags {
		out += mark + tag
		mark = ","
	}
	for i, l := range labels {
		out += mark + d.Labels[i] + ":" + strings.NewReplacer(",", "_", "|", "_", "\n", "_").Replace(l)
		mark = ","
	}
	return out + "\n"
}

// put queues a packet, or drops it.
func (t *target) put(packet []byte) {
	if len(packet) == 0 {
		return
	}
	select {
	case t.queue <- packet:
	default:
	}
}

// run sends what is queued until ctx is done.
func (t *target) run(ctx context.Context, log *slog.Logger) {
	for ctx.Err() == nil {
		err := t.connected(ctx)
		if ctx.Err() != nil {
			return
		}
		log.Warn("metrics do not get through", "address", t.address, "err", err)
		select {
		case <-ctx.Done():
		case <-time.After(redialAfter):
		}
	}
}

// connected sends over one connection.
func (t *target) connected(ctx context.Context) error {
	dialer := net.Dialer{Timeout: sendWithin}
	conn, err := dialer.DialContext(ctx, t.network, t.address)
	if err != nil {
		return err //nolint:wrapcheck // logged with the address
	}
	defer conn.Close() //nolint:errcheck // it is done with
	for {
		select {
		case <-ctx.Done():
			return nil
		case packet := <-t.queue:
			_ = conn.SetWriteDeadline(time.Now().Add(sendWithin)) // fails with the write
			if _, err := conn.Write(packet); err != nil && t.network == "tcp" {
				return err //nolint:wrapcheck // logged with the address
			}
		}
	}
}
