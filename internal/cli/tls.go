package cli

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"

	"isthmus/internal/transport"
)

const (
	certMode = 0o644
	keyMode  = 0o600
)

type tlsCACreate struct {
	NameConstraint bool     `flag:"name-constraint"            doc:"Let the CA sign for -domain, localhost and the additional names only."`
	Additional     []string `flag:"additional-name-constraint" doc:"Domain that the CA may sign for beside -domain, with -name-constraint. May be given again."`
	ClusterID      string   `flag:"cluster-id"                 doc:"ID of the cluster, which is put into the CA as its SPIFFE trust domain."`
	CommonName     string   `flag:"common-name"                doc:"Common name of the CA; one with its serial number when not given."`

	Days   int    `flag:"days"   default:"1825"   doc:"Days that the CA is valid for."`
	Domain string `flag:"domain" default:"consul" doc:"DNS domain of the cluster."`

	Ignored []string `arg:"[ignored...]"`
}

func (*tlsCACreate) Help() string {
	return `The CA is written to DOMAIN-agent-ca.pem and DOMAIN-agent-ca-key.pem in the current
directory. Files that exist are left as they are.`
}

func (c *tlsCACreate) Run(_ context.Context, e *Env) error {
	certFile, keyFile := caFiles(c.Domain)
	if err := absent(certFile, keyFile); err != nil {
		return err
	}
	cert, key, err := transport.NewCA(transport.CAOptions{
		CommonName: c.CommonName, Domain: c.Domain, Days: c.Days,
		NameConstraint: c.NameConstraint, AdditionalNameConstraints: c.Additional, ClusterID: c.ClusterID,
	})
	if err != nil {
		return err
	}
	return e.save(file{certFile, cert, certMode}, file{keyFile, key, keyMode})
}

type tlsCertCreate struct {
	Server bool     `flag:"server"               doc:"Make a certificate for a server."`
	Client bool     `flag:"client"               doc:"Make a certificate for a client node."`
	CLI    bool     `flag:"cli"                  doc:"Make a certificate for the command line."`
	CA     string   `flag:"ca"                   doc:"File with the CA; DOMAIN-agent-ca.pem when not given."`
	Key    string   `flag:"key"                  doc:"File with the key of the CA; DOMAIN-agent-ca-key.pem when not given."`
	Node   string   `flag:"node"                 doc:"Name of the server, which mesh gateways route to it by; * is good for every server of the datacenter."`
	DNS    []string `flag:"additional-dnsname"   doc:"DNS name the certificate is valid for too. May be given again."`
	IPs    []string `flag:"additional-ipaddress" doc:"IP address the certificate is valid for too. May be given again."`

	Days   int    `flag:"days"   default:"365"    doc:"Days that the certificate is valid for."`
	DC     string `flag:"dc"     default:"dc1"    doc:"Datacenter of the node."`
	Domain string `flag:"domain" default:"consul" doc:"DNS domain of the cluster."`

	Ignored []string `arg:"[ignored...]"`
}

func (*tlsCertCreate) Help() string {
	return `The certificate is written to DC-ROLE-DOMAIN-N.pem and DC-ROLE-DOMAIN-N-key.pem in
the current directory, N being the first number that is free.

Servers that are federated through mesh gateways need certificates made with -node.`
}

func (c *tlsCertCreate) Run(_ context.Context, e *Env) error {
	role, err := c.role()
	if err != nil {
		return err
	}
	opts := transport.CertOptions{
		Role: role, Datacenter: c.DC, Domain: c.Domain, Node: c.Node, Days: c.Days, AdditionalDNS: c.DNS,
	}
	for _, text := range c.IPs {
		ip := net.ParseIP(text)
		if ip == nil {
			return failf("-additional-ipaddress: %q is not an IP address", text)
		}
		opts.AdditionalIPs = append(opts.AdditionalIPs, ip)
	}
	caFile, caKeyFile := caFiles(c.Domain)
	caFile, caKeyFile = cmp.Or(c.CA, caFile), cmp.Or(c.Key, caKeyFile)
	ca, err := os.ReadFile(caFile)
	if err != nil {
		return failf("Error reading CA: %w", err)
	}
	caKey, err := os.ReadFile(caKeyFile)
	if err != nil {
		return failf("Error reading CA key: %w", err)
	}
	cert, key, err := transport.NewCert(ca, caKey, opts)
	if err != nil {
		return err
	}
	certFile, keyFile, err := c.files(role)
	if err != nil {
		return err
	}
	if role == transport.ServerCert {
		if err := e.printf("%s", serverWarning); err != nil {
			return err
		}
	}
	if err := e.printf("==> Using %s and %s\n", caFile, caKeyFile); err != nil {
		return err
	}
	return e.save(file{certFile, cert, certMode}, file{keyFile, key, keyMode})
}

// serverWarning has the first words of Consul's, and the same number of lines.
const serverWarning = `==> WARNING: Server Certificates let their owner join as a server and
    read everything the cluster keeps, root keys and all ACL tokens
    included. Keep them on server nodes only, and guard them as you
    guard the key of the CA.
`

func (c *tlsCertCreate) role() (transport.CertRole, error) {
	var roles []transport.CertRole
	for _, one := range []struct {
		on   bool
		role transport.CertRole
	}{{c.Server, transport.ServerCert}, {c.Client, transport.ClientCert}, {c.CLI, transport.CLICert}} {
		if one.on {
			roles = append(roles, one.role)
		}
	}
	switch {
	case len(roles) != 1:
		return 0, failf("Please provide either -server, -client, or -cli")
	case c.Node != "" && !c.Server:
		return 0, failf("-node requires -server")
	default:
		return roles[0], nil
	}
}

// files are the first names that are free.
func (c *tlsCertCreate) files(role transport.CertRole) (certFile, keyFile string, err error) {
	const most = 10_000
	for n := range most {
		stem := fmt.Sprintf("%s-%s-%s-%d", c.DC, role, c.Domain, n)
		certFile, keyFile = stem+".pem", stem+"-key.pem"
		if absent(certFile, keyFile) == nil {
			return certFile, keyFile, nil
		}
	}
	return "", "", failf("there are %d certificates here already", most)
}

func caFiles(domain string) (certFile, keyFile string) {
	return domain + "-agent-ca.pem", domain + "-agent-ca-key.pem"
}

// absent is an error when one of the files exists.
func absent(names ...string) error {
	for _, name := range names {
		if _, err := os.Lstat(name); !errors.Is(err, fs.ErrNotExist) {
			return failf("%s already exists.", name)
		}
	}
	return nil
}

// file is a file to be written.
type file struct {
	name string
	data []byte
	mode fs.FileMode
}

// save writes files that must not exist: what was signed with a key that is
// overwritten is lost.
func (e *Env) save(files ...file) error {
	for _, f := range files {
		if err := create(f); err != nil {
			return err
		}
		if err := e.printf("==> Saved %s\n", f.name); err != nil {
			return err
		}
	}
	return nil
}

func create(f file) error {
	out, err := os.OpenFile(f.name, os.O_WRONLY|os.O_CREATE|os.O_EXCL, f.mode)
	if err != nil {
		return err
	}
	_, err = out.Write(f.data)
	return errors.Join(err, out.Close())
}
