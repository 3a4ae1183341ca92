//go:build !linux

package proxy

import "net"

func newListener(ln net.Listener) (listener, error) { return plainListener{ln}, nil }

var dialTCP = dialPlain
