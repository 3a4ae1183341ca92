package cli

import (
	"cmp"
	"context"
	"fmt"
	"maps"
	"net"
	"regexp"
	"slices"
	"strconv"
	"strings"

	consul "github.com/hashicorp/consul/api"
)

type members struct {
	WAN      bool   `flag:"wan"      doc:"Show the servers of all datacenters instead of the members of this one."`
	Detailed bool   `flag:"detailed" doc:"Show the tags that members tell each other."`
	Filter   string `flag:"filter"   doc:"Expression that a member must match."`

	Status  string `flag:"status"  default:".*"   doc:"Regular expression that the status must match."`
	Segment string `flag:"segment" default:"_all" doc:"Network segment to show. Nodes without segments refuse it."`

	Ignored []string `arg:"[ignored...]"`
}

// Tags of a member that have a column of their own.
const (
	tagPartition = "ap"
	tagSegment   = "segment"
	roleServer   = "consul"
	roleClient   = "node"
)

func (c *members) Run(_ context.Context, e *Env) error {
	wanted, err := regexp.Compile(c.Status)
	if err != nil {
		return failf("Failed to compile status regexp: %w", err)
	}
	all, err := e.Client().Agent().MembersOpts(consul.MembersOpts{WAN: c.WAN, Segment: c.Segment, Filter: c.Filter})
	if err != nil {
		return failf("Error retrieving members: %w", err)
	}
	shown := slices.DeleteFunc(all, func(m *consul.AgentMember) bool { return !wanted.MatchString(memberStatus(m)) })
	if len(shown) == 0 {
		return &failure{code: exitNoMatch}
	}
	for _, m := range shown {
		completeTags(m)
	}
	slices.SortFunc(shown, func(a, b *consul.AgentMember) int {
		return cmp.Or(
			cmp.Compare(a.Tags[tagPartition], b.Tags[tagPartition]),
			cmp.Compare(a.Tags[tagSegment], b.Tags[tagSegment]),
			cmp.Compare(a.Name, b.Name),
		)
	})
	rows := [][]string{{"Node", "Address", "Status", "Type", "Build", "Protocol", "DC", "Partition", "Segment"}}
	row := memberRow
	if c.Detailed {
		rows, row = [][]string{{"Node", "Address", "Status", "Tags"}}, memberTags
	}
	for _, m := range shown {
		rows = append(rows, append([]string{
			m.Name, net.JoinHostPort(m.Addr, strconv.Itoa(int(m.Port))), memberStatus(m),
		}, row(m)...))
	}
	return e.printf("%s", table(rows))
}

// completeTags sets the tags that older nodes leave out.
func completeTags(m *consul.AgentMember) {
	if m.Tags == nil {
		m.Tags = map[string]string{}
	}
	if m.Tags[tagPartition] == "" {
		m.Tags[tagPartition] = "default"
	}
	switch {
	case m.Tags["role"] == roleServer:
		m.Tags[tagSegment] = "<all>" // A server is in every segment.
	case m.Tags[tagSegment] == "":
		m.Tags[tagSegment] = "<default>"
	}
}

func memberRow(m *consul.AgentMember) []string {
	var kind string
	switch m.Tags["role"] {
	case roleServer:
		kind = "server"
	case roleClient:
		kind = "client"
	default:
		return []string{"unknown", "", "", "", "", ""}
	}
	build, _, _ := strings.Cut(m.Tags["build"], ":")
	return []string{kind, build, m.Tags["vsn"], m.Tags["dc"], m.Tags[tagPartition], m.Tags[tagSegment]}
}

func memberTags(m *consul.AgentMember) []string {
	var tags []string
	for _, key := range slices.Sorted(maps.Keys(m.Tags)) {
		tags = append(tags, key+"="+m.Tags[key])
	}
	return []string{strings.Join(tags, ",")}
}

func memberStatus(m *consul.AgentMember) string {
	names := []string{"none", "alive", "leaving", "left", "failed"}
	if m.Status < 0 || m.Status >= len(names) {
		return fmt.Sprintf("status-%d", m.Status)
	}
	return names[m.Status]
}
