package httpapi

import (
	"strconv"

	"isthmus/api"
)

func agentMaintenance(q *request) error {
	on, err := q.enable()
	if err != nil {
		return err
	}
	return q.api.cfg.Local.SetMaintenance("", on, q.query.Get("reason")) //nolint:wrapcheck // shown to the caller
}

func agentServiceMaintenance(q *request) error {
	if q.rest == "" {
		return api.Errorf(api.Invalid, "Missing service ID")
	}
	on, err := q.enable()
	if err != nil {
		return err
	}
	return q.api.cfg.Local.SetMaintenance(q.rest, on, q.query.Get("reason")) //nolint:wrapcheck // shown to the caller
}

// enable is what ?enable says, which must be given.
func (q *request) enable() (bool, error) {
	if !q.has("enable") {
		return false, api.Errorf(api.Invalid, "Missing value for enable")
	}
	on, err := strconv.ParseBool(q.query.Get("enable"))
	if err != nil {
		return false, api.Errorf(api.Invalid, "Invalid value for enable: %q", q.query.Get("enable"))
	}
	return on, nil
}
