# A server of a secondary datacenter, federated through mesh gateways.
datacenter         = "Eu-West"
primary_datacenter = "us-east"
node_name          = "eu-1"
data_dir           = "/var/lib/isthmus"
server             = true
bootstrap_expect   = 3
bind_addr          = "10.1.0.11"
client_addr        = "127.0.0.1 10.1.0.11"
log_level          = "WARN"
log_json           = true
encrypt            = "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8="
retry_join         = ["10.1.0.12", "provider=os region=eu tag_key=role tag_value=server"]

primary_gateways          = ["198.51.100.7:8443", "gw.us-east.example.com:8443"]
primary_gateways_interval = "15s"
translate_wan_addrs       = true
server_rejoin_age_max     = "72h"

connect {
  enabled                            = true
  enable_mesh_gateway_wan_federation = true
}

ports {
  https    = 8501
  grpc_tls = -1
}

tls {
  defaults {
    ca_file         = "/etc/isthmus/ca.pem"
    cert_file       = "/etc/isthmus/server.pem"
    key_file        = "/etc/isthmus/server-key.pem"
    verify_incoming = true
    verify_outgoing = true
    tls_min_version = "TLSv1_3"
  }
  internal_rpc {
    verify_server_hostname = true
  }
  https {
    verify_incoming = false
    tls_min_version = "TLSv1_2"
  }
}

limits {
  rpc_max_conns_per_client  = 500
  http_max_conns_per_client = 1000
  rpc_handshake_timeout     = "3s"
  kv_max_value_size         = 1048576
}

performance {
  raft_multiplier = 1
}

gossip_lan {
  probe_interval = "2s"
}

http_config {
  response_headers {
    "X-Served-By" = "eu-1"
  }
}

telemetry {
  prometheus_retention_time = "60s"
}

node_meta {
  rack = "r7"
}
