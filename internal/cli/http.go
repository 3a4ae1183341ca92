package cli

import (
	"context"
	"os"
	"strconv"
	"strings"

	consul "github.com/hashicorp/consul/api"
)

// httpFlags are the flags of every command that talks to a node.
type httpFlags struct {
	Addr       string `flag:"http-addr"       doc:"HTTP address of the node, as HOST:PORT, a URL or unix:// and a path. Also CONSUL_HTTP_ADDR; 127.0.0.1:8500 when neither is given."`
	Token      string `flag:"token"           doc:"ACL token to ask with. Also CONSUL_HTTP_TOKEN; the node's own token when neither is given."`
	TokenFile  string `flag:"token-file"      doc:"File that holds the ACL token. Also CONSUL_HTTP_TOKEN_FILE."`
	CAFile     string `flag:"ca-file"         doc:"File with the CA certificates that the node's certificate is checked against. Also CONSUL_CACERT."`
	CAPath     string `flag:"ca-path"         doc:"Directory with such CA certificates. Also CONSUL_CAPATH."`
	ClientCert string `flag:"client-cert"     doc:"File with the certificate to show to the node. Also CONSUL_CLIENT_CERT."`
	ClientKey  string `flag:"client-key"      doc:"File with the key of that certificate. Also CONSUL_CLIENT_KEY."`
	ServerName string `flag:"tls-server-name" doc:"Name that the node's certificate must be for. Also CONSUL_TLS_SERVER_NAME."`
	Datacenter string `flag:"datacenter"      doc:"Datacenter to ask; the node's own when not given."`
	Namespace  string `flag:"namespace"       doc:"Namespace to ask. Nodes without namespaces refuse it. Also CONSUL_NAMESPACE."`
	Partition  string `flag:"partition"       doc:"Admin partition to ask. Nodes without partitions refuse it. Also CONSUL_PARTITION."`
	Stale      bool   `flag:"stale"           doc:"Let any server answer a read, not only the leader: faster, but what it says may be old."`
}

const (
	envPrefix   = "CONSUL_"
	aliasPrefix = "ISTHMUS_"
)

// alias is a setting of the client that has an environment variable.
type alias struct {
	name string // without its prefix
	set  func(cfg *consul.Config, text string)
}

// aliases are the variables that may also be written with our own prefix. The
// client reads those with the usual prefix itself.
var aliases = []alias{
	{"HTTP_ADDR", func(cfg *consul.Config, text string) { cfg.Address = text }},
	{"HTTP_TOKEN", func(cfg *consul.Config, text string) { cfg.Token = text }},
	{"HTTP_TOKEN_FILE", func(cfg *consul.Config, text string) { cfg.TokenFile = text }},
	{"HTTP_AUTH", func(cfg *consul.Config, text string) {
		user, password, _ := strings.Cut(text, ":")
		cfg.HttpAuth = &consul.HttpBasicAuth{Username: user, Password: password}
	}},
	{"HTTP_SSL", func(cfg *consul.Config, text string) {
		if on, err := strconv.ParseBool(text); err == nil && on {
			cfg.Scheme = "https"
		}
	}},
	{"HTTP_SSL_VERIFY", func(cfg *consul.Config, text string) {
		if on, err := strconv.ParseBool(text); err == nil && !on {
			cfg.TLSConfig.InsecureSkipVerify = true
		}
	}},
	{"CACERT", func(cfg *consul.Config, text string) { cfg.TLSConfig.CAFile = text }},
	{"CAPATH", func(cfg *consul.Config, text string) { cfg.TLSConfig.CAPath = text }},
	{"CLIENT_CERT", func(cfg *consul.Config, text string) { cfg.TLSConfig.CertFile = text }},
	{"CLIENT_KEY", func(cfg *consul.Config, text string) { cfg.TLSConfig.KeyFile = text }},
	{"TLS_SERVER_NAME", func(cfg *consul.Config, text string) { cfg.TLSConfig.Address = text }},
	{"NAMESPACE", func(cfg *consul.Config, text string) { cfg.Namespace = text }},
	{"PARTITION", func(cfg *consul.Config, text string) { cfg.Partition = text }},
}

// config unites what the flags and the environment say; flags win.
func (f *httpFlags) config() *consul.Config {
	cfg := consul.DefaultConfig()
	for _, a := range aliases {
		if os.Getenv(envPrefix+a.name) != "" {
			continue
		}
		if text := os.Getenv(aliasPrefix + a.name); text != "" {
			a.set(cfg, text)
		}
	}
	for _, one := range []struct {
		flag string
		to   *string
	}{
		{f.Addr, &cfg.Address},
		{f.Token, &cfg.Token},
		{f.TokenFile, &cfg.TokenFile},
		{f.CAFile, &cfg.TLSConfig.CAFile},
		{f.CAPath, &cfg.TLSConfig.CAPath},
		{f.ClientCert, &cfg.TLSConfig.CertFile},
		{f.ClientKey, &cfg.TLSConfig.KeyFile},
		{f.ServerName, &cfg.TLSConfig.Address},
		{f.Datacenter, &cfg.Datacenter},
		{f.Namespace, &cfg.Namespace},
		{f.Partition, &cfg.Partition},
	} {
		if one.flag != "" {
			*one.to = one.flag
		}
	}
	if f.Token != "" && f.TokenFile == "" {
		cfg.TokenFile = "" // Otherwise a file from the environment would win over the flag.
	}
	return cfg
}

// connect makes the client. It dials nothing yet.
func (e *Env) connect(f *httpFlags) error {
	cfg := f.config()
	client, err := consul.NewClient(cfg)
	if err != nil {
		return failf("Error connecting to Consul agent: %w", err)
	}
	e.client, e.config, e.stale = client, cfg, f.Stale
	return nil
}

// Client is the client of the node that the flags and the environment name.
func (e *Env) Client() *consul.Client { return e.client }

// Query are the options of a read.
func (e *Env) Query(ctx context.Context) *consul.QueryOptions {
	q := &consul.QueryOptions{AllowStale: e.stale}
	return q.WithContext(ctx)
}

// Write are the options of a write.
func (*Env) Write(ctx context.Context) *consul.WriteOptions {
	return new(consul.WriteOptions).WithContext(ctx)
}
