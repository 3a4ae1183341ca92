package clients

import (
	"context"
	"fmt"
	"maps"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/hashicorp/consul/api"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/common/config"
	"github.com/prometheus/common/model"
	"github.com/prometheus/prometheus/discovery"
	"github.com/prometheus/prometheus/discovery/consul"
	"github.com/prometheus/prometheus/discovery/targetgroup"
)

// discovered is what a discoverer knows: for each service its targets, in order.
type discovered struct {
	t       *testing.T
	updates chan []*targetgroup.Group
	groups  map[string]*targetgroup.Group
}

// discover starts a discoverer that asks again as soon as it has an answer.
func discover(t *testing.T, change func(*consul.SDConfig)) *discovered {
	t.Helper()
	conf := consul.DefaultSDConfig
	conf.Server = os.Getenv("CONSUL_HTTP_ADDR")
	conf.RefreshInterval = model.Duration(10 * time.Millisecond)
	change(&conf)
	metrics := conf.NewDiscovererMetrics(prometheus.NewRegistry(), nil)
	d, err := conf.NewDiscoverer(discovery.DiscovererOptions{Metrics: metrics})
	must(t, err)
	out := &discovered{t: t, updates: make(chan []*targetgroup.Group), groups: map[string]*targetgroup.Group{}}
	go d.Run(t.Context(), out.updates)
	return out
}

// until takes updates until the addresses of a service's targets are these, or its
// group is cleared, and returns them.
func (d *discovered) until(service string, addresses ...string) []model.LabelSet {
	d.t.Helper()
	end, stop := context.WithTimeout(d.t.Context(), within)
	defer stop()
	for {
		group := d.groups[service]
		var got []string
		if group != nil {
			for _, target := range group.Targets {
				got = append(got, string(target[model.AddressLabel]))
			}
		}
		if group != nil && slices.Equal(got, addresses) {
			return group.Targets
		}
		select {
		case update := <-d.updates:
			for _, group := range update {
				d.groups[group.Source] = group
			}
		case <-end.Done():
			d.t.Fatalf("the targets of %s are %v, want %v", service, got, addresses)
		}
	}
}

func TestPrometheus(t *testing.T) {
	client := agent(t)
	register := func(id string, port int, tags ...string) {
		t.Helper()
		must(t, client.Agent().ServiceRegister(&api.AgentServiceRegistration{
			Name: "prom-web", ID: id, Address: "10.4.1.1", Port: port, Tags: tags, Meta: map[string]string{"metrics-path": "/m"},
			Check: &api.AgentServiceCheck{TTL: "60s", Status: api.HealthPassing},
		}))
		t.Cleanup(func() { _ = client.Agent().ServiceDeregister(id) })
	}
	self, err := client.Agent().Self()
	must(t, err)
	node := fmt.Sprint(self["Config"]["NodeName"])
	host, _, _ := strings.Cut(os.Getenv("CONSUL_HTTP_ADDR"), ":")
	register("prom-web-2", 8002, "a")
	register("prom-web-1", 8001, "a", "Blue")

	all := discover(t, func(*consul.SDConfig) {})
	tagged := discover(t, func(c *consul.SDConfig) {
		c.Services, c.ServiceTags, c.AllowStale = []string{"prom-web"}, []string{"a", "Blue"}, false
	})
	elsewhere := discover(t, func(c *consul.SDConfig) {
		c.Services, c.NodeMeta = []string{"prom-web"}, map[string]string{"zone": "b"}
	})
	here := discover(t, func(c *consul.SDConfig) { c.NodeMeta = map[string]string{"zone": "a"} })
	filtered := discover(t, func(c *consul.SDConfig) {
		c.Filter, c.HealthFilter = `ServiceName == "prom-web"`, `Service.Port == 8002`
	})
	// The basic authentication of a proxy in front is not the agent's business.
	behind := discover(t, func(c *consul.SDConfig) {
		c.HTTPClientConfig.BasicAuth = &config.BasicAuth{Username: "u", Password: "p"}
	})

	// Targets have every label that the documentation of Prometheus names.
	targets := all.until("prom-web", "10.4.1.1:8001", "10.4.1.1:8002")
	first := maps.Clone(targets[0])
	for name, want := range map[model.LabelName]string{
		"__meta_consul_address": host, "__meta_consul_node": node, "__meta_consul_tags": ",a,Blue,",
		"__meta_consul_service_address": "10.4.1.1", "__meta_consul_service_port": "8001", "__meta_consul_service_id": "prom-web-1",
		"__meta_consul_health": "passing", "__meta_consul_service_metadata_metrics_path": "/m", "__meta_consul_metadata_zone": "a",
		"__meta_consul_tagged_address_lan": host, "__meta_consul_tagged_address_wan": host,
		"__meta_consul_tagged_address_lan_ipv4": host, "__meta_consul_tagged_address_wan_ipv4": host,
	} {
		if got := string(first[name]); got != want {
			t.Errorf("label %s is %q, want %q", name, got, want)
		}
	}
	if got := all.groups["prom-web"].Labels; got["__meta_consul_dc"] != "dc1" || got["__meta_consul_service"] != "prom-web" {
		t.Errorf("the group's labels are %v", got)
	}
	tagged.until("prom-web", "10.4.1.1:8001")
	elsewhere.until("prom-web")
	here.until("prom-web", "10.4.1.1:8001", "10.4.1.1:8002")
	filtered.until("prom-web", "10.4.1.1:8002")
	behind.until("prom-web", "10.4.1.1:8001", "10.4.1.1:8002")

	// Blocking reads tell of each change: of health, of instances, of services.
	must(t, client.Agent().UpdateTTL("service:prom-web-1", "down", api.HealthCritical))
	for end := time.Now().Add(within); ; {
		targets := all.until("prom-web", "10.4.1.1:8001", "10.4.1.1:8002")
		if targets[0]["__meta_consul_health"] == "critical" {
			break
		}
		if time.Now().After(end) {
			t.Fatal("the change of health is not seen")
		}
		delete(all.groups, "prom-web") // wait for the next update
	}
	register("prom-web-3", 8003, "Blue", "a")
	all.until("prom-web", "10.4.1.1:8001", "10.4.1.1:8002", "10.4.1.1:8003")
	tagged.until("prom-web", "10.4.1.1:8001", "10.4.1.1:8003")
	must(t, client.Agent().ServiceRegister(&api.AgentServiceRegistration{Name: "prom-late", Port: 1}))
	all.until("prom-late", host+":1")
	must(t, client.Agent().ServiceDeregister("prom-late"))
	all.until("prom-late")
}
