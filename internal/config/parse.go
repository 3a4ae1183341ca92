package config

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strconv"

	"github.com/hashicorp/hcl/hcl/ast"
	hclparser "github.com/hashicorp/hcl/hcl/parser"
	"github.com/hashicorp/hcl/hcl/token"
)

// kind is the kind of a value in a file.
type kind int

const (
	kindNull kind = iota
	kindBool
	kindNumber
	kindText
	kindList
	kindObject
)

func (k kind) String() string {
	return [...]string{"null", "a bool", "a number", "a string", "a list", "an object"}[k]
}

// value is a value in a file, of either format, with the line it stands on (0
// where there are no lines).
type value struct {
	kind    kind
	line    int
	text    string // of a text, and of a number as it is written
	truth   bool
	items   []*value
	entries []entry
}

// entry is one key of an object.
type entry struct {
	key  string
	line int
	val  *value
}

// maxDepth bounds how deep objects and lists may stand inside each other, since
// the parsers recurse.
const maxDepth = 100

// parse reads one source into an object.
func parse(src Source) (*value, error) {
	var root *value
	var err error
	switch {
	case len(bytes.TrimSpace(src.Data)) == 0:
		return &value{kind: kindObject}, nil
	case src.Format == formatJSON:
		root, err = parseJSON(src.Data)
	default:
		root, err = parseHCL(src.Data)
	}
	if err != nil {
		return nil, inSource(src, err)
	}
	if root.kind != kindObject {
		return nil, problem{where: src.Name, what: "holds " + root.kind.String() + " where an object of keys is expected", cure: "put the keys between { and }"}
	}
	return root, nil
}

// syntaxError is a text that is not of its format.
type syntaxError struct {
	line int
	what string
}

func (e syntaxError) Error() string { return e.what }

func inSource(src Source, err error) error {
	p := problem{where: src.Name, what: printable(err.Error()), cure: "the file must be valid " + src.Format}
	var syntax syntaxError
	if errors.As(err, &syntax) && syntax.line > 0 {
		p.where = fmt.Sprintf("%s:%d", src.Name, syntax.line)
	}
	return p
}

// put adds a key to an object. A key that is there already gives way to the
// later one, but lists and blocks of the same name are collected.
func (v *value) put(key string, line int, val *value) {
	for i := range v.entries {
		e := &v.entries[i]
		if e.key != key {
			continue
		}
		if collectable(e.val) && collectable(val) {
			items := append(listed(e.val), listed(val)...)
			e.val = &value{kind: kindList, line: e.val.line, items: items}
		} else {
			e.val, e.line = val, line
		}
		return
	}
	v.entries = append(v.entries, entry{key: key, line: line, val: val})
}

func collectable(v *value) bool { return v.kind == kindList || v.kind == kindObject }

func listed(v *value) []*value {
	if v.kind == kindList {
		return v.items
	}
	return []*value{v}
}

// plain yields the value as encoding/json would.
func (v *value) plain() any {
	switch v.kind {
	case kindBool:
		return v.truth
	case kindNumber:
		if n, err := strconv.ParseInt(v.text, 0, 64); err == nil {
			return n
		}
		f, _ := strconv.ParseFloat(v.text, 64) // the parser has seen that it is a number
		return f
	case kindText:
		return v.text
	case kindList:
		list := make([]any, len(v.items))
		for i, item := range v.items {
			list[i] = item.plain()
		}
		return list
	case kindObject:
		object := make(map[string]any, len(v.entries))
		for _, e := range v.entries {
			object[e.key] = e.val.plain()
		}
		return object
	case kindNull:
	}
	return nil
}

// parseHCL reads HCL. The parser is old: what makes it panic is an error.
func parseHCL(data []byte) (root *value, err error) {
	defer func() {
		if r := recover(); r != nil {
			root, err = nil, syntaxError{what: fmt.Sprintf("cannot be read: %v", r)}
		}
	}()
	if depth(data) > maxDepth {
		return nil, syntaxError{what: fmt.Sprintf("is nested more than %d levels deep", maxDepth)}
	}
	file, err := hclparser.Parse(data)
	if err != nil {
		if at, ok := errors.AsType[*hclparser.PosError](err); ok {
			return nil, syntaxError{line: at.Pos.Line, what: at.Err.Error()}
		}
		return nil, fmt.Errorf("parse: %w", err)
	}
	list, ok := file.Node.(*ast.ObjectList)
	if !ok {
		return nil, syntaxError{what: "holds no keys"}
	}
	return hclObject(list, 1)
}

// depth is the deepest nesting of brackets, those in texts included: a bound
// that is right for what people write, found before the parser recurses.
func depth(data []byte) int {
	deepest, now := 0, 0
	for _, b := range data {
		switch b {
		case '{', '[':
			now++
			deepest = max(deepest, now)
		case '}', ']':
			now = max(now-1, 0)
		}
	}
	return deepest
}

