package httpapi

import (
	"reflect"

	"isthmus/api"
	"isthmus/internal/telemetry"
	"isthmus/internal/wire"
)

// shape is what a route takes and answers, for the OpenAPI document.
type shape struct {
	of     string   // what stands behind a pattern that ends in a slash
	query  []string // names of parameters
	body   reflect.Type
	answer reflect.Type // nil: an empty body
	// null tells that the answer may be null.
	null bool
	// sends and answers are media types of bodies other than JSON.
	sends, answers string
	index          bool         // the answer has an index, which can be waited beyond
	also           map[int]bool // statuses beside 200 that are no errors of form; true: with the same answer
}

func typeOf[T any]() reflect.Type { return reflect.TypeFor[T]() }

// parameters describes every parameter of a query.
var parameters = map[string]struct{ kind, doc string }{
	"dc":                      {typeString, "Datacenter to ask, if not this node's."},
	"index":                   {typeInteger, "Wait until the answer is newer than this index, which an answer's X-Consul-Index was."},
	"wait":                    {typeString, "How long to wait at most, such as 10s or 1.5m; 5m by default, and 10m at most."},
	"stale":                   {kindFlag, "Let any server answer, even one that lags behind the leader."},
	"consistent":              {kindFlag, "Let the leader make sure first that it still leads."},
	"cached":                  {kindFlag, "Answer from this agent's cache, which keeps the answer up to date from then on."},
	"max_stale":               {typeString, "How far behind the leader the answer of ?stale may be, such as 10s."},
	"filter":                  {typeString, `Expression that the rows must fulfil, such as ServiceMeta.version == "2".`},
	"near":                    {typeString, "Node to sort the rows by the distance from; _agent is this one."},
	"node-meta":               {kindList, "key:value that the metadata of the node must hold; may be given more than once."},
	"tag":                     {kindList, "Tag that an instance must have; may be given more than once."},
	"passing":                 {kindFlag, "Only instances all of whose checks pass."},
	"merge-central-config":    {kindFlag, "Merge the central configuration into the instances."},
	"pem":                     {typeBoolean, "Show the certificates alone, as PEM."},
	"recurse":                 {kindFlag, "All entries below the prefix."},
	"keys":                    {kindFlag, "Names of the entries below the prefix, and no more."},
	"raw":                     {kindFlag, "The bare value."},
	"separator":               {typeString, "With ?keys, names end after the first of these beyond the prefix."},
	"flags":                   {typeInteger, "Number to keep beside the value."},
	"cas":                     {typeInteger, "Change the entry only if it last changed at this index; 0: only if there is none."},
	"wan":                     {kindFlag, "Of the WAN pool."},
	"segment":                 {typeString, "Network segment."},
	"prune":                   {kindFlag, "Forget the member."},
	"enable":                  {typeBoolean, "Whether to take it out of use."},
	"reason":                  {typeString, "Why."},
	"format":                  {typeString, "Other form of the answer."},
	"loglevel":                {typeString, "Least level: trace, debug, info, warn, error."},
	"logjson":                 {typeBoolean, "Lines of JSON."},
	"hash":                    {typeString, "Wait until the service is another than the one of this ContentHash."},
	"replace-existing-checks": {kindFlag, "Remove checks of the service that the body does not have."},
	"note":                    {typeString, "Output of the check."},
	"token":                   {typeString, "Secret of an ACL token; also in the header X-Consul-Token or Authorization."},
	"pretty":                  {kindFlag, "Indent JSON."},
}

// Kinds of parameters beside those of JSON.
const (
	kindFlag = "flag" // it counts that it is there
	kindList = "list"
)

// Groups of parameters.
var (
	reading  = []string{"dc", "stale", "consistent", "cached", "max_stale", "filter", "index", "wait"}
	nearby   = append([]string{"near", "node-meta"}, reading...)
	ofTags   = append([]string{"tag", "merge-central-config"}, nearby...)
	ofHealth = append([]string{"passing"}, ofTags...)
)

const (
	mediaJSON = "application/json" // without a schema: one after the other
	mediaText = "text/plain"
	mediaPEM  = "application/pem-certificate-chain"
	mediaRaw  = "application/octet-stream"
)

// What stands behind patterns.
const (
	ofNode      = "node"
	ofService   = "service"
	ofKey       = "key"
	ofServiceID = "service_id"
	ofCheckID   = "check_id"
)

