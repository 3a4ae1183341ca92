// Package testkit helps tests: servers over a fake log, waiting for what real
// sockets take time for, certificates. Only tests import it.
package testkit
