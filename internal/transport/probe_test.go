package transport_test

import (
	"testing"

	"isthmus/internal/transport"
)

func TestProbesUseTheMaterialOfTheMoment(t *testing.T) {
	var off *transport.TLS
	if off.Probe() != nil {
		t.Error("there is something to probe with although TLS is off")
	}
	a := newAuthority(t)
	m, err := transport.NewTLS(a.server(t))
	if err != nil {
		t.Fatal(err)
	}
	first := m.Probe()
	if first.ServerName != "n1" || first.RootCAs == nil || len(first.Certificates) != 1 || first.InsecureSkipVerify {
		t.Errorf("got %+v", first)
	}
	if m.Probe() != first {
		t.Error("it is another one although nothing changed")
	}
	if err := m.Reload(a.client(t)); err != nil {
		t.Fatal(err)
	}
	if m.Probe() == first {
		t.Error("it is the same after a reload")
	}
}
