package cli

import (
	"bytes"
	"cmp"
	"fmt"
	"maps"
	"runtime"
	"slices"
	"strings"
	"time"
)

const (
	topErrors   = 12               // kinds of errors of requests that are told
	growthLife  = 10 * time.Minute // that a process must have run for its memory to be judged
	growthBy    = 1.25
	growthLeast = 16 << 20
	mebi        = 1 << 20
)

// soakOutcome is the report, and what the soak failed by.
type soakOutcome struct {
	text     []byte
	failures []string
}

// writer of a report.
type soakWriter struct {
	bytes.Buffer

	failures []string
}

func (w *soakWriter) linef(format string, args ...any) { _, _ = fmt.Fprintf(w, format+"\n", args...) }

func (w *soakWriter) row(cells ...any) {
	for _, c := range cells {
		_, _ = fmt.Fprintf(w, "| %v ", c)
	}
	w.linef("|")
}

func (w *soakWriter) head(cells ...any) {
	w.linef("")
	w.row(cells...)
	w.linef("%s|", strings.Repeat("|--", len(cells)))
}

func (w *soakWriter) failf(format string, args ...any) {
	w.failures = append(w.failures, fmt.Sprintf(format, args...))
}

func seconds(d time.Duration) string { return fmt.Sprintf("%.2f s", d.Seconds()) }

func millis(d time.Duration) string { return fmt.Sprintf("%.1f ms", float64(d.Microseconds())/1000) }

// report judges the soak and writes down what happened.
func (s *soak) report(begun, ended time.Time, seed uint64) soakOutcome {
	var body soakWriter
	results := s.load.results
	j := newSoakJudge(s.oracle, results)
	slices.SortFunc(s.faults, func(a, b soakFault) int { return a.at.Compare(b.at) })
	for _, e := range s.errors {
		body.failf("%s", e)
	}
	s.writeRequests(&body, j)
	s.writeFaults(&body, j)
	s.writeWAN(&body)
	s.writeUsage(&body, begun, ended)
	s.writeLogs(&body)
	s.writeSchedule(&body, begun)

	var w soakWriter
	w.linef("# Soak\n")
	w.linef("Three datacenters, each node in a network namespace of its own: dc1 (primary) and dc2 with three servers, dc3 with one,")
	w.linef("two mesh gateways each (%s). The WAN is a userspace relay. Faults happen to processes one after the other (sometimes in two", *soakWith)
	w.linef("datacenters at once) and beside them to the WAN; on each of the %d ways requests start at a fixed pace: %d stale reads,", len(s.ways()), time.Second/soakPace[staleRead])
	w.linef("%d consistent reads and %d writes a second, whether or not earlier ones were answered.\n", time.Second/soakPace[consistentRead], time.Second/soakPace[acrossWrite])
	w.linef("Run of %s on %s for %s with %d faults, seed %d, %d processors, %s.\n", begun.UTC().Format(time.DateOnly),
		runtime.GOOS+"/"+runtime.GOARCH, ended.Sub(begun).Round(time.Second), len(s.faults), seed, runtime.NumCPU(), runtime.Version())
	if len(body.failures) == 0 {
		w.linef("**Passed**: every bar is held.")
	} else {
		w.linef("**Failed**:\n")
		for _, f := range body.failures {
			w.linef("- %s", strings.ReplaceAll(f, "\n", "\n  "))
		}
	}
	w.WriteString(soakRules)
	_, _ = body.WriteTo(&w)
	return soakOutcome{text: w.Bytes(), failures: body.failures}
}

// soakRules is how the report judges.
const soakRules = `
## Rules

- A read asks a server of its own datacenter for a key of another one, with a deadline of 5 s. When that server cannot be
  talked to, it asks the next one within the same deadline; any answer but the right value is a failure.
- A path from A to B exists while the WAN lets packets through both ways between them, at least one gateway of A and one of B
  are sound, and at least one server of B is. A gateway is not sound from the signal that kills or stalls it until 5 s after
  it goes on, or its catalog has it passing at its address, and for as long as the server that registers it is not; a server
  from its signal until 5 s after it answers and knows a leader. A cut lasts until 5 s after its end. Delay and loss excuse nothing.
- **Bar**: no stale read fails of which no moment was without a path, unless the server that was asked was itself ending or
  starting, or the machine stood still (those are counted apart). It did when a timer of the test was late by 0.5 s or more.
- **Bar**: after a gateway was killed, moved or stalled, reads between its datacenter and the others work again within 5 s:
  heal is the time from the fault until the end of the last read that failed, or took longer than 1 s while the WAN was not
  impaired, and no server that was asked, nor all that have the key, were lost meanwhile: that is the servers' fault.
  For faults of the WAN it counts from their end, over reads that began after it.
- **Bar**: no acknowledged write is lost, no process ends by itself, nothing passes the gateways by, and the federation is
  whole within 90 s of the last fault (gossip exchanges everything once a minute). Consistent reads need the leader; their gaps are told, and judged by nobody.
`

