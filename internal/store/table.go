package store

import (
	"fmt"
	"iter"
	"slices"
)

// Reader is what rows are read from: a [*Tx] or a [*WriteTx].
type Reader interface {
	// table yields the data[T] of a table.
	table(of Schema) any
	// saw notes what a read depends on and whether it found a row.
	saw(on *mark, reach uint32, found bool)
	// freeze keeps what can be reached now as it is, however long it is walked.
	freeze()
}

// Schema is any [*Table].
type Schema interface {
	// Name yields the name of the table.
	Name() string
	// empty yields the data of a table that has been empty since an index.
	empty(index uint64) any
	// cutAll marks everything in a table as changed.
	cutAll(data any, woken []*waiter) []*waiter
}

// Table declares rows of type T. It is a package variable and carries no data.
// Rows are immutable once they are put: to change one, put a changed copy.
type Table[T any] struct {
	name    string
	key     func(*T) Key
	indexes []*Index[T]
}

// Index finds the rows of a table by something else than their key.
type Index[T any] struct {
	table *Table[T]
	name  string
	keys  func(*T) []Key
	at    int // in data.by
}

// data is the content of a table at one moment.
type data[T any] struct {
	index uint64 // of the write transaction that made this struct
	rows  *node[T]
	count int
	by    []*node[T] // one tree for each index
}

// NewTable declares a table whose rows are found by key.
func NewTable[T any](name string, key func(*T) Key) *Table[T] {
	return &Table[T]{name: name, key: key}
}

// By declares an index that finds each row by any of its keys, which several
// rows may share. It is for start-up, before a store is made with the table.
func (t *Table[T]) By(name string, keys func(*T) []Key) *Index[T] {
	x := &Index[T]{table: t, name: name, keys: keys, at: len(t.indexes)}
	t.indexes = append(t.indexes, x)
	return x
}

// Name yields the name of the table.
func (t *Table[T]) Name() string { return t.name }

func (t *Table[T]) empty(index uint64) any {
	d := &data[T]{index: index, rows: newNode[T](index, 0), by: make([]*node[T], len(t.indexes))}
	for i := range d.by {
		d.by[i] = newNode[T](index, 0)
	}
	return d
}

func (t *Table[T]) cutAll(content any, woken []*waiter) []*waiter {
	d := typed[T](content)
	woken = child[T]{node: d.rows}.cutAll(woken)
	for _, x := range d.by {
		woken = child[T]{node: x}.cutAll(woken)
	}
	return woken
}

func typed[T any](content any) *data[T] {
	d, ok := content.(*data[T])
	if !ok {
		panic(fmt.Sprintf("store: a table holds %T", content))
	}
	return d
}

func (t *Table[T]) data(r Reader) *data[T] { return typed[T](r.table(t)) }

// Get yields the row with key k, or nil.
func (t *Table[T]) Get(r Reader, k Key) *T {
	row, m := t.data(r).rows.get(string(k))
	r.saw(m, reachSelf, row != nil)
	return row
}

// Prefix yields the rows whose keys start with k, ordered by key. It depends on
// those rows and no others, and on all of them, even if the loop ends early.
func (t *Table[T]) Prefix(r Reader, k Key) iter.Seq[*T] {
	return func(yield func(*T) bool) { scan(r, t.data(r).rows, string(k), yield) }
}

// All yields all rows, ordered by key.
func (t *Table[T]) All(r Reader) iter.Seq[*T] { return t.Prefix(r, "") }

// Len yields the number of rows. It depends on the whole table.
func (t *Table[T]) Len(r Reader) int {
	d := t.data(r)
	r.saw(&d.rows.mark, reachScan, d.count > 0)
	return d.count
}

func scan[T any](r Reader, root *node[T], prefix string, yield func(*T) bool) {
	r.freeze()
	c, m, reach := root.seek(prefix)
	r.saw(m, reach, c.leaf != nil || c.node != nil && (c.node.leaf != nil || len(c.node.kids) > 0))
	c.walk(yield)
}

