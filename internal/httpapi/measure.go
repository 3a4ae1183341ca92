package httpapi

import (
	"time"

	"isthmus/internal/telemetry"
)

// catalogCalls are the names under which routes of the catalog are counted.
var catalogCalls = map[string]string{
	"/v1/catalog/register":          "catalog_register",
	"/v1/catalog/deregister":        "catalog_deregister",
	"/v1/catalog/datacenters":       "catalog_datacenters",
	"/v1/catalog/nodes":             "catalog_nodes",
	"/v1/catalog/services":          "catalog_services",
	"/v1/catalog/service/":          "catalog_service_nodes",
	"/v1/catalog/connect/":          "catalog_connect_service_nodes",
	"/v1/catalog/node/":             "catalog_node_services",
	"/v1/catalog/node-services/":    "catalog_node_service_list",
	"/v1/catalog/gateway-services/": "catalog_gateway_services",
}

// measure notes that a request was answered.
func (a *API) measure(p *place, method string, begin time.Time, good bool) {
	telemetry.HTTPTime.Since(begin, method, p.label)
	if p.call == "" {
		return
	}
	telemetry.ClientAPI.Count(p.call, a.cfg.Node)
	if good {
		telemetry.ClientAPIGot.Count(p.call, a.cfg.Node)
	} else {
		telemetry.ClientAPIBad.Count(p.call, a.cfg.Node)
	}
}