func (s *soak) writeRequests(w *soakWriter, j *soakJudge) {
	w.linef("\n## Requests")
	w.head("kind", "sent", "failed", "p50", "p99", "p99.9", "slowest that worked", "longest gap", "longest gap with a path")
	counts := map[string]int{}
	for kind := range soakPace {
		var took []time.Duration
		sent, failed := 0, 0
		for i := range s.load.results {
			r := &s.load.results[i]
			if r.kind != soakKind(kind) {
				continue
			}
			sent++
			if r.err == "" {
				took = append(took, r.took)
				continue
			}
			failed++
			counts[fmt.Sprintf("%s: %s", r.kind, soakErrorKey(r.err))]++
		}
		slices.Sort(took)
		longest, withPath := j.gaps(s.load.results, soakKind(kind))
		w.row(soakKind(kind), sent, failed, millis(quantile(took, 0.5)), millis(quantile(took, 0.99)), millis(quantile(took, 0.999)),
			seconds(quantile(took, 1)), seconds(longest), seconds(withPath))
	}
	excuses := map[string]int{}
	var bugs []*soakResult
	for _, reads := range j.byWay {
		for _, r := range reads {
			if r.err == "" {
				continue
			}
			excuse := j.excuse(r)
			excuses[excuse]++
			if excuse == noExcuse {
				bugs = append(bugs, r)
			}
		}
	}
	w.linef("\nStale reads that failed: **%d while a path existed**, %d while %s, %d while %s, %d while %s (%d times). Writes acknowledged: %d.",
		len(bugs), excuses[noPath], noPath, excuses[askedStarter], askedStarter,
		excuses[stoodStill], stoodStill, len(s.oracle.spans[machine{}]), len(s.load.acked))
	if len(bugs) > 0 {
		w.failf("%d stale reads failed although a path existed", len(bugs))
		slices.SortFunc(bugs, func(a, b *soakResult) int { return a.begun.Compare(b.begun) })
		w.head("at", "way", "asked", "took", "error")
		for _, r := range bugs[:min(len(bugs), topErrors)] {
			w.row(r.begun.UTC().Format("15:04:05.000"), r.way, r.asked, seconds(r.took), strings.ReplaceAll(shortened(r.err, 250), "|", "/"))
		}
	}
	w.head("requests that failed, with and without excuse", "error")
	writeTop(w, counts)
}

// soakErrorKey shortens an error to what many have in common.
func soakErrorKey(text string) string {
	if at := strings.LastIndex(text, ": "); strings.HasPrefix(text, "Get ") || strings.HasPrefix(text, "Put ") {
		text = text[at+2:]
	}
	return strings.ReplaceAll(shortened(text, 60), "|", "/")
}

// shortened leaves the begin and the end of a text, which say most in an error.
func shortened(text string, each int) string {
	runes := []rune(text)
	if len(runes) <= 2*each {
		return text
	}
	return string(runes[:each]) + " … " + string(runes[len(runes)-each:])
}

func writeTop(w *soakWriter, counts map[string]int) {
	keys := slices.SortedFunc(maps.Keys(counts), func(a, b string) int {
		return cmp.Or(cmp.Compare(counts[b], counts[a]), strings.Compare(a, b))
	})
	for i, k := range keys {
		if i == topErrors {
			w.row("", fmt.Sprintf("and %d more kinds", len(keys)-topErrors))
			break
		}
		w.row(counts[k], k)
	}
}

func (s *soak) writeFaults(w *soakWriter, j *soakJudge) {
	w.linef("\n## Faults")
	w.head("kind", "count", "reads failed with a path", "failed with an excuse", "longest gap", "heal p50", "heal p99", "heal max")
	for _, kind := range slices.Compact(slices.Sorted(slices.Values(slices.Concat(processFaults, wanFaults)))) {
		var heal []time.Duration
		var sum feltBy
		wan := slices.Contains(wanFaults, kind)
		for i := range s.faults {
			f := &s.faults[i]
			if f.kind != kind {
				continue
			}
			felt := j.felt(f, wan)
			sum.failed += felt.failed
			sum.excused += felt.excused
			sum.gap = max(sum.gap, felt.gap)
			heal = append(heal, felt.heal)
			gateway := kind == gatewayKilled || kind == gatewayMoved || kind == gatewayStalled
			if gateway && felt.heal > healBar {
				w.failf("%s: %s at %s was felt for %s", f.kind, f.what, f.at.UTC().Format("15:04:05.000"), seconds(felt.heal))
			}
		}
		slices.Sort(heal)
		w.row(kind, len(heal), sum.failed, sum.excused, seconds(sum.gap), seconds(quantile(heal, 0.5)), seconds(quantile(heal, 0.99)), seconds(quantile(heal, 1)))
	}
	w.linef("\nA read that fails is counted for each fault whose time it fell into.")
}