func hclObject(list *ast.ObjectList, line int) (*value, error) {
	object := &value{kind: kindObject, line: line}
	for _, item := range list.Items {
		if len(item.Keys) == 0 {
			return nil, syntaxError{line: item.Pos().Line, what: "a value without a key"}
		}
		val, err := hclValue(item.Val)
		if err != nil {
			return nil, err
		}
		// A labelled block, a "b" {}, is an object within an object.
		for i := len(item.Keys) - 1; i > 0; i-- {
			key, err := hclKey(item.Keys[i])
			if err != nil {
				return nil, err
			}
			at := item.Keys[i].Pos().Line
			val = &value{kind: kindObject, line: at, entries: []entry{{key: key, line: at, val: val}}}
		}
		key, err := hclKey(item.Keys[0])
		if err != nil {
			return nil, err
		}
		object.put(key, item.Keys[0].Pos().Line, val)
	}
	return object, nil
}

func hclKey(k *ast.ObjectKey) (string, error) {
	key, ok := k.Token.Value().(string)
	if !ok {
		return "", syntaxError{line: k.Pos().Line, what: "a key that is not a word"}
	}
	return key, nil
}

func hclValue(n ast.Node) (*value, error) {
	line := n.Pos().Line
	switch n := n.(type) {
	case *ast.ObjectType:
		return hclObject(n.List, line)
	case *ast.ListType:
		list := &value{kind: kindList, line: line}
		for _, item := range n.List {
			v, err := hclValue(item)
			if err != nil {
				return nil, err
			}
			list.items = append(list.items, v)
		}
		return list, nil
	case *ast.LiteralType:
		return hclLiteral(n, line)
	}
	return nil, syntaxError{line: line, what: "a value of unknown kind"}
}

func hclLiteral(n *ast.LiteralType, line int) (*value, error) {
	switch n.Token.Type {
	case token.BOOL:
		return &value{kind: kindBool, line: line, truth: n.Token.Text == "true"}, nil
	case token.NUMBER, token.FLOAT:
		if _, err := strconv.ParseFloat(n.Token.Text, 64); err != nil {
			if _, err := strconv.ParseInt(n.Token.Text, 0, 64); err != nil {
				return nil, syntaxError{line: line, what: "a number that cannot be read"}
			}
		}
		return &value{kind: kindNumber, line: line, text: n.Token.Text}, nil
	case token.STRING, token.HEREDOC:
		text, ok := n.Token.Value().(string)
		if !ok {
			return nil, syntaxError{line: line, what: "a string that cannot be read"}
		}
		return &value{kind: kindText, line: line, text: text}, nil
	default:
		return nil, syntaxError{line: line, what: "a literal of unknown kind"}
	}
}

// parseJSON reads JSON, token by token so that each value knows its line.
func parseJSON(data []byte) (*value, error) {
	r := jsonReader{data: data, dec: json.NewDecoder(bytes.NewReader(data)), line: 1}
	r.dec.UseNumber()
	root, err := r.value(0)
	if err == nil {
		if _, end := r.dec.Token(); !errors.Is(end, io.EOF) {
			err = syntaxError{what: "holds more after the end of the object"}
		}
	}
	if err == nil {
		return root, nil
	}
	if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
		err = syntaxError{what: "ends too early"}
	}
	return nil, syntaxError{line: r.now(), what: err.Error()}
}

// jsonReader turns tokens into values. It has counted the lines up to seen.
type jsonReader struct {
	data []byte
	dec  *json.Decoder
	seen int
	line int
}

// now is the line that the decoder has read up to.
func (r *jsonReader) now() int {
	at := min(int(r.dec.InputOffset()), len(r.data))
	r.line += bytes.Count(r.data[r.seen:at], []byte{'\n'})
	r.seen = at
	return r.line
}

func (r *jsonReader) value(level int) (*value, error) {
	if level > maxDepth {
		return nil, syntaxError{what: fmt.Sprintf("is nested more than %d levels deep", maxDepth)}
	}
	tok, err := r.dec.Token()
	if err != nil {
		return nil, err //nolint:wrapcheck // parseJSON adds where.
	}
	v := &value{line: r.now()}
	switch tok := tok.(type) {
	case nil:
	case bool:
		v.kind, v.truth = kindBool, tok
	case json.Number:
		v.kind, v.text = kindNumber, tok.String()
	case string:
		v.kind, v.text = kindText, tok
	case json.Delim:
		if tok == '[' {
			return v, r.list(v, level)
		}
		return v, r.object(v, level)
	}
	return v, nil
}

func (r *jsonReader) list(v *value, level int) error {
	v.kind = kindList
	for r.dec.More() {
		item, err := r.value(level + 1)
		if err != nil {
			return err
		}
		v.items = append(v.items, item)
	}
	return r.end()
}

func (r *jsonReader) object(v *value, level int) error {
	v.kind = kindObject
	at := map[string]int{}
	for r.dec.More() {
		tok, err := r.dec.Token()
		if err != nil {
			return err //nolint:wrapcheck // parseJSON adds where.
		}
		key, ok := tok.(string)
		if !ok {
			return syntaxError{what: "a key that is not a string"}
		}
		line := r.now()
		val, err := r.value(level + 1)
		if err != nil {
			return err
		}
		// In JSON the later of two equal keys stands.
		if i, again := at[key]; again {
			v.entries[i] = entry{key: key, line: line, val: val}
			continue
		}
		at[key] = len(v.entries)
		v.entries = append(v.entries, entry{key: key, line: line, val: val})
	}
	return r.end()
}

func (r *jsonReader) end() error {
	_, err := r.dec.Token()
	return err //nolint:wrapcheck // parseJSON adds where.
}
