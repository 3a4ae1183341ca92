package config

import (
	"cmp"
	"errors"
	"strconv"
	"strings"
	"unicode"
)

// problem is one thing wrong with the settings, told in one line: where it
// stands, which key, what is wrong with it, and what to do.
type problem struct {
	where string // file:line, or the flag
	key   string
	what  string
	cure  string
}

func (p problem) Error() string {
	var b strings.Builder
	for _, part := range []string{p.where, p.key} {
		if part != "" {
			b.WriteString(printable(part) + ": ")
		}
	}
	b.WriteString(p.what)
	if p.cure != "" {
		b.WriteString(" (" + p.cure + ")")
	}
	return b.String()
}

// problems collects what is wrong, so that all of it is told at once.
type problems []problem

func (p *problems) add(where, key, what, cure string) {
	*p = append(*p, problem{where: where, key: key, what: what, cure: cure})
}

func (p *problems) err() error {
	errs := make([]error, len(*p))
	for i, one := range *p {
		errs[i] = one
	}
	return errors.Join(errs...)
}

// printable keeps a text from a file to one line of visible characters.
func printable(s string) string {
	if strings.ContainsFunc(s, func(r rune) bool { return !unicode.IsPrint(r) }) {
		return strconv.QuoteToGraphic(s)
	}
	return s
}

// quote shows a text from a file in a message, cut short when it is long.
func quote(s string) string {
	const enough = 80
	if len(s) > enough {
		return strconv.QuoteToGraphic(s[:enough]) + "…"
	}
	return strconv.QuoteToGraphic(s)
}

// nearest finds the word that was most likely meant, or "".
func nearest(word string, words []string) string {
	best, least := "", len(word)/3+1
	for _, w := range words {
		if d := distance(word, w); d < least || d == least && best != "" && cmp.Less(w, best) {
			best, least = w, d
		}
	}
	return best
}

// distance is how many letters must be put, taken or changed.
func distance(a, b string) int {
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		last := row[0]
		row[0] = i + 1
		for j := range len(b) {
			change := last
			if a[i] != b[j] {
				change++
			}
			last = row[j+1]
			row[j+1] = min(change, last+1, row[j]+1)
		}
	}
	return row[len(b)]
}
