package store

import (
	"slices"
	"strings"
)

// A leaf holds a row. It keeps its identity when edges above it are split, so
// that who reads one row is not woken by its neighbours.
type leaf[T any] struct {
	mark
	row *T
}

// A node is a branch and everything below it. Its mark changes with any row
// below; its shape changes only when a child appears, goes, or gets another edge.
type node[T any] struct {
	mark
	shape *shape
	leaf  *leaf[T]   // the row whose key ends here, or nil
	kids  []child[T] // parallel to shape.edges
}

// A shape is shared by the versions of a node that differ only farther below.
// Who reads a key that is missing depends on the shape of the node at which the
// search ended, and not on what else is below that node.
type shape struct {
	mark
	edges []edge // sorted by first; no two have the same
}

type edge struct {
	label string // never empty
	first byte   // of label, to search without leaving the slice
}

// A child is a leaf or a node.
type child[T any] struct {
	leaf *leaf[T]
	node *node[T]
}

func (c child[T]) mark() *mark {
	if c.leaf != nil {
		return &c.leaf.mark
	}
	return &c.node.mark
}

func newNode[T any](index uint64, gen uint32) *node[T] {
	return &node[T]{
		mark:  mark{index: index, gen: gen},
		shape: &shape{mark: mark{index: index, gen: gen}},
	}
}

// find yields where the edge that starts with b is, or belongs.
func (s *shape) find(b byte) (int, bool) {
	lo, hi := 0, len(s.edges)
	for lo < hi {
		mid := (lo + hi) / 2
		if s.edges[mid].first < b {
			lo = mid + 1
		} else {
			hi = mid
		}
	}
	return lo, lo < len(s.edges) && s.edges[lo].first == b
}

func common(a, b string) int {
	n := min(len(a), len(b))
	for i := range n {
		if a[i] != b[i] {
			return i
		}
	}
	return n
}

// get yields the row with a key, or nil, and the mark that says so.
func (n *node[T]) get(key string) (*T, *mark) {
	for {
		if key == "" {
			if n.leaf == nil {
				return nil, &n.shape.mark
			}
			return n.leaf.row, &n.leaf.mark
		}
		i, ok := n.shape.find(key[0])
		if !ok {
			return nil, &n.shape.mark
		}
		// The first byte is known to match, and a label is mostly no longer:
		// this saves a visit to its memory.
		label := n.shape.edges[i].label
		if len(label) > 1 && !strings.HasPrefix(key, label) {
			return nil, &n.shape.mark
		}
		key = key[len(label):]
		c := n.kids[i]
		switch {
		case c.leaf == nil:
			n = c.node
		case key == "":
			return c.leaf.row, &c.leaf.mark
		default:
			return nil, &n.shape.mark
		}
	}
}

// seek yields the smallest subtree that holds all keys with the prefix, and the
// mark and reach that say so. The subtree is empty when there are none.
func (n *node[T]) seek(prefix string) (c child[T], m *mark, reach uint32) {
	for prefix != "" {
		i, ok := n.shape.find(prefix[0])
		if !ok {
			return child[T]{}, &n.shape.mark, reachSelf
		}
		label := n.shape.edges[i].label
		l := common(label, prefix)
		if l == len(prefix) {
			c = n.kids[i]
			return c, c.mark(), reachAbove(len(label) - l)
		}
		if l < len(label) || n.kids[i].leaf != nil {
			return child[T]{}, &n.shape.mark, reachSelf
		}
		n, prefix = n.kids[i].node, prefix[l:]
	}
	return child[T]{node: n}, &n.mark, reachScan
}

// walk yields the rows in order, until yield reports false.
func (c child[T]) walk(yield func(*T) bool) bool {
	if c.leaf != nil {
		return yield(c.leaf.row)
	}
	if c.node == nil {
		return true
	}
	if c.node.leaf != nil && !yield(c.node.leaf.row) {
		return false
	}
	for _, k := range c.node.kids {
		if !k.walk(yield) {
			return false
		}
	}
	return true
}

// heads yields what of each key stands before the first endByte, once each.
func (n *node[T]) heads(path []byte, yield func(string) bool) bool {
	for i, e := range n.shape.edges {
		if end := strings.IndexByte(e.label, endByte); end >= 0 {
			if !yield(string(path) + e.label[:end]) {
				return false
			}
		} else if below := n.kids[i].node; below != nil && !below.heads(append(path, e.label...), yield) {
			return false
		}
	}
	return true
}

// cutAll marks everything below as changed.
func (c child[T]) cutAll(woken []*waiter) []*waiter {
	woken = c.mark().cutAt(reachSelf, woken)
	if c.leaf != nil {
		return woken
	}
	woken = c.node.shape.cutAt(reachSelf, woken)
	if c.node.leaf != nil {
		woken = c.node.leaf.cutAt(reachSelf, woken)
	}
	for _, k := range c.node.kids {
		woken = k.cutAll(woken)
	}
	return woken
}

