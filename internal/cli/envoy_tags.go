package cli

import "strings"

// Tags that stand in several of the lists below.
const (
	byPartition  = "partition"
	byDatacenter = "datacenter"
)

// sniPart is a part of the names of clusters, which are those by which instances
// of the service mesh are reached:
//
//	[hash~][subset.]service.namespace.[partition.]datacenter.type.domain.consul.
type sniPart struct {
	name    string
	pattern string // with % around what the part's value is
}

var sniParts = []sniPart{
	{"custom_hash", `(?:%[^.]+%~)?`},
	{"service_subset", `(?:%[^.]+%\.)?`},
	{"service", `%[^.]+%\.`},
	{"namespace", `%[^.]+%\.`},
	{byPartition, `(?:%[^.]+%\.)?`},
	{byDatacenter, `%[^.]+%\.`},
	{"routing_type", `%[^.]+%\.`},
	{"trust_domain", `%[^.]+%\.`},
}

// sniPattern makes the pattern of a tag. Envoy takes what the first group matches
// out of the name of a figure, and the second is the value.
func sniPattern(before, tag string) string {
	var out strings.Builder
	out.WriteString(`^cluster\.` + before + `(`)
	if last := sniSpans[tag]; last != "" {
		out.WriteString(`(`)
	}
	for _, part := range sniParts {
		pattern := part.pattern
		if part.name == "routing_type" && (tag == byDatacenter || tag == byPartition) {
			pattern = `internal[^.]*\.` // elsewhere there is something else in the place
		}
		if part.name == sniSpans[tag] { // the value ends before the dot of this part
			pattern = strings.TrimSuffix(pattern, `\.`) + `)\.`
		}
		mark := [2]string{"", ""}
		if part.name == tag {
			mark = [2]string{"(", ")"}
		}
		pattern = strings.Replace(pattern, "%", mark[0], 1)
		out.WriteString(strings.Replace(pattern, "%", mark[1], 1))
	}
	out.WriteString(`consul\.)`)
	return out.String()
}

// sniSpans are the tags whose value goes from the start to the end of a part.
var sniSpans = map[string]string{"target": byDatacenter, "full_target": "trust_domain"}

// upstreamTags are the tags of figures of upstreams. Those of another peer have no
// partition and datacenter.
var upstreamTags = []struct{ name, pattern string }{
	{"service", `^(?:tcp|http)\.upstream(?:_peered)?\.(([^.]+)(?:\.[^.]+)?(?:\.[^.]+)?\.[^.]+\.)`},
	{byDatacenter, `^(?:tcp|http)\.upstream\.([^.]+(?:\.[^.]+)?(?:\.[^.]+)?\.([^.]+)\.)`},
	{"peer", `^(?:tcp|http)\.upstream_peered\.([^.]+(?:\.[^.]+)?\.([^.]+)\.)`},
	{"namespace", `^(?:tcp|http)\.upstream(?:_peered)?\.([^.]+(?:\.([^.]+))?(?:\.[^.]+)?\.[^.]+\.)`},
	{byPartition, `^(?:tcp|http)\.upstream\.([^.]+(?:\.[^.]+)?(?:\.([^.]+))?\.[^.]+\.)`},
}

// tags are how Envoy's figures are labelled: by where they lead to, and by where
// they come from.
func (b *envoyBootstrap) tags() []any {
	var out []any
	pattern := func(name, regex string) { out = append(out, object{"tag_name": name, "regex": regex}) }
	for _, tag := range []string{
		"custom_hash", "service_subset", "service", "namespace", byPartition, byDatacenter, "peer", "routing_type",
		"trust_domain", "target", "full_target",
	} {
		regex := sniPattern(`(?:passthrough~)?`, tag)
		if tag == "peer" { // whose names are of another kind
			regex = `^cluster\.([^.]+\.(?:[^.]+\.)?([^.]+)\.external\.[^.]+\.consul\.)`
		}
		pattern("consul.destination."+tag, regex)
	}
	for _, tag := range upstreamTags {
		pattern("consul.upstream."+tag.name, tag.pattern)
	}
	if !b.omitDeprecatedTags {
		for _, tag := range []string{
			"custom_hash", "service_subset", "service", "namespace", byDatacenter, "routing_type", "trust_domain", "target", "full_target",
		} {
			pattern("consul."+tag, sniPattern("", tag))
		}
	}
	for _, tag := range []struct{ name, value string }{
		{"local_cluster", b.cluster},
		{"consul.source.service", b.service},
		{"consul.source.namespace", orDefault(b.namespace)},
		{"consul.source.partition", orDefault(b.partition)},
		{"consul.source.datacenter", b.datacenter},
	} {
		out = append(out, object{"tag_name": tag.name, "fixed_value": tag.value})
	}
	return out
}
