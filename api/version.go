package api

// Version is the version of Isthmus itself, and Compat the version of Consul
// whose protocols and APIs it keeps to: what members tell each other as their
// build, and what clients take decisions on.
const (
	Version = "0.1.0"
	Compat  = "1.16.4"
)
