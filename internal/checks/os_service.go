package checks

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"runtime"
	"strings"

	"isthmus/api"
)

// serviceManager is the part of the operating system that knows its services.
type serviceManager interface {
	// State returns the state of a service in the words of systemd.
	State(ctx context.Context, name string) (string, error)
}

// newOSService returns a check that asks the operating system for the state of
// one of its services.
func newOSService(def *api.CheckType, report Report, env *Env) (Runner, error) {
	if runtime.GOOS != "linux" {
		return nil, api.Errorf(api.NotBuilt, "check %q: os_service checks need systemd, which %s does not have", def.CheckID, runtime.GOOS)
	}
	if strings.HasPrefix(def.OSService, "-") {
		return nil, invalid("OSService %q is not the name of a service", def.OSService)
	}
	return newPoll(def, osServiceProbe(systemd{}, def.OSService), report, env), nil
}

// osServiceProbe passes for a service that runs, warns for one on its way up or
// down, and is critical otherwise.
func osServiceProbe(manager serviceManager, name string) func(ctx context.Context) (status, output string) {
	return func(ctx context.Context) (status, output string) {
		state, err := manager.State(ctx, name)
		switch {
		case errors.Is(err, context.DeadlineExceeded):
			return api.Critical, fmt.Sprintf("OS service %q: no answer in time", name)
		case err != nil:
			return api.Critical, fmt.Sprintf("OS service %q: %v", name, err)
		}
		output = fmt.Sprintf("OS service %q is %s", name, state)
		switch state {
		case "active":
			return api.Passing, output
		case "activating", "deactivating", "reloading", "refreshing":
			return api.Warning, output
		default:
			return api.Critical, output
		}
	}
}

// systemd asks systemctl.
type systemd struct{}

// State implements serviceManager.
func (systemd) State(ctx context.Context, name string) (string, error) {
	out := &tail{max: maxOutput}
	code, err := runCommand(ctx, []string{"systemctl", "show", "--property=LoadState,ActiveState", "--", name}, out)
	switch {
	case err != nil:
		return "", err
	case code != 0:
		return "", fmt.Errorf("systemctl: %s", bytes.TrimSpace(out.kept))
	}
	return stateOf(out.String())
}

// stateOf reads what systemctl prints of a service. It knows one of any name: one
// without a file is inactive, and not loaded.
func stateOf(shown string) (string, error) {
	values := map[string]string{}
	for line := range strings.Lines(shown) {
		key, value, _ := strings.Cut(strings.TrimSpace(line), "=")
		values[key] = value
	}
	switch state, load := values["ActiveState"], values["LoadState"]; {
	case state == "":
		return "", fmt.Errorf("systemctl gives no state: %q", shown)
	case load == "not-found":
		return "", errors.New("there is no service of that name")
	default:
		return state, nil
	}
}
