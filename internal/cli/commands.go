package cli

import "slices"

// ignored is the name of an argument that a command takes and does nothing with,
// because Consul's command does the same.
const ignored = "ignored"

// commands is the table of all commands. It is a function because help and
// completion, which commands reach, read it.
func commands() []Command {
	return []Command{
		group("catalog", "Read the catalog of nodes and services."),
		command[catalogDatacenters]("catalog datacenters", "List the known datacenters, the own one first."),
		command[catalogNodes]("catalog nodes", "List the nodes of a datacenter."),
		command[catalogServices]("catalog services", "List the services of a datacenter."),
		command[debugBundle]("debug", "Capture for a while what a node tells of itself, into an archive."),
		group("federation", "Look at the federation of datacenters."),
		command[federationStatus]("federation status", "Tell whether the federation is whole, and what is wrong with it."),
		command[forceLeave]("force-leave", "Treat a member that failed as one that has left."),
		command[info]("info", "Print what a node knows of itself, for debugging."),
		command[join]("join", "Tell a node to join a cluster."),
		offline[keygen]("keygen", "Make a new key for gossip encryption."),
		group("kv", "Read and write the key-value store."),
		command[kvDelete]("kv delete", "Delete a key, or all keys with a prefix."),
		command[kvExport]("kv export", "Print all keys with a prefix as JSON."),
		command[kvGet]("kv get", "Read a key, or list the keys with a prefix."),
		command[kvImport]("kv import", "Write keys from the JSON that kv export makes."),
		command[kvPut]("kv put", "Write a key."),
		command[leave]("leave", "Tell a node to leave its cluster and to stop."),
		command[maint]("maint", "Take a node or a service out of use for maintenance."),
		command[members]("members", "List the members of a cluster."),
		command[monitor]("monitor", "Follow the log of a node."),
		command[reload]("reload", "Tell a node to read its settings again."),
		command[rtt]("rtt", "Estimate the round-trip time between two nodes."),
		group("services", "Register and deregister services with a node."),
		command[servicesDeregister]("services deregister", "Deregister services."),
		command[servicesRegister]("services register", "Register services."),
		group("tls", "Make a CA and certificates for the cluster."),
		group("tls ca", "Make a CA."),
		offline[tlsCACreate]("tls ca create", "Make a CA for the certificates of a cluster."),
		group("tls cert", "Make certificates."),
		offline[tlsCertCreate]("tls cert create", "Make a certificate signed by a CA."),
		offline[validate]("validate", "Check files with settings, without starting anything."),
		offline[version]("version", "Print the version."),
		command[watch]("watch", "Print what is in the catalog or the key-value store, or run a command on each change."),

		// Commands that run something of our own in this process.
		rawCommand("agent", "Run an agent: a server or a client.", runAgent),
		group("connect", "Run parts of the service mesh."),
		group("connect ca", "Look at the certificate authority of the service mesh."),
		command[connectCAGetConfig]("connect ca get-config", "Print how the certificate authority is set up."),
		command[connectEnvoy]("connect envoy", "Run Envoy as the mesh gateway, or print its bootstrap configuration."),
		command[connectGateway]("connect gateway", "Run the built-in mesh gateway."),
		offline[demo]("demo", "Show datacenters that are federated through mesh gateways, on this machine."),
	}
}

// notYet are the commands of Consul that are not built. One word stands for all
// commands below it.
var notYet = []string{
	"acl", "config", "connect ca set-config", "connect expose", "connect proxy", "connect redirect-traffic",
	"event", "exec", "intention", "keyring", "lock", "login", "logout", "operator", "peering",
	"services export", "snapshot", "troubleshoot",
}

func unbuilt(name string) bool { return slices.Contains(notYet, name) }