// own yields the table's data in a form that w may change.
func (t *Table[T]) own(w *WriteTx) *data[T] {
	d := t.data(w)
	if d.index != w.index {
		d = &data[T]{index: w.index, rows: d.rows, count: d.count, by: slices.Clone(d.by)}
		w.setTable(t, d)
	}
	return d
}

// Put inserts a row, or replaces the one with the same key.
func (t *Table[T]) Put(w *WriteTx, row *T) {
	d, k := t.own(w), string(t.key(row))
	d.rows = d.rows.own(w)
	old := d.rows.put(w, k, row)
	if old == nil {
		d.count++
	}
	for i, x := range t.indexes {
		d.by[i] = x.update(w, d.by[i], k, old, row)
	}
}

// update yields the tree of an index after the row with key k has changed from
// before to after, either of which may be nil.
func (x *Index[T]) update(w *WriteTx, root *node[T], k string, before, after *T) *node[T] {
	var was, is []Key
	if before != nil {
		was = x.keys(before)
	}
	if after != nil {
		is = x.keys(after)
	}
	if len(was)+len(is) == 0 {
		return root // an index that has no such row has not changed
	}
	root = root.own(w)
	for _, o := range was {
		if slices.Contains(is, o) {
			continue
		}
		e := entry(o, k)
		if row, _ := root.get(e); row != nil { // gone already if the row named a key twice
			root.del(w, e)
		}
	}
	for _, n := range is {
		root.put(w, entry(n, k), after)
	}
	return root
}

// Delete removes the row with key k and reports whether there was one.
func (t *Table[T]) Delete(w *WriteTx, k Key) bool {
	old, _ := t.data(w).rows.get(string(k))
	if old == nil {
		return false
	}
	d := t.own(w)
	d.rows = d.rows.own(w)
	d.rows.del(w, string(k))
	d.count--
	for i, x := range t.indexes {
		d.by[i] = x.update(w, d.by[i], string(k), old, nil)
	}
	return true
}

// DeletePrefix removes the rows whose keys start with k and yields their number.
func (t *Table[T]) DeletePrefix(w *WriteTx, k Key) int {
	n := 0
	for row := range t.Prefix(w, k) {
		t.Delete(w, t.key(row))
		n++
	}
	return n
}

// entry is the key of a row in the tree of an index: the index key in a form
// that delimits itself, whatever it is made of, then the key of the row.
func entry(k Key, row string) string {
	if !special(string(k)) {
		return string(k) + "\x00" + row
	}
	b := make([]byte, 0, len(k)+len(row)+4) // room for a few escapes
	return string(append(append(appendEscaped(b, string(k)), endByte), row...))
}

func (x *Index[T]) tree(r Reader) *node[T] { return x.table.data(r).by[x.at] }

// Get yields the rows that have exactly the index key k, ordered by their keys
// in the table.
func (x *Index[T]) Get(r Reader, k Key) iter.Seq[*T] {
	return func(yield func(*T) bool) { scan(r, x.tree(r), string(Text(string(k))), yield) }
}

// Prefix yields the rows by their index keys that start with k, ordered by
// index key: a row comes once for each such key.
func (x *Index[T]) Prefix(r Reader, k Key) iter.Seq[*T] {
	return func(yield func(*T) bool) { scan(r, x.tree(r), string(escape(string(k))), yield) }
}

// Keys yields each index key that some row has, in order. It depends on the
// whole index.
func (x *Index[T]) Keys(r Reader) iter.Seq[Key] {
	return func(yield func(Key) bool) {
		r.freeze()
		root := x.tree(r)
		r.saw(&root.mark, reachScan, len(root.kids) > 0)
		root.heads(nil, func(s string) bool { return yield(Key(unescape(s))) })
	}
}
