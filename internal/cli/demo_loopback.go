package cli

import (
	"bufio"
	"context"
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"io"
	"net/netip"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"time"
)

// sampleEvery is the pause between two looks at the connections on loopback.
const sampleEvery = 100 * time.Millisecond

// loopback is the network of a demo without isolation. Nothing keeps its nodes
// apart, so it looks at their connections again and again: a sample, which may
// miss what comes and goes in between.
type loopback struct {
	one     *space
	pids    func() map[int]*demoNode
	servers map[netip.Addr]*demoNode

	stop    context.CancelFunc
	stopped sync.WaitGroup

	mu     sync.Mutex
	direct map[string]struct{} // connections across datacenters, by socket
	looks  int
	err    error
}

func newLoopback(nodes []*demoNode, pids func() map[int]*demoNode) (*loopback, error) {
	s, err := newSpace(func() error { return nil })
	if err != nil {
		return nil, err
	}
	ctx, stop := context.WithCancel(context.Background())
	l := &loopback{one: s, pids: pids, servers: map[netip.Addr]*demoNode{}, stop: stop, direct: map[string]struct{}{}}
	for _, n := range nodes {
		if n.server {
			l.servers[n.lan] = n
		}
	}
	l.stopped.Go(func() { l.watch(ctx) })
	return l, nil
}

func (l *loopback) watch(ctx context.Context) {
	tick := time.NewTicker(sampleEvery)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		found, err := l.look()
		l.mu.Lock()
		l.looks++
		l.err = err
		for _, socket := range found {
			l.direct[socket] = struct{}{}
		}
		l.mu.Unlock()
	}
}

// look finds the sockets by which a node is connected to a server of another
// datacenter. The source address says nothing on loopback, so the owner of each
// socket is looked for.
func (l *loopback) look() ([]string, error) {
	// Of this thread: the first thread of the process may be in another network,
	// when making isolated ones has been tried.
	f, err := os.Open("/proc/thread-self/net/tcp")
	if err != nil {
		return nil, fmt.Errorf("look at the connections: %w", err)
	}
	defer func() { _ = f.Close() }()
	to := map[string]*demoNode{}
	for _, c := range readConnections(f) {
		if n := l.servers[c.remote]; n != nil {
			to[c.socket] = n
		}
	}
	if len(to) == 0 {
		return nil, nil
	}
	var found []string
	for pid, from := range l.pids() {
		for _, socket := range sockets(pid) {
			if n := to[socket]; n != nil && n.dc != from.dc {
				found = append(found, socket)
			}
		}
	}
	return found, nil
}

// connection is a line of the kernel's list of TCP sockets.
type connection struct {
	remote netip.Addr
	socket string // its inode
}

// readConnections reads that list. Lines it does not understand are passed over.
func readConnections(r io.Reader) []connection {
	var out []connection
	for lines := bufio.NewScanner(r); lines.Scan(); {
		const remote, inode = 2, 9
		fields := strings.Fields(lines.Text())
		if len(fields) <= inode {
			continue
		}
		addr, _, _ := strings.Cut(fields[remote], ":")
		raw, err := hex.DecodeString(addr)
		if err != nil || len(raw) != 4 {
			continue
		}
		// The kernel prints the address as a number in its own byte order.
		var b [4]byte
		binary.BigEndian.PutUint32(b[:], binary.NativeEndian.Uint32(raw))
		out = append(out, connection{remote: netip.AddrFrom4(b), socket: fields[inode]})
	}
	return out
}

// sockets are the inodes of the sockets of a process; none when it has ended.
func sockets(pid int) []string {
	dir := filepath.Join("/proc", strconv.Itoa(pid), "fd")
	entries, err := os.ReadDir(dir)
	if err != nil {
		return nil
	}
	var out []string
	for _, e := range entries {
		target, err := os.Readlink(filepath.Join(dir, e.Name()))
		if err != nil {
			continue
		}
		if inode, ok := strings.CutPrefix(target, "socket:["); ok {
			out = append(out, strings.TrimSuffix(inode, "]"))
		}
	}
	return out
}

func (l *loopback) space(*demoNode) *space { return l.one }

func (l *loopback) straight() (uint64, string, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return uint64(len(l.direct)), fmt.Sprintf("direct connections across datacenters in %d looks", l.looks), l.err
}

func (*loopback) crossed(*demoNode) (uint64, bool) { return 0, false }

func (*loopback) trial(context.Context, *demoNode, *demoNode) (string, error) {
	return "a sample: -isolate proves it by the kernel's counters", nil
}

func (l *loopback) close() {
	l.stop()
	l.stopped.Wait()
	l.one.close()
}