// shapes says of every route that is built what it takes and answers.
var shapes = map[string]shape{
	"GET /": {answers: mediaText},

	"GET /v1/status/leader": {query: []string{"dc"}, answer: typeOf[string]()},
	"GET /v1/status/peers":  {query: []string{"dc"}, answer: typeOf[[]string]()},

	"GET /v1/catalog/datacenters":       {answer: typeOf[[]string]()},
	"GET /v1/catalog/nodes":             {query: nearby, answer: typeOf[[]*api.Node](), index: true},
	"GET /v1/catalog/services":          {query: nearby, answer: typeOf[map[string][]string](), index: true},
	"GET /v1/catalog/service/":          {of: ofService, query: ofTags, answer: typeOf[[]*api.ServiceNode](), index: true},
	"GET /v1/catalog/node/":             {of: ofNode, query: reading, answer: typeOf[api.NodeServices](), null: true, index: true},
	"GET /v1/catalog/node-services/":    {of: ofNode, query: append([]string{"merge-central-config"}, reading...), answer: typeOf[api.NodeServiceList](), index: true},
	"GET /v1/catalog/connect/":          {of: ofService, query: ofTags, answer: typeOf[[]*api.ServiceNode](), index: true},
	"GET /v1/catalog/gateway-services/": {of: "gateway", query: reading, answer: typeOf[[]*wire.GatewayService](), index: true},
	"PUT /v1/catalog/register":          {query: []string{"dc"}, body: typeOf[api.Registration](), answer: typeOf[bool]()},
	"PUT /v1/catalog/deregister":        {query: []string{"dc"}, body: typeOf[api.Deregistration](), answer: typeOf[bool]()},

	"GET /v1/health/service/": {of: ofService, query: ofHealth, answer: typeOf[[]*api.CheckServiceNode](), index: true},
	"GET /v1/health/connect/": {of: ofService, query: ofHealth, answer: typeOf[[]*api.CheckServiceNode](), index: true},
	"GET /v1/health/ingress/": {of: ofService, query: ofHealth, answer: typeOf[[]*api.CheckServiceNode](), index: true},
	"GET /v1/health/checks/":  {of: ofService, query: nearby, answer: typeOf[[]*api.HealthCheck](), index: true},
	"GET /v1/health/node/":    {of: ofNode, query: reading, answer: typeOf[[]*api.HealthCheck](), index: true},
	"GET /v1/health/state/":   {of: "state", query: nearby, answer: typeOf[[]*api.HealthCheck](), index: true},

	"GET /v1/coordinate/datacenters": {answer: typeOf[[]*api.DatacenterCoordinates]()},
	"GET /v1/coordinate/nodes":       {query: append([]string{"segment"}, nearby...), answer: typeOf[[]*api.NodeCoordinate](), index: true},
	"GET /v1/coordinate/node/":       {of: ofNode, query: append([]string{"segment"}, reading...), answer: typeOf[[]*api.NodeCoordinate](), index: true, also: map[int]bool{404: false}},
	"PUT /v1/coordinate/update":      {query: []string{"dc"}, body: typeOf[api.NodeCoordinate]()},

	"GET /v1/kv/":    {of: ofKey, query: append([]string{"recurse", "keys", "raw", "separator"}, reading...), answer: typeOf[kvAnswer](), answers: mediaText, index: true, also: map[int]bool{404: false}},
	"PUT /v1/kv/":    {of: ofKey, query: []string{"dc", "flags", "cas"}, sends: mediaRaw, answer: typeOf[bool]()},
	"DELETE /v1/kv/": {of: ofKey, query: []string{"dc", "recurse", "cas"}, answer: typeOf[bool]()},

	"GET /v1/connect/ca/roots":         {query: append([]string{"pem"}, reading...), answer: typeOf[api.CARoots](), answers: mediaPEM, index: true},
	"GET /v1/connect/ca/configuration": {query: reading, answer: typeOf[api.CAConfiguration]()},

	"GET /v1/internal/federation-states":               {query: reading, answer: typeOf[[]*api.FederationState](), index: true},
	"GET /v1/internal/federation-states/mesh-gateways": {query: reading, answer: typeOf[map[string][]api.CheckServiceNode](), index: true},
	"GET /v1/internal/federation-state/":               {of: "datacenter", query: reading, answer: typeOf[federationReply](), index: true, also: map[int]bool{404: false}},
	"GET /v1/internal/ui/nodes":                        {query: nearby, answer: typeOf[[]*wire.NodeInfo](), index: true},
	"GET /v1/internal/ui/node/":                        {of: ofNode, query: reading, answer: typeOf[wire.NodeInfo](), index: true, also: map[int]bool{404: false}},
	"GET /v1/internal/ui/services":                     {query: reading, answer: typeOf[[]*serviceSummary](), index: true},
	"GET /v1/internal/ui/catalog-overview":             {query: reading, answer: typeOf[wire.CatalogSummary](), index: true},
	"GET /v1/internal/ui/gateway-services-nodes/":      {of: "gateway", query: reading, answer: typeOf[[]*serviceSummary](), index: true},
	"GET /v1/federation/status":                        {answer: typeOf[federationView]()},

	"GET /v1/agent/self":                 {answer: typeOf[selfInfo]()},
	"GET /v1/agent/members":              {query: []string{"wan", "segment", "filter"}, answer: typeOf[[]member](), null: true},
	"PUT /v1/agent/join/":                {of: "address", query: []string{"wan"}},
	"PUT /v1/agent/leave":                {},
	"PUT /v1/agent/force-leave/":         {of: ofNode, query: []string{"prune", "wan"}},
	"GET /v1/agent/host":                 {answer: typeOf[host]()},
	"GET /v1/agent/version":              {answer: typeOf[versionInfo]()},
	"PUT /v1/agent/maintenance":          {query: []string{"enable", "reason"}},
	"PUT /v1/agent/reload":               {},
	"GET /v1/agent/metrics":              {query: []string{"format"}, answer: typeOf[telemetry.Summary](), answers: mediaText},
	"GET /v1/agent/metrics/stream":       {answers: mediaJSON},
	"GET /v1/agent/monitor":              {query: []string{"loglevel", "logjson"}, answers: mediaText},
	"GET /v1/agent/services":             {query: []string{"filter"}, answer: typeOf[map[string]agentService]()},
	"GET /v1/agent/service/":             {of: ofServiceID, query: []string{"hash", "wait"}, answer: typeOf[agentService](), also: map[int]bool{404: false}},
	"PUT /v1/agent/service/register":     {query: []string{"replace-existing-checks"}, body: typeOf[api.ServiceDefinition]()},
	"PUT /v1/agent/service/deregister/":  {of: ofServiceID, also: map[int]bool{404: false}},
	"PUT /v1/agent/service/maintenance/": {of: ofServiceID, query: []string{"enable", "reason"}, also: map[int]bool{404: false}},
	"GET /v1/agent/health/service/id/":   {of: ofServiceID, query: []string{"format"}, answer: typeOf[serviceState](), answers: mediaText, also: map[int]bool{404: true, 429: true, 503: true}},
	"GET /v1/agent/health/service/name/": {of: ofService, query: []string{"format"}, answer: typeOf[[]serviceState](), answers: mediaText, also: map[int]bool{404: true, 429: true, 503: true}},
	"GET /v1/agent/proxies":              {answer: typeOf[[]map[string]any]()},
	"GET /v1/agent/checks":               {query: []string{"filter"}, answer: typeOf[map[string]*api.HealthCheck]()},
	"GET /v1/agent/connect/ca/roots":     {query: reading, answer: typeOf[api.CARoots](), index: true},
	"PUT /v1/agent/check/register":       {body: typeOf[checkBody]()},
	"PUT /v1/agent/check/deregister/":    {of: ofCheckID, also: map[int]bool{404: false}},
	"PUT /v1/agent/check/pass/":          {of: ofCheckID, query: []string{"note"}, also: map[int]bool{404: false}},
	"PUT /v1/agent/check/warn/":          {of: ofCheckID, query: []string{"note"}, also: map[int]bool{404: false}},
	"PUT /v1/agent/check/fail/":          {of: ofCheckID, query: []string{"note"}, also: map[int]bool{404: false}},
	"PUT /v1/agent/check/update/":        {of: ofCheckID, body: typeOf[checkUpdate](), also: map[int]bool{404: false}},

	"GET /debug/pprof/":        {of: "profile", answers: mediaRaw},
	"GET /debug/pprof/cmdline": {answers: mediaText},
	"GET /debug/pprof/profile": {answers: mediaRaw},
	"GET /debug/pprof/symbol":  {answers: mediaText},
	"GET /debug/pprof/trace":   {answers: mediaRaw},
}

// kvAnswer stands for the two forms of an answer of the key-value store: entries,
// and with ?keys their names.
type kvAnswer struct{}
