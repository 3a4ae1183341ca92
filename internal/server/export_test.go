package server

import "isthmus/internal/rpc"

// SetPrimary lets a test answer for the primary datacenter. It comes before Lead.
func (s *Server) SetPrimary(c rpc.Caller) { s.primary, s.copier.Remote = c, c }
