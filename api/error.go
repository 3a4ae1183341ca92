package api

import (
	"errors"
	"fmt"
	"strings"
)

// Code is a kind of error that a caller can act upon. The RPC protocol carries
// errors as text alone, so each code that must survive a hop has a text by which
// it is known again (see CodeOf).
type Code int

// The codes, from the least to the most specific.
const (
	Internal        Code = iota // anything without a kind of its own
	Invalid                     // the request cannot be right
	NotFound                    // the object asked for does not exist
	NotAllowed                  // the caller may not do this
	TooLarge                    // the request is over a size limit
	RateLimited                 // try again later or elsewhere
	NotBuilt                    // the feature does not exist here yet
	NoLeader                    // no leader is known at the moment
	NotReady                    // the leader cannot serve consistent reads yet
	NoPath                      // the datacenter is unknown
	Unreachable                 // the datacenter is known, but none of its servers can be reached
	NoServers                   // a client agent knows no servers
	StatesDisabled              // federation states wait for every server to support them
	ACLDisabled                 // the ACL system is off
	LeaderUnmatched             // the leader's address belongs to no known server
)

// texts are the protocol's constants (rpc-facts §6): they are matched by
// substring, by our peers as well as by us, and must not change.
var texts = []struct {
	code Code
	text string
}{
	{NoLeader, "No cluster leader"},
	{NotReady, "Not ready to serve consistent reads"},
	{NoPath, "No path to datacenter"},
	{Unreachable, "Remote DC has no server currently reachable"},
	{NoServers, "No known Consul servers"},
	{StatesDisabled, "Federation states are currently disabled until all servers in the datacenter support the feature"},
	{LeaderUnmatched, "Raft leader not found in server lookup mapping"},
	{NotAllowed, "Permission denied"},
	{NotAllowed, "ACL not found"},
	{ACLDisabled, "ACL support disabled"},
	{RateLimited, "rate limit exceeded"},
}

// Error is an error with a code.
type Error struct {
	Code Code
	Text string
	Err  error // the cause, if any
}

// Error returns the text and, after a colon, the cause.
func (e *Error) Error() string {
	if e.Err == nil {
		return e.Text
	}
	return e.Text + ": " + e.Err.Error()
}

// Unwrap returns the cause.
func (e *Error) Unwrap() error { return e.Err }

// Errorf makes an error of a kind. A %w in the format keeps its cause.
func Errorf(code Code, format string, args ...any) error {
	err := fmt.Errorf(format, args...)
	return &Error{Code: code, Text: err.Error(), Err: nil}
}

// Known returns the protocol's error of a kind, with a cause that may be nil.
func Known(code Code, cause error) error {
	for _, t := range texts {
		if t.code == code {
			return &Error{Code: code, Text: t.text, Err: cause}
		}
	}
	return &Error{Code: code, Text: "error", Err: cause}
}

// CodeOf tells the kind of err, also when it crossed a connection as text.
func CodeOf(err error) Code {
	if err == nil {
		return Internal
	}
	if e, ok := errors.AsType[*Error](err); ok {
		return e.Code
	}
	text := err.Error()
	for _, t := range texts {
		if strings.Contains(text, t.text) {
			return t.code
		}
	}
	return Internal
}
