package checks

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"time"

	"isthmus/api"
)

// readChunk is how much of a command's output is read at a time.
const readChunk = 4096

// newScript returns a check that runs a command and goes by its exit code. There
// is no shell, unless the command is one.
func newScript(def *api.CheckType, report Report, env *Env) (Runner, error) {
	args, limit, most := def.ScriptArgs, timeout(def, commandTimeout), env.MaxOutput
	return newCommandPoll(def, func(ctx context.Context) (status, output string) {
		out := &tail{max: most}
		code, err := runCommand(ctx, args, out)
		switch {
		case errors.Is(err, context.DeadlineExceeded):
			return api.Critical, timedOut(limit, out)
		case err != nil:
			return api.Critical, err.Error()
		}
		return statusOfExit(code), out.String()
	}, report, env), nil
}

// statusOfExit is what an exit code means.
func statusOfExit(code int) string {
	switch code {
	case 0:
		return api.Passing
	case 1:
		return api.Warning
	default:
		return api.Critical
	}
}

// timedOut is the output of a command that took too long.
func timedOut(limit time.Duration, out *tail) string {
	text := fmt.Sprintf("Timed out (%s) running check", limit)
	if out.total > 0 {
		text += "\n\n" + out.String()
	}
	return text
}

// runCommand runs a command, with all that it prints going to out, until it has
// ended and nothing else holds its output. When ctx is done before, the command
// and what it started are killed, and the error is that of ctx. Either way nothing
// of it is left here when runCommand returns.
func runCommand(ctx context.Context, args []string, out io.Writer) (code int, err error) {
	if args[0] == "" {
		return 0, errors.New("exec: no command")
	}
	r, w, err := os.Pipe()
	if err != nil {
		return 0, fmt.Errorf("make a pipe: %w", err)
	}
	defer func() { _ = r.Close() }()
	cmd := exec.CommandContext(ctx, args[0], args[1:]...) //nolint:gosec // scripts run only where the operator allows them
	cmd.Stdout, cmd.Stderr = w, w
	inGroup(cmd)
	err = cmd.Start()
	_ = w.Close() // the command has its own
	if err != nil {
		return 0, err //nolint:wrapcheck // shown to the user
	}
	drained := make(chan struct{})
	go func() {
		defer close(drained)
		// It ends with the last holder of the pipe, or with the deadline below.
		_, _ = io.CopyBuffer(struct{ io.Writer }{out}, struct{ io.Reader }{r}, make([]byte, readChunk))
	}()
	err = cmd.Wait()
	select {
	case <-drained:
	case <-ctx.Done():
		killGroup(cmd)
		_ = r.SetReadDeadline(time.Now())
		<-drained
	}
	switch {
	case ctx.Err() != nil:
		return 0, ctx.Err() //nolint:wrapcheck // the caller tells what it means
	case err != nil && !errors.As(err, new(*exec.ExitError)):
		return 0, err //nolint:wrapcheck // shown to the user
	}
	return cmd.ProcessState.ExitCode(), nil
}
