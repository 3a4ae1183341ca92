package filter

import (
	"errors"
	"fmt"
	"reflect"
	"regexp"
	"strconv"
	"strings"
	"sync"

	"github.com/hashicorp/go-bexpr/grammar"
)

const (
	// MaxLength is how long an expression may be, in bytes.
	MaxLength = 8 << 10
	// maxSteps is how many steps the parser may take. It goes back and forth, most
	// of all between parentheses, each level of which takes several times the steps:
	// six levels are possible, and none take longer than some tenths of a second.
	maxSteps = 2_000_000
	// mostKept is how many compiled expressions a Cache keeps.
	mostKept = 256
)

// Filter tells of rows whether an expression holds true of them. It may be used by
// many goroutines at a time.
type Filter[T any] struct{ test test }

// Match tells whether the expression holds true of a row.
func (f *Filter[T]) Match(row *T) bool { return f.test(reflect.ValueOf(row).Elem()) }

// Cache compiles expressions over rows of type T, and keeps some of them, for a
// caller that waits for changes comes with the same one each time. The zero value
// is ready.
type Cache[T any] struct {
	mu sync.Mutex
	by map[string]*Filter[T]
}

// Compile returns the filter of an expression.
func (c *Cache[T]) Compile(expression string) (*Filter[T], error) {
	c.mu.Lock()
	f := c.by[expression]
	c.mu.Unlock()
	if f != nil {
		return f, nil
	}
	f, err := Compile[T](expression)
	if err != nil {
		return nil, err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.by == nil || len(c.by) >= mostKept {
		c.by = map[string]*Filter[T]{}
	}
	c.by[expression] = f
	return f, nil
}

// Compile returns the filter of an expression over rows of type T. The texts of its
// errors are the protocol's.
func Compile[T any](expression string) (*Filter[T], error) {
	f, err := compile(reflect.TypeFor[T](), expression)
	if err != nil {
		return nil, fmt.Errorf("Failed to create boolean expression evaluator: %w", err) //nolint:staticcheck // the protocol's text
	}
	return &Filter[T]{f}, nil
}

// Check tells whether an expression is too long to be looked at.
func Check(expression string) error {
	if len(expression) > MaxLength {
		return fmt.Errorf("filter: the expression has %d bytes, more than %d", len(expression), MaxLength)
	}
	return nil
}

func compile(row reflect.Type, expression string) (test, error) {
	if err := Check(expression); err != nil {
		return nil, err
	}
	tree, err := grammar.Parse("", []byte(unquotePaths(expression)), grammar.MaxExpressions(maxSteps))
	switch {
	case err != nil && strings.Contains(err.Error(), "max number of expressions parsed"):
		return nil, fmt.Errorf("the expression is too complex: it takes more than %d steps to parse", maxSteps)
	case err != nil:
		return nil, err //nolint:wrapcheck // the protocol's text
	}
	root, ok := tree.(grammar.Expression)
	if !ok {
		return nil, errors.New("the expression is empty")
	}
	return compileExpression(row, root)
}

// paths are quoted texts that the grammar would take for JSON pointers, a newer
// way to name fields that the protocol does not have: as the value of a comparison
// it would lose its first slash.
var paths = regexp.MustCompile("\"[^\"`]*\"|`[^`]*`?")

// unquotePaths puts such texts between back quotes, which mean text alone. All
// stays in its place, so that errors point to where the caller looks.
func unquotePaths(expression string) string {
	return paths.ReplaceAllStringFunc(expression, func(s string) string {
		if strings.HasPrefix(s, `"/`) && !strings.Contains(s, `\`) {
			return "`" + s[1:len(s)-1] + "`"
		}
		return s
	})
}

func compileExpression(row reflect.Type, e grammar.Expression) (test, error) {
	switch e := e.(type) {
	case *grammar.UnaryExpression:
		inner, err := compileExpression(row, e.Operand)
		if err != nil {
			return nil, err
		}
		return inner.not(), nil
	case *grammar.BinaryExpression:
		left, err := compileExpression(row, e.Left)
		if err != nil {
			return nil, err
		}
		right, err := compileExpression(row, e.Right)
		if err != nil {
			return nil, err
		}
		if e.Operator == grammar.BinaryOpAnd {
			return func(v reflect.Value) bool { return left(v) && right(v) }, nil
		}
		return func(v reflect.Value) bool { return left(v) || right(v) }, nil
	case *grammar.MatchExpression:
		return compileMatch(row, e)
	}
	return nil, errors.New("any and all are not operators of this language")
}

func compileMatch(row reflect.Type, e *grammar.MatchExpression) (test, error) {
	m := match{selector: strings.Join(e.Selector.Path, "."), path: e.Selector.Path, op: e.Operator}
	if e.Selector.Type != grammar.SelectorTypeBexpr {
		return nil, fmt.Errorf("Selector %q is not valid", e.Selector.String()) //nolint:staticcheck // the protocol's text
	}
	switch m.op {
	case grammar.MatchContains:
		m.op = grammar.MatchIn
	case grammar.MatchNotContains:
		m.op = grammar.MatchNotIn
	default:
	}
	if e.Value != nil {
		m.value = e.Value.Raw
	}
	return m.at(row, 0)
}

// match is a comparison: a field, an operator and a value.
type match struct {
	selector string
	path     []string
	op       grammar.MatchOperator
	value    string
}

func (m *match) badOperator() error {
	return fmt.Errorf("Invalid match operator %q for selector %q", m.op, m.selector) //nolint:staticcheck // the protocol's text
}

// coerced wraps the error of reading the value as what the field holds.
func (m *match) coerced(err error) error {
	return fmt.Errorf("Failed to coerce value %q for selector %q: %w", m.value, m.selector, err) //nolint:staticcheck // the protocol's text
}

// regexp compiles the value.
func (m *match) regexp() (*regexp.Regexp, error) {
	re, err := regexp.Compile(m.value)
	if err != nil {
		return nil, fmt.Errorf("Failed to compile regular expression %q: %w", m.value, err) //nolint:staticcheck // the protocol's text
	}
	return re, nil
}

// number reads the value as a whole number with or without a sign.
func (m *match) number(t reflect.Type) (equal test, err error) {
	if t.Kind() >= reflect.Uint && t.Kind() <= reflect.Uintptr {
		want, err := strconv.ParseUint(m.value, 0, 64)
		if err != nil {
			return nil, m.coerced(err)
		}
		return func(v reflect.Value) bool { return v.Uint() == want }, nil
	}
	want, err := strconv.ParseInt(m.value, 0, 64)
	if err != nil {
		return nil, m.coerced(err)
	}
	return func(v reflect.Value) bool { return v.Int() == want }, nil
}
