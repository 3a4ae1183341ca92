package checks

import "fmt"

// tail keeps the last bytes of what is written to it, in memory that does not
// grow with the rest.
type tail struct {
	max   int
	kept  []byte // up to twice as much as asked for, so that few writes move it
	total int
}

// Write implements io.Writer.
func (t *tail) Write(p []byte) (int, error) {
	t.total += len(p)
	if len(p) >= t.max {
		t.kept = append(t.kept[:0], p[len(p)-t.max:]...)
		return len(p), nil
	}
	if len(t.kept)+len(p) > 2*t.max {
		t.kept = t.kept[:copy(t.kept, t.kept[len(t.kept)-t.max:])]
	}
	t.kept = append(t.kept, p...)
	return len(p), nil
}

// String tells what was kept, and of how much if that was not all.
func (t *tail) String() string {
	if t.total <= t.max {
		return string(t.kept)
	}
	return fmt.Sprintf("Captured %d of %d bytes\n...\n%s", t.max, t.total, t.kept[len(t.kept)-t.max:])
}
