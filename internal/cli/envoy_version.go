package cli

import (
	"context"
	"errors"
	"os/exec"
	"regexp"
	"strconv"
	"strings"
	"time"
)

// The minor versions of Envoy 1 between which all work.
const (
	oldestEnvoy = 36
	newestEnvoy = 40
)

// envoyVersion is the version in what Envoy prints about itself: a commit, the
// version and how it was built, between slashes.
var envoyVersion = regexp.MustCompile(`/(\d+)\.(\d+)\.(\d+)(?:-[^/]*)?/`)

// findEnvoy is the path of an Envoy that is of a version that works.
func (c *connectEnvoy) findEnvoy(ctx context.Context) (string, error) {
	name := c.EnvoyBinary
	if name == "" {
		name = "envoy"
	}
	path, err := exec.LookPath(name)
	switch {
	case err != nil && c.EnvoyBinary == "":
		return "", failf("Couldn't find envoy binary: there is none in $PATH. Install Envoy 1.%d to 1.%d, or name its binary with -envoy-binary",
			oldestEnvoy, newestEnvoy)
	case err != nil:
		return "", failf("Couldn't find envoy binary: -envoy-binary %w", err)
	case c.IgnoreCompatibility:
		return path, nil
	}
	ctx, cancel := context.WithTimeout(ctx, 30*time.Second)
	defer cancel()
	out, err := exec.CommandContext(ctx, path, "--version").Output() //nolint:gosec // the user names the binary
	if err != nil {
		return "", failf("Couldn't get envoy version for compatibility check: %s --version: %w", path, err)
	}
	found := envoyVersion.FindSubmatch(out)
	if found == nil {
		return "", failf("Couldn't get envoy version for compatibility check: %s --version prints %q. "+
			"-ignore-envoy-compatibility starts it all the same", path, strings.TrimSpace(string(out)))
	}
	major, errMajor := strconv.Atoi(string(found[1]))
	minor, errMinor := strconv.Atoi(string(found[2]))
	if errors.Join(errMajor, errMinor) != nil || major != 1 || minor < oldestEnvoy || minor > newestEnvoy {
		return "", failf("Envoy version %s.%s.%s (%s) is not supported: versions 1.%d to 1.%d are. "+
			"Install one of those, or try this one with -ignore-envoy-compatibility",
			found[1], found[2], found[3], path, oldestEnvoy, newestEnvoy)
	}
	return path, nil
}
