package httpapi

import (
	"strconv"
	"strings"

	"isthmus/api"
	"isthmus/internal/wire"
)

// connectRoots shows the roots that the mesh trusts, or their certificates alone as
// PEM.
func connectRoots(q *request) error {
	h, err := q.read()
	if err != nil {
		return err
	}
	bare := false
	if v := q.query.Get("pem"); v != "" {
		if bare, err = strconv.ParseBool(v); err != nil {
			return api.Errorf(api.Invalid, "The 'pem' query parameter must be a boolean value")
		}
	}
	out, meta, err := ask(q, wire.CARoots, h, wire.DCQuery{})
	q.meta(meta)
	switch {
	case err != nil:
		return err
	case !bare:
		return q.json(shownRoots(out))
	}
	q.w.Header().Set("Content-Type", "application/pem-certificate-chain")
	q.send([]byte(chain(out)))
	return nil
}

// chain is the roots, each with its intermediates.
func chain(roots api.CARoots) string {
	var b strings.Builder
	for _, r := range roots.Roots {
		for _, cert := range append([]string{r.RootCert}, r.IntermediateCerts...) {
			b.WriteString(strings.TrimSpace(cert) + "\n")
		}
	}
	return b.String()
}

// agentConnectRoots reads through the agent's cache, so that it answers while no
// server is reached.
func agentConnectRoots(q *request) error {
	h, err := q.read()
	if err != nil {
		return err
	}
	h.UseCache = true
	out, meta, err := ask(q, wire.CARoots, h, wire.DCQuery{})
	if err != nil {
		return err
	}
	q.meta(meta)
	return q.json(shownRoots(out))
}

// shownRoots is an answer whose list is never null.
func shownRoots(roots api.CARoots) api.CARoots {
	if roots.Roots == nil {
		roots.Roots = []*api.CARoot{}
	}
	return roots
}

func connectConfig(q *request) error {
	h, err := q.read()
	if err != nil {
		return err
	}
	h.MinIndex = 0
	out, _, err := ask(q, wire.CAConfiguration, h, wire.DCQuery{})
	if err != nil {
		return err
	}
	return q.json(out)
}

func connectConfigPut(*request) error {
	return api.Errorf(api.NotBuilt, "changing the CA configuration is not built yet")
}
