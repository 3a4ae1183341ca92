// Package transport opens and accepts the connections servers share. A Dialer
// opens one to a server, a Mux tells accepted ones apart by their first byte or
// their ALPN id, and TLS holds the certificates of both, which can be replaced
// while running. DESIGN.md has the rules and their reasons.
package transport
