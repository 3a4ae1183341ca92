// Package clients runs clients that are Go libraries against an agent.
// CONSUL_HTTP_ADDR says where it is; the script run starts one.
package clients

import (
	"os"
	"testing"
	"time"

	"github.com/hashicorp/consul/api"
)

// within is how long something may take that takes a moment.
const within = 20 * time.Second

// agent returns the official client of the agent, to change what others look at.
func agent(t *testing.T) *api.Client {
	t.Helper()
	if os.Getenv("CONSUL_HTTP_ADDR") == "" {
		t.Fatal("CONSUL_HTTP_ADDR does not say where an agent is: start this with the script run")
	}
	client, err := api.NewClient(api.DefaultConfig())
	if err != nil {
		t.Fatal(err)
	}
	return client
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}
