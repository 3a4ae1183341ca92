datacenter = "dc1"
node_name  = "web-1"
data_dir   = "/var/lib/isthmus"
bind_addr  = "127.0.0.1"
retry_join = ["10.0.0.1"]
log_level  = "DEBUG"

# Older TLS keys, as many installations still have them.
ca_file         = "/etc/isthmus/ca.pem"
verify_outgoing = true

acl {
  tokens {
    agent = "not-used-without-acls"
  }
}

ui_config {
  enabled = false
}
