package cli

import (
	"context"
	"fmt"
	"io"
	"net"
	"strconv"

	"isthmus/api"
	"isthmus/internal/config"
	"isthmus/internal/node"
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
	var list []*api.ServiceDefinition
	switch {
	case len(c.Files) > 0 && (c.Name != "" || c.ID != ""):
		return failf("Service registration requires arguments or -id, not both.")
	case len(c.Files) > 0:
		services, err := readServices(c.Files)
		if err != nil {
			return failf("Error: %w", err)
		}
		for i := range services {
			one, err := node.ServiceDefinition(&services[i])
			if err != nil {
				return failf("Error: %s: service %q: %w", services[i].Source, services[i].Name, err)
			}
			list = append(list, &one)
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
		opts.Token, one.Token = one.Token, "" // it says who asks; it is no part of the service
		if _, err := e.Client().Raw().Write("/v1/agent/service/register", one, nil, opts); err != nil {
			return failf("Error registering service %q: %w", one.Name, err)
		}
		if err := e.printf("Registered service: %s\n", one.Name); err != nil {
			return err
		}
	}
	return nil
}

func (c *servicesRegister) fromFlags() (*api.ServiceDefinition, error) {
	tagged := make(map[string]api.ServiceAddress, len(c.TaggedAddresses))
	for name, text := range c.TaggedAddresses {
		host, port, err := net.SplitHostPort(text)
		if err != nil {
			return nil, err
		}
		number, err := strconv.ParseUint(port, 10, 16)
		if err != nil {
			return nil, fmt.Errorf("port of %s: %w", text, err)
		}
		tagged[name] = api.ServiceAddress{Address: host, Port: int(number)}
	}
	return &api.ServiceDefinition{
		Kind: c.Kind, ID: c.ID, Name: c.Name, Tags: c.Tags, Port: c.Port, Address: c.Address,
		SocketPath: c.Socket, TaggedAddresses: tagged, Meta: c.Meta,
	}, nil
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
