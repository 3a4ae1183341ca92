// Package acl decides who may do what. Until policies and tokens exist there is
// one Authorizer, which allows everything; the settings that would restrict
// anybody are refused at start, so that nobody runs open by mistake.
package acl

// Resource is a kind of thing that access is given to.
type Resource string

// The resources that rules can name.
const (
	Agent    Resource = "agent"
	Key      Resource = "key"
	Node     Resource = "node"
	Operator Resource = "operator"
	Service  Resource = "service"
)

// Access is what may be done with a resource.
type Access string

// Kinds of access.
const (
	Read  Access = "read"
	List  Access = "list"
	Write Access = "write"
)

// Authorizer tells whether its token may do something. It returns nil, or an
// error with the code api.NotAllowed that names what is lacking.
type Authorizer interface {
	Allow(r Resource, name string, a Access) error
}

// AllowAll is the Authorizer of a system without ACLs.
type AllowAll struct{}

// Allow allows.
func (AllowAll) Allow(Resource, string, Access) error { return nil }
