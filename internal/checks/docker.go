package checks

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"strings"

	"isthmus/api"
)

// dockerSocket is where Docker listens unless the environment says otherwise.
const dockerSocket = "/var/run/docker.sock"

// maxDockerAnswer is how many bytes of an answer, other than a command's output,
// are read.
const maxDockerAnswer = 64 << 10

// docker speaks the part of Docker's API that runs a command in a container.
type docker struct {
	base   string
	client *http.Client
}

// newDocker returns a check that runs a command in a container and goes by its
// exit code.
func newDocker(def *api.CheckType, report Report, env *Env) (Runner, error) {
	d, err := dialDocker(os.Getenv("DOCKER_HOST"))
	if err != nil {
		return nil, err
	}
	limit := timeout(def, commandTimeout)
	return newCommandPoll(def, func(ctx context.Context) (status, output string) {
		out := &tail{max: env.MaxOutput}
		code, err := d.run(ctx, def.DockerContainerID, def.ScriptArgs, out)
		switch {
		case ctx.Err() != nil:
			return api.Critical, timedOut(limit, out)
		case err != nil:
			return api.Critical, err.Error()
		}
		return statusOfExit(code), out.String()
	}, report, env), nil
}

// dialDocker returns a client of the Docker that a host in the form of
// DOCKER_HOST names.
func dialDocker(host string) (*docker, error) {
	scheme, rest, ok := strings.Cut(host, "://")
	network, address, base := "unix", dockerSocket, "http://docker"
	switch {
	case host == "":
	case ok && scheme == "unix" && rest != "":
		address = rest
	case ok && (scheme == "tcp" || scheme == "http") && rest != "":
		network, address, base = "tcp", rest, "http://"+rest
	default:
		return nil, api.Errorf(api.Invalid, "DOCKER_HOST %q: want unix://PATH or tcp://HOST:PORT", host)
	}
	dial := func(ctx context.Context, _, _ string) (net.Conn, error) {
		var d net.Dialer
		return d.DialContext(ctx, network, address)
	}
	return &docker{base, &http.Client{Transport: &http.Transport{DialContext: dial, DisableKeepAlives: true}}}, nil
}

// run runs a command to its end.
func (d *docker) run(ctx context.Context, container string, args []string, out io.Writer) (code int, err error) {
	id, err := d.create(ctx, container, args)
	if err != nil {
		return 0, err
	}
	// Asked for as a terminal, the output comes as it is; else in frames.
	resp, err := d.ask(ctx, http.MethodPost, "/exec/"+url.PathEscape(id)+"/start", map[string]any{"Detach": false, "Tty": true})
	if err != nil {
		return 0, fmt.Errorf("start exec for container %s: %w", container, err)
	}
	defer func() { _ = resp.Body.Close() }()
	if resp.StatusCode != http.StatusOK {
		return 0, refusal("start exec", container, resp)
	}
	if _, err := io.CopyBuffer(struct{ io.Writer }{out}, resp.Body, make([]byte, readChunk)); err != nil {
		return 0, fmt.Errorf("read output of container %s: %w", container, err)
	}
	return d.exitCode(ctx, container, id)
}

// create prepares a command and returns its id.
func (d *docker) create(ctx context.Context, container string, args []string) (string, error) {
	resp, err := d.ask(ctx, http.MethodPost, "/containers/"+url.PathEscape(container)+"/exec", map[string]any{
		"AttachStdin": false, "AttachStdout": true, "AttachStderr": true, "Tty": false, "Cmd": args,
	})
	if err != nil {
		return "", fmt.Errorf("create exec for container %s: %w", container, err)
	}
	defer func() { _ = resp.Body.Close() }()
	switch resp.StatusCode {
	case http.StatusCreated:
	case http.StatusNotFound:
		return "", fmt.Errorf("create exec failed for unknown container %s", container)
	default:
		return "", refusal("create exec", container, resp)
	}
	var made struct{ ID string }
	if err := read(resp, &made); err != nil {
		return "", fmt.Errorf("create exec for container %s: %w", container, err)
	}
	return made.ID, nil
}

// exitCode tells how a command ended.
func (d *docker) exitCode(ctx context.Context, container, id string) (int, error) {
	resp, err := d.ask(ctx, http.MethodGet, "/exec/"+url.PathEscape(id)+"/json", nil)
	if err != nil {
		return 0, fmt.Errorf("inspect exec for container %s: %w", container, err)
	}
	defer func() { _ = resp.Body.Close() }()
	if resp.StatusCode != http.StatusOK {
		return 0, refusal("inspect exec", container, resp)
	}
	var ended struct{ ExitCode int }
	if err := read(resp, &ended); err != nil {
		return 0, fmt.Errorf("inspect exec for container %s: %w", container, err)
	}
	return ended.ExitCode, nil
}

func (d *docker) ask(ctx context.Context, method, path string, in any) (*http.Response, error) {
	var body io.Reader
	if in != nil {
		b, err := json.Marshal(in)
		if err != nil {
			return nil, fmt.Errorf("encode: %w", err)
		}
		body = bytes.NewReader(b)
	}
	req, err := http.NewRequestWithContext(ctx, method, d.base+path, body) //nolint:gosec // the operator names Docker's host
	if err != nil {
		return nil, fmt.Errorf("make request: %w", err)
	}
	if in != nil {
		req.Header.Set("Content-Type", "application/json")
	}
	return d.client.Do(req) //nolint:gosec // as above
}

func read(resp *http.Response, out any) error {
	if err := json.NewDecoder(io.LimitReader(resp.Body, maxDockerAnswer)).Decode(out); err != nil {
		return fmt.Errorf("decode answer: %w", err)
	}
	return nil
}

// refusal is the error of an answer with a status that was not hoped for.
func refusal(what, container string, resp *http.Response) error {
	body, err := io.ReadAll(io.LimitReader(resp.Body, maxOutput))
	if err != nil {
		body = []byte(err.Error())
	}
	return fmt.Errorf("%s failed for container %s with status %d: %s", what, container, resp.StatusCode, body)
}
