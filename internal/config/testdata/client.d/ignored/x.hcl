datacenter = "not read either"
