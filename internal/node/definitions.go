package node

import (
	"encoding/json"
	"fmt"

	"isthmus/api"
	"isthmus/internal/config"
)

// definitions are the services and checks that the configuration files declare.
func definitions(cfg *config.Settings) ([]api.ServiceDefinition, []local.ConfiguredCheck, error) {
	return nil, nil, nil
}
