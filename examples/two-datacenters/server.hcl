# A server of a federation. run.sh fills in the words in capitals.
datacenter         = "DATACENTER"
primary_datacenter = "dc1"
node_name          = "NODE"
data_dir           = "DIR/DATACENTER"
server             = true
bootstrap_expect   = 1

bind_addr   = "ADDRESS"
client_addr = "ADDRESS"
ports {
  dns      = -1
  grpc     = 8502 # tells Envoys where everything is
  grpc_tls = -1
}

# Datacenters are joined through mesh gateways, and in no other way.
connect {
  enabled                            = true
  enable_mesh_gateway_wan_federation = true
}

# The certificate names the node: gateways route by it.
encrypt = "KEY"
tls {
  defaults {
    ca_file         = "DIR/consul-agent-ca.pem"
    cert_file       = "DIR/DATACENTER-server-consul-0.pem"
    key_file        = "DIR/DATACENTER-server-consul-0-key.pem"
    verify_incoming = true
    verify_outgoing = true
  }
  internal_rpc {
    verify_server_hostname = true
  }
}
