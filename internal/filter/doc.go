// Package filter compiles filter expressions, such as
//
//	Service.Port == 80 and "web" in Service.Tags
//
// into functions of a row. The grammar is a library's; what a selector may name
// and how an operator treats it follow from the row's type, so that a wrong
// expression is refused before anything is read, and a right one costs little for
// each row.
//
// Fields are named as in Go. Those with the tag bexpr:"-", embedded ones and those
// whose type the language has no operator for are no part of it.
package filter
