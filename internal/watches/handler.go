package watches

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"os"
	"os/exec"
	"slices"
	"strconv"
	"strings"

	"github.com/hashicorp/consul/api/watch"
)

// maxOutput is how much of what a handler says goes to the log.
const maxOutput = 4096

// handler is what an agent calls with each view.
type handler interface {
	call(ctx context.Context, log *slog.Logger, u Update, view []byte) error
}

// handlerOf is the handler that a plan names, or nil.
func handlerOf(plan *watch.Plan) (handler, error) {
	line, isLine := plan.Exempt["handler"]
	list, isList := plan.Exempt["args"]
	config, isRequest := plan.Exempt["http_handler_config"].(*watch.HttpHandlerConfig)
	if kind := plan.HandlerType; !slices.Contains([]string{"", "script", "http"}, kind) {
		return nil, fmt.Errorf("handler_type %q is neither script nor http", kind)
	}
	switch {
	case isLine && isList:
		return nil, errors.New("has both args and handler: use args")
	case isRequest && (isLine || isList):
		return nil, errors.New("has http_handler_config and a command")
	case plan.HandlerType == "script" && !isLine && !isList:
		return nil, errors.New("handler_type script requires args")
	case isRequest:
		return newRequest(config), nil
	case isLine || isList:
		return newCommand(line, list)
	default:
		return nil, nil //nolint:nilnil // the caller has one of its own
	}
}

// newCommand makes a handler of a line for the shell, or of a list of words.
func newCommand(line, list any) (handler, error) {
	if line == nil {
		args, err := words(list)
		return command{args}, err
	}
	text, ok := line.(string)
	if !ok || text == "" {
		return nil, errors.New("handler must be a text")
	}
	return command{ShellCommand([]string{text})}, nil
}

// words reads the words of a command.
func words(v any) ([]string, error) {
	var args []string
	switch v := v.(type) {
	case []string:
		args = v
	case []any:
		for _, item := range v {
			word, ok := item.(string)
			if !ok {
				return nil, errors.New("args must be a list of texts")
			}
			args = append(args, word)
		}
	}
	if len(args) == 0 || args[0] == "" {
		return nil, errors.New("args must be a list of texts that begins with a command")
	}
	return args, nil
}

// ShellCommand is the command that lets the user's shell run words as one line.
func ShellCommand(words []string) []string {
	shell := os.Getenv("SHELL")
	if shell == "" {
		shell = "/bin/sh"
	}
	return []string{shell, "-c", strings.Join(words, " ")}
}

// command is a handler that is run with the view on its standard input.
type command struct{ args []string }

func (c command) call(ctx context.Context, log *slog.Logger, u Update, view []byte) error {
	out := &tail{}
	cmd := exec.CommandContext(ctx, c.args[0], c.args[1:]...) //nolint:gosec // the operator's own command
	inGroup(cmd)
	cmd.Env = append(os.Environ(), u.Environment())
	cmd.Stdin, cmd.Stdout, cmd.Stderr = bytes.NewReader(view), out, out
	cmd.WaitDelay = leftBehind
	err := cmd.Run()
	if out.total > 0 {
		log.Debug("output of a watch's handler", "handler", c.args, "bytes", out.total, "output", string(out.last))
	}
	if err != nil {
		return fmt.Errorf("run %q: %w", c.args, err)
	}
	return nil
}

// tail keeps the end of what is written.
type tail struct {
	last  []byte
	total int
}

// Write implements io.Writer.
func (t *tail) Write(b []byte) (int, error) {
	t.total += len(b)
	t.last = append(t.last, b[max(0, len(b)-maxOutput):]...)
	if over := len(t.last) - maxOutput; over > 0 {
		t.last = append(t.last[:0], t.last[over:]...)
	}
	return len(b), nil
}

// request is a handler that is sent the view over HTTP.
type request struct {
	*watch.HttpHandlerConfig

	client *http.Client
}

func newRequest(config *watch.HttpHandlerConfig) request {
	transport := &http.Transport{
		Proxy:             http.ProxyFromEnvironment,
		TLSClientConfig:   &tls.Config{InsecureSkipVerify: config.TLSSkipVerify}, //nolint:gosec // what the operator asked for
		DisableKeepAlives: true,                                                  // changes are rare
	}
	return request{config, &http.Client{Transport: transport, Timeout: config.Timeout}}
}

func (q request) call(ctx context.Context, log *slog.Logger, u Update, view []byte) error {
	r, err := http.NewRequestWithContext(ctx, q.Method, q.Path, bytes.NewReader(view))
	if err != nil {
		return fmt.Errorf("call %s: %w", q.Path, err)
	}
	r.Header.Set("Content-Type", "application/json")
	if u.Hash != "" {
		r.Header.Set("X-Consul-Hash", u.Hash)
	} else {
		r.Header.Set("X-Consul-Index", strconv.FormatUint(u.Index, 10))
	}
	for name, values := range q.Header {
		for _, value := range values {
			r.Header.Add(name, value)
		}
	}
	resp, err := q.client.Do(r)
	if err != nil {
		return fmt.Errorf("call %s: %w", q.Path, err)
	}
	defer func() { _ = resp.Body.Close() }()
	out, err := io.ReadAll(io.LimitReader(resp.Body, maxOutput))
	switch {
	case err != nil:
		return fmt.Errorf("read the answer of %s: %w", q.Path, err)
	case resp.StatusCode < 200 || resp.StatusCode > 299:
		return fmt.Errorf("call %s: answered %s: %q", q.Path, resp.Status, out)
	}
	log.Debug("answer to a watch", "handler", q.Path, "status", resp.StatusCode, "output", string(out))
	return nil
}
