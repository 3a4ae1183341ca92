package cli

import (
	"context"
	"fmt"
	"io"
	"net"
	"strconv"
	"time"

	consul "github.com/hashicorp/consul/api"

	"isthmus/internal/config"
)

type servicesRegister struct {
	Address         string            `flag:"address"        doc:"Address of the service; the node's when not given."`
	ID              string            `flag:"id"             doc:"ID of the service; its name when not given."`
	Kind            string            `flag:"kind"           doc:"Kind of the service, such as connect-proxy; an ordinary one when not given."`
	Meta            map[string]string `flag:"meta"           doc:"Metadata to keep with the service. May be given again."`
	Name            string            `flag:"name"           doc:"Name of the service."`
	Port            int               `flag:"port"           doc:"Port of the service."`
	Socket          string            `flag:"socket"         doc:"Path of the Unix socket of the service, in place of address and port."`
	Tags            []string          `flag:"tag"            doc:"Tag of the service. May be given again."`
	TaggedAddresses map[string]string `flag:"tagged-address" doc:"Address for one purpose, as NAME=HOST:PORT. May be given again."`

	Files []string `arg:"[FILE...]"`
}

func (*servicesRegister) Help() string {
	return `Services are described by files with settings (HCL or JSON), or one service by
flags. They stay until they are deregistered.`
}

func (c *servicesRegister) Run(ctx context.Context, e *Env) error {
	var list []*registration
	switch {
	case len(c.Files) > 0 && (c.Name != "" || c.ID != ""):
		return failf("Service registration requires arguments or -id, not both.")
	case len(c.Files) > 0:
		services, err := readServices(c.Files)
		if err != nil {
			return failf("Error: %w", err)
		}
		for i := range services {
			list = append(list, fromDefinition(&services[i]))
		}
	case c.Name == "":
		return failf("Service registration requires at least one argument or flags.")
	default:
		one, err := c.fromFlags()
		if err != nil {
			return failf("Invalid Tagged Address: %w", err)
		}
		list = append(list, one)
	}
	for _, one := range list {
		opts := e.Write(ctx)
		opts.Token = one.token
		if _, err := e.Client().Raw().Write("/v1/agent/service/register", one, nil, opts); err != nil {
			return failf("Error registering service %q: %w", one.Name, err)
		}
		if err := e.printf("Registered service: %s\n", one.Name); err != nil {
			return err
		}
	}
	return nil
}

// registration is what a node is sent. Parts of the mesh are sent as the file has
// them, since the node understands both spellings of their keys.
type registration struct {
	consul.AgentServiceRegistration
	Checks   []check        `json:",omitempty"`
	Proxy    map[string]any `json:",omitempty"`
	Connect  map[string]any `json:",omitempty"`
	Locality map[string]any `json:",omitempty"`

	token string
}

// check has the fields that the client's type lacks.
type check struct {
	consul.AgentServiceCheck
	DisableRedirects bool   `json:",omitempty"`
	OSService        string `json:",omitempty"`
	OutputMaxSize    int    `json:",omitempty"`
}

func (c *servicesRegister) fromFlags() (*registration, error) {
	tagged := make(map[string]consul.ServiceAddress, len(c.TaggedAddresses))
	for name, text := range c.TaggedAddresses {
		host, port, err := net.SplitHostPort(text)
		if err != nil {
			return nil, err
		}
		number, err := strconv.ParseUint(port, 10, 16)
		if err != nil {
			return nil, fmt.Errorf("port of %s: %w", text, err)
		}
		tagged[name] = consul.ServiceAddress{Address: host, Port: int(number)}
	}
	return &registration{AgentServiceRegistration: consul.AgentServiceRegistration{
		Kind: consul.ServiceKind(c.Kind), ID: c.ID, Name: c.Name, Tags: c.Tags, Port: c.Port, Address: c.Address,
		SocketPath: c.Socket, TaggedAddresses: tagged, Meta: c.Meta,
	}}, nil
}

// readServices reads the services in files and directories, which may also hold
// other settings of a node.
func readServices(paths []string) ([]config.ServiceDefinition, error) {
	// Settings of a development node are complete by themselves, so that a file
	// with nothing but services is no mistake.
	args := []string{"-dev"}
	for _, path := range paths {
		args = append(args, "-config-file", path)
	}
	flags, err := config.ParseFlags(args, io.Discard)
	if err != nil {
		return nil, err
	}
	result, err := config.Load(flags)
	if err != nil {
		return nil, err
	}
	return result.Settings.Services, nil
}

