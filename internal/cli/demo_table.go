package cli

import (
	"fmt"
	"io"
	"os"
	"strings"
	"sync"
	"time"
	"unicode/utf8"
)

// screen is where a demo tells what happens: lines with their time and, on a
// terminal, a table below them that is drawn in place.
type screen struct {
	start time.Time
	file  *os.File // nil when there is no terminal

	mu    sync.Mutex
	out   io.Writer
	table []string
	drawn int // lines of the table on the terminal
	err   error
}

func newScreen(out io.Writer, start time.Time) *screen {
	s := &screen{start: start, out: out}
	if f, ok := out.(*os.File); ok {
		if _, _, err := terminalSize(f); err == nil {
			s.file = f
		}
	}
	return s
}

func (s *screen) terminal() bool { return s.file != nil }

// sayf tells what happened, with the time since the start.
func (s *screen) sayf(format string, args ...any) {
	s.sayAtf(time.Now(), format, args...)
}

func (s *screen) sayAtf(at time.Time, format string, args ...any) {
	text := fmt.Sprintf(format, args...)
	s.print(fmt.Sprintf("%7.2f s  %s\n", at.Sub(s.start).Seconds(), strings.ReplaceAll(text, "\n", "\n           ")))
}

// print writes text above the table.
func (s *screen) print(text string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.write(s.erased() + text + s.drawing())
}

// show replaces the table. None takes it away.
func (s *screen) show(table []string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.terminal() {
		return
	}
	s.table = table
	s.write(s.erased() + s.drawing())
}

// write keeps the first error: when nobody reads any more, the demo goes on and
// ends in order.
func (s *screen) write(text string) {
	if _, err := io.WriteString(s.out, text); err != nil && s.err == nil {
		s.err = err
	}
}

// erased takes the table off the terminal.
func (s *screen) erased() string {
	if s.drawn == 0 {
		return ""
	}
	n := s.drawn
	s.drawn = 0
	return fmt.Sprintf("\r\x1b[%dA\x1b[J", n)
}

// drawing puts the table on the terminal. No line may wrap, and all of it must
// fit, or it could not be taken off again.
func (s *screen) drawing() string {
	if len(s.table) == 0 {
		return ""
	}
	width, height, err := terminalSize(s.file)
	if err != nil {
		return ""
	}
	var out strings.Builder
	for _, line := range s.table[:min(len(s.table), max(height-1, 0))] {
		out.WriteString(cut(line, width-1))
		out.WriteByte('\n')
		s.drawn++
	}
	return out.String()
}

// cut shortens a line to a number of characters.
func cut(line string, width int) string {
	if utf8.RuneCountInString(line) <= width {
		return line
	}
	return string([]rune(line)[:max(width, 0)])
}

// liveTable is what the terminal shows of the federation.
func liveTable(r *demoRun, views map[*demoNode]demoView, missing []demoMissing) []string {
	rows := [][]string{{"NODE", "PID", "ROLE", "WAN ALIVE", "ROUTE", "HTTP OR BYTES"}}
	servers := 0
	for _, n := range r.nodes {
		if n.server {
			servers++
		}
	}
	for _, n := range r.nodes {
		row := []string{n.name, "-", "down", "-", "-", n.shown}
		if pid := r.processes.pid(n); pid != 0 {
			row[1], row[2] = fmt.Sprint(pid), "starting"
		}
		switch v := views[n]; {
		case !v.answers:
		case !n.server:
			row[2], row[5] = "gateway", bytesText(v.bytes)
		default:
			row[2], row[3], row[4] = "follower", fmt.Sprintf("%d of %d", v.alive, servers), v.route
			if v.leads {
				row[2] = "leader"
			}
		}
		rows = append(rows, row)
	}
	lines := append([]string{""}, columns(rows)...)
	lines = append(lines, "", verdict(missing))
	for _, p := range r.probes {
		lines = append(lines, "reads "+p.name()+": "+p.now())
	}
	if count, what, err := r.network.straight(); err == nil {
		lines = append(lines, fmt.Sprintf("%d %s", count, what))
	}
	return append(lines, "", "kill any process above (kill -9 PID) and watch; Ctrl-C ends the demo")
}

// verdict says in a line whether the federation is whole.
func verdict(missing []demoMissing) string {
	if len(missing) == 0 {
		return "the federation is whole"
	}
	m := missing[0]
	text := "not for " + m.node.name + ": " + m.step
	if len(missing) > 1 {
		text += fmt.Sprintf(" (and %d more)", len(missing)-1)
	}
	return text
}

// columns aligns rows.
func columns(rows [][]string) []string {
	var widths []int
	for _, row := range rows {
		for i, cell := range row {
			if i == len(widths) {
				widths = append(widths, 0)
			}
			widths[i] = max(widths[i], utf8.RuneCountInString(cell))
		}
	}
	var out []string
	for _, row := range rows {
		var line strings.Builder
		for i, cell := range row {
			fmt.Fprintf(&line, "%-*s  ", widths[i], cell)
		}
		out = append(out, strings.TrimRight(line.String(), " "))
	}
	return out
}

// bytesText is a number of bytes for people.
func bytesText(n uint64) string {
	const kilo = 1000
	switch {
	case n < kilo:
		return fmt.Sprintf("%d B relayed", n)
	case n < kilo*kilo:
		return fmt.Sprintf("%.1f kB relayed", float64(n)/kilo)
	default:
		return fmt.Sprintf("%.1f MB relayed", float64(n)/kilo/kilo)
	}
}
