services = [
  {
    name  = "db"
    port  = 5432
    token = "secret-token"
    checks = [
      { tcp = "127.0.0.1:5432", interval = "5s" },
      { name = "lag", ttl = "30s" },
    ]
  },
  {
    name = "cache"
    port = 6379
  },
]

check {
  id       = "disk"
  name     = "disk is writable"
  ttl      = "1m"
}
