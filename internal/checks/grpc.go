package checks

import (
	"context"
	"fmt"
	"strings"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/health/grpc_health_v1"
	grpcstatus "google.golang.org/grpc/status"

	"isthmus/api"
)

// newGRPC returns a check that asks for the health of host:port/service in the
// protocol that gRPC has for it. Without a service it asks for that of the server
// as a whole. Every probe opens a connection of its own.
func newGRPC(def *api.CheckType, report Report, env *Env) (Runner, error) {
	address, service, _ := strings.Cut(def.GRPC, "/")
	return newPoll(def, func(ctx context.Context) (status, output string) {
		creds := insecure.NewCredentials()
		if def.GRPCUseTLS {
			creds = credentials.NewTLS(tlsFor(env.base(), def))
		}
		answer, err := askGRPC(ctx, address, service, creds)
		switch {
		case ctx.Err() != nil: // what the library waited for then is of no use
			return api.Critical, grpcstatus.FromContextError(ctx.Err()).String()
		case err != nil:
			return api.Critical, err.Error()
		case answer != grpc_health_v1.HealthCheckResponse_SERVING:
			return api.Critical, fmt.Sprintf("gRPC %s serving status: %s", def.GRPC, answer)
		}
		return api.Passing, "gRPC check " + def.GRPC + ": success"
	}, report, env), nil
}

func askGRPC(
	ctx context.Context, address, service string, creds credentials.TransportCredentials,
) (grpc_health_v1.HealthCheckResponse_ServingStatus, error) {
	const unknown = grpc_health_v1.HealthCheckResponse_UNKNOWN
	// passthrough: the address is one to dial, not a name to resolve and balance.
	conn, err := grpc.NewClient("passthrough:///"+address, grpc.WithTransportCredentials(creds),
		grpc.WithUserAgent(agentName), grpc.WithDisableServiceConfig())
	if err != nil {
		return unknown, err //nolint:wrapcheck // shown to the user
	}
	defer func() { _ = conn.Close() }()
	resp, err := grpc_health_v1.NewHealthClient(conn).Check(ctx, &grpc_health_v1.HealthCheckRequest{Service: service})
	if err != nil {
		return unknown, err //nolint:wrapcheck // shown to the user
	}
	return resp.GetStatus(), nil
}