func (s *soak) writeWAN(w *soakWriter) {
	w.linef("\n## WAN")
	w.head("way", "packets", "MiB", "packets cut or lost")
	for _, x := range s.ways() {
		t := s.relay.Traffic(x.from, x.to)
		w.row(x, t.Packets, fmt.Sprintf("%.1f", float64(t.Bytes)/mebi), t.Lost)
	}
	sums := map[string]float64{}
	for _, p := range s.usage.procs {
		for protocol, n := range p.counts {
			sums[protocol] += n
		}
	}
	w.linef("\nHandshakes with servers of other datacenters through gateways, by protocol, as far as servers lived to tell:")
	w.head("protocol", "count")
	for _, protocol := range slices.Sorted(maps.Keys(sums)) {
		w.row(protocol, int(sums[protocol]))
	}
}

func (s *soak) writeUsage(w *soakWriter, begun, ended time.Time) {
	w.linef("\n## Processes")
	w.head("node", "processes", "memory at first", "least", "most", "at the end", "goroutines at the end", "processor time", "memory grows")
	var total float64
	for _, n := range s.run.nodes {
		var (
			count      int
			all        []uint64
			last       *procUsage
			longest    *procUsage
			ticks      uint64
			goroutines = "–"
		)
		for _, pid := range s.usage.order {
			p := s.usage.procs[pid]
			if p.node != n {
				continue
			}
			count++
			ticks += p.ticks
			for _, r := range p.rss {
				all = append(all, r.bytes)
			}
			if longest == nil || p.life() > longest.life() {
				longest = p
			}
			last = p
		}
		if last == nil {
			continue
		}
		if last.goroutines > 0 {
			goroutines = fmt.Sprint(int(last.goroutines))
		}
		total += float64(ticks) / ticksSecond
		w.row(n.name, count, mebibytes(all[0]), mebibytes(slices.Min(all)), mebibytes(slices.Max(all)), mebibytes(all[len(all)-1]),
			goroutines, fmt.Sprintf("%.1f s", float64(ticks)/ticksSecond), longest.growth())
	}
	w.linef("\nAll nodes together used %.0f %% of one processor. Memory is resident. It grows when, in the process of a node that lived longest",
		100*total/ended.Sub(begun).Seconds())
	w.linef("(at least %s), the median of the last quarter is more than %d %% and 16 MiB above that of the second.", growthLife, int(100*growthBy-100))
	s.writeMemory(w, begun, ended)
}

// writeMemory tells the sum over all nodes at ten moments.
func (s *soak) writeMemory(w *soakWriter, begun, ended time.Time) {
	w.head("memory after", "servers", "gateways")
	const moments = 10
	for i := range moments + 1 {
		at := begun.Add(ended.Sub(begun) / moments * time.Duration(i))
		var servers, gateways uint64
		for _, p := range s.usage.procs {
			for _, r := range p.rss {
				if d := r.at.Sub(at); d < 0 || d >= usageEvery {
					continue
				}
				if p.node.server {
					servers += r.bytes
				} else {
					gateways += r.bytes
				}
				break
			}
		}
		w.row(at.Sub(begun).Round(time.Second), mebibytes(servers), mebibytes(gateways))
	}
}

func mebibytes(n uint64) string { return fmt.Sprintf("%.0f MiB", float64(n)/mebi) }

func (p *procUsage) life() time.Duration { return p.rss[len(p.rss)-1].at.Sub(p.rss[0].at) }

// growth says whether the memory of a process grows.
func (p *procUsage) growth() string {
	if p.life() < growthLife {
		return "too short"
	}
	median := func(samples []rssSample) uint64 {
		sorted := slices.SortedFunc(slices.Values(samples), func(a, b rssSample) int { return cmp.Compare(a.bytes, b.bytes) })
		return sorted[len(sorted)/2].bytes
	}
	quarter := len(p.rss) / 4
	early, late := median(p.rss[quarter:2*quarter]), median(p.rss[3*quarter:])
	text := fmt.Sprintf("%s to %s", mebibytes(early), mebibytes(late))
	if float64(late) > growthBy*float64(early) && late > early+growthLeast {
		return "**yes**: " + text
	}
	return "no: " + text
}

func (s *soak) writeLogs(w *soakWriter) {
	w.linef("\n## Warnings and errors in the logs")
	w.head("count", "message")
	lines := s.logLines()
	writeTop(w, lines)
	for message, n := range lines {
		if strings.Contains(message, "panic:") || strings.Contains(message, "fatal error:") {
			w.failf("%d times in the logs: %s", n, message)
		}
	}
}

func (s *soak) writeSchedule(w *soakWriter, begun time.Time) {
	w.linef("\n## Schedule")
	w.head("after", "fault", "what")
	for _, f := range s.faults {
		w.row(seconds(f.at.Sub(begun)), f.kind, f.what)
	}
}