// own yields n itself if w made it and may still change it, or else a copy.
func (n *node[T]) own(w *WriteTx) *node[T] {
	if w.owns(&n.mark) {
		return n
	}
	w.replaced(&n.mark)
	return &node[T]{mark: w.newMark(), shape: n.shape, leaf: n.leaf, kids: slices.Clone(n.kids)}
}

// reshape makes the shape of n one that w may change. The caller owns n.
func (n *node[T]) reshape(w *WriteTx) {
	if w.owns(&n.shape.mark) {
		return
	}
	w.replaced(&n.shape.mark)
	n.shape = &shape{mark: w.newMark(), edges: slices.Clone(n.shape.edges)}
}

func (n *node[T]) insert(w *WriteTx, i int, label string, c child[T]) {
	n.reshape(w)
	n.shape.edges = slices.Insert(n.shape.edges, i, edge{label: label, first: label[0]})
	n.kids = slices.Insert(n.kids, i, c)
}

func (n *node[T]) remove(w *WriteTx, i int) {
	n.reshape(w)
	n.shape.edges = slices.Delete(n.shape.edges, i, i+1)
	n.kids = slices.Delete(n.kids, i, i+1)
}

// put sets the row of a key and yields the row it replaces. The caller owns n.
func (n *node[T]) put(w *WriteTx, key string, row *T) *T {
	if key == "" {
		if n.leaf == nil {
			n.reshape(w)
		}
		return setLeaf(w, &n.leaf, row)
	}
	i, ok := n.shape.find(key[0])
	if !ok {
		n.insert(w, i, key, child[T]{leaf: &leaf[T]{w.newMark(), row}})
		return nil
	}
	label := n.shape.edges[i].label
	l := common(label, key)
	if c := n.kids[i]; l == len(label) && c.leaf != nil && l == len(key) {
		return setLeaf(w, &n.kids[i].leaf, row)
	}
	if l < len(label) || n.kids[i].leaf != nil {
		n.split(w, i, l).put(w, key[l:], row)
		return nil
	}
	below := n.kids[i].node.own(w)
	n.kids[i].node = below
	old := below.put(w, key[l:], row)
	n.settle(w, i)
	return old
}

// setLeaf puts a new leaf into a slot and yields the row it replaces.
func setLeaf[T any](w *WriteTx, at **leaf[T], row *T) (old *T) {
	if l := *at; l != nil {
		w.replaced(&l.mark)
		old = l.row
	}
	*at = &leaf[T]{w.newMark(), row}
	return old
}

// split puts a node into edge i, l bytes below n. What was at the end of the
// edge stays what it is: only who scans a prefix that ends at or above the new
// node has to be woken. The caller owns n.
func (n *node[T]) split(w *WriteTx, i, l int) *node[T] {
	n.reshape(w)
	label, c := n.shape.edges[i].label, n.kids[i]
	w.cut(c.mark(), reachAbove(len(label)-l))
	mid := newNode[T](w.index, w.gen)
	if lower := label[l:]; lower != "" {
		mid.shape.edges = []edge{{lower, lower[0]}}
		mid.kids = []child[T]{c}
	} else {
		mid.leaf = c.leaf
	}
	n.shape.edges[i].label = label[:l]
	n.kids[i] = child[T]{node: mid}
	return mid
}

// settle takes the node at edge i out again if it has one child left and that
// child has just changed: then all prefixes that end between n and the child
// have changed, and none can tell the difference. A node whose only child has
// not changed stays, because it alone knows when its other children went. The
// caller owns n and its child i.
func (n *node[T]) settle(w *WriteTx, i int) {
	mid := n.kids[i].node
	if mid.leaf != nil || len(mid.kids) != 1 || mid.kids[0].mark().index != w.index {
		return
	}
	w.replaced(&mid.shape.mark)
	n.reshape(w)
	n.shape.edges[i].label += mid.shape.edges[0].label
	n.kids[i] = mid.kids[0]
}

// del removes the row of a key, which must be there. The caller owns n.
func (n *node[T]) del(w *WriteTx, key string) {
	if key == "" {
		n.reshape(w)
		w.replaced(&n.leaf.mark)
		n.leaf = nil
		return
	}
	i, _ := n.shape.find(key[0])
	if l := n.kids[i].leaf; l != nil {
		w.replaced(&l.mark)
		n.remove(w, i)
		return
	}
	below := n.kids[i].node.own(w)
	n.kids[i].node = below
	below.del(w, key[len(n.shape.edges[i].label):])
	if below.leaf == nil && len(below.kids) == 0 {
		w.replaced(&below.shape.mark)
		n.remove(w, i)
		return
	}
	n.settle(w, i)
}