func fromDefinition(d *config.ServiceDefinition) *registration {
	tagged := make(map[string]consul.ServiceAddress, len(d.TaggedAddresses))
	for name, a := range d.TaggedAddresses {
		tagged[name] = consul.ServiceAddress{Address: a.Address, Port: a.Port}
	}
	r := &registration{
		AgentServiceRegistration: consul.AgentServiceRegistration{
			Kind: consul.ServiceKind(d.Kind), ID: d.ID, Name: d.Name, Tags: d.Tags, Port: d.Port, Address: d.Address,
			SocketPath: d.SocketPath, TaggedAddresses: tagged, EnableTagOverride: d.EnableTagOverride, Meta: d.Meta,
		},
		Proxy: d.Proxy, Connect: d.Connect, Locality: d.Locality,
		token: d.Token.Reveal(),
	}
	if d.Weights != (config.Weights{}) {
		r.Weights = &consul.AgentWeights{Passing: d.Weights.Passing, Warning: d.Weights.Warning}
	}
	for i := range d.Checks {
		r.Checks = append(r.Checks, fromCheck(&d.Checks[i]))
	}
	return r
}

func fromCheck(d *config.CheckDefinition) check {
	c := check{
		AgentServiceCheck: consul.AgentServiceCheck{
			CheckID: d.ID, Name: d.Name, Status: d.Status, Notes: d.Notes,
			Args: d.Args, DockerContainerID: d.DockerContainerID, Shell: d.Shell,
			Interval: duration(d.Interval), Timeout: duration(d.Timeout), TTL: duration(d.TTL),
			HTTP: d.HTTP, Header: d.Header, Method: d.Method, Body: d.Body,
			TCP: d.TCP, TCPUseTLS: d.TCPUseTLS, UDP: d.UDP, GRPC: d.GRPC, GRPCUseTLS: d.GRPCUseTLS, H2PING: d.H2Ping,
			H2PingUseTLS:  d.H2PingUseTLS != nil && *d.H2PingUseTLS,
			TLSServerName: d.TLSServerName, TLSSkipVerify: d.TLSSkipVerify,
			AliasNode: d.AliasNode, AliasService: d.AliasService,
			SuccessBeforePassing: d.SuccessBeforePassing, FailuresBeforeCritical: d.FailuresBeforeCritical,
			DeregisterCriticalServiceAfter: duration(d.DeregisterCriticalServiceAfter),
		},
		DisableRedirects: d.DisableRedirects, OSService: d.OSService, OutputMaxSize: d.OutputMaxSize,
	}
	if d.FailuresBeforeWarning != nil {
		c.FailuresBeforeWarning = *d.FailuresBeforeWarning
	}
	return c
}

func duration(d time.Duration) string {
	if d == 0 {
		return ""
	}
	return d.String()
}

type servicesDeregister struct {
	ID string `flag:"id" doc:"ID of the service."`

	Files []string `arg:"[FILE...]"`
}

func (*servicesDeregister) Help() string {
	return `Services are named by the files with settings that describe them, or one by its
ID. It has to be the node where they were registered that is asked.`
}

func (c *servicesDeregister) Run(ctx context.Context, e *Env) error {
	ids := []string{c.ID}
	switch {
	case len(c.Files) == 0 && c.ID == "":
		return failf("Service deregistration requires at least one argument or -id.")
	case len(c.Files) > 0 && c.ID != "":
		return failf("Service deregistration requires arguments or -id, not both.")
	case len(c.Files) > 0:
		services, err := readServices(c.Files)
		if err != nil {
			return failf("Error: %w", err)
		}
		ids = nil
		for _, s := range services {
			if s.ID == "" {
				s.ID = s.Name
			}
			ids = append(ids, s.ID)
		}
	}
	for _, id := range ids {
		if err := e.Client().Agent().ServiceDeregisterOpts(id, e.Query(ctx)); err != nil {
			return failf("Error deregistering service %q: %w", id, err)
		}
		if err := e.printf("Deregistered service: %s\n", id); err != nil {
			return err
		}
	}
	return nil
}
