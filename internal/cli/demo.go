package cli

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"os/signal"
	"strconv"
	"syscall"
	"time"

	consul "github.com/hashicorp/consul/api"
)

// demo starts a whole federation on this machine.
type demo struct {
	Datacenters int `flag:"dcs"     default:"2" doc:"datacenters, 2 to 4"`
	Servers     int `flag:"servers" default:"1" doc:"servers in each datacenter, 1 to 3"`

	Isolate bool `flag:"isolate" doc:"put each node into a network namespace of its own, where only gateways lead out of a datacenter"`
	Exit    bool `flag:"exit"    doc:"check the federation and end: 0 when all is well, 1 when not; isolated if this is allowed"`
	Keep    bool `flag:"keep"    doc:"keep the settings, logs and data of the nodes"`
}

// Paces and limits of a demo.
const (
	startLimit   = 45 * time.Second // until the datacenters are federated
	startLook    = 20 * time.Millisecond
	liveLook     = 500 * time.Millisecond
	restartAfter = time.Second // a killed node starts again
	restartMost  = 30 * time.Second
	healthyAfter = 5 * time.Second // a node that ran for so long was well
	tailLines    = 12
)

const (
	// demoInner is set in the environment of a demo that was started once more, in
	// a user namespace.
	demoInner = "ISTHMUS_DEMO_INNER"

	// exitNoNamespaces says that even there no network namespaces can be made.
	exitNoNamespaces = 3
)

func (*demo) Help() string {
	return `Starts datacenters of servers and mesh gateways on this machine, each node a
process of its own with TLS, and federates them through the gateways. On a
terminal it shows what happens, starts again what you kill, and tells how long
reads from other datacenters failed. Without a terminal it does what -exit does.`
}

// Run implements the command.
func (c *demo) Run(ctx context.Context, e *Env) error {
	start := time.Now()
	switch {
	case c.Datacenters < 2 || c.Datacenters > 4:
		return failf("Error! -dcs must be 2, 3 or 4")
	case c.Servers < 1 || c.Servers > 3:
		return failf("Error! -servers must be 1, 2 or 3")
	}
	// Whoever stops the demo twice, or reads no more of it, must not keep it from
	// tidying up.
	ctx, stop := signal.NotifyContext(ctx, syscall.SIGINT, syscall.SIGTERM, syscall.SIGHUP, syscall.SIGPIPE)
	defer stop()
	s := newScreen(e.Stdout, start)
	if !s.terminal() {
		c.Exit = true
	}
	r, err := c.prepare(ctx, e, s)
	if r == nil {
		return err
	}
	err = r.run(ctx, c.Exit)
	switch {
	case ctx.Err() != nil && c.Exit:
		err = failf("Error! interrupted before all checks were done")
	case ctx.Err() != nil:
		err = nil
	case err != nil:
		s.print(r.tails(concerned(err)))
		err = failf("Error! %w", err)
	}
	r.close()
	s.sayf("all processes are stopped, nothing is left of them")
	return err
}

// prepare makes the network and all files. It yields no demo when everything was
// done by another process, in a user namespace.
func (c *demo) prepare(ctx context.Context, e *Env, s *screen) (*demoRun, error) {
	binary, err := os.Executable()
	if err != nil {
		return nil, fmt.Errorf("find this program: %w", err)
	}
	octet, err := freeOctet(c.Datacenters, c.Servers)
	if err != nil {
		return nil, err
	}
	r := &demoRun{screen: s, keep: c.Keep, recovered: make(chan time.Duration, 1)}
	if c.Isolate || c.Exit {
		r.nodes = demoNodes(c.Datacenters, c.Servers, octet, true)
		r.network, err = newIsolation(r.nodes)
		if err != nil {
			done, outcome := c.again(ctx, e, s, binary, err)
			if done {
				return nil, outcome
			}
		}
	}
	isolated := r.network != nil
	if !isolated {
		r.nodes = demoNodes(c.Datacenters, c.Servers, octet, false)
	}
	if err := r.furnish(binary, isolated); err != nil {
		r.close()
		return nil, err
	}
	return r, nil
}

// again runs the demo once more where it may make namespaces, after it could not
// do so here. It is not done when the demo is to go on without them.
func (c *demo) again(ctx context.Context, e *Env, s *screen, binary string, cause error) (done bool, outcome error) {
	if os.Getenv(demoInner) != "" {
		return true, &failure{code: exitNoNamespaces, err: cause}
	}
	code := exitNoNamespaces
	if errors.Is(cause, syscall.EPERM) {
		code = c.inUserNamespace(ctx, e, binary)
	}
	switch {
	case code == 0:
		return true, nil
	case code != exitNoNamespaces:
		return true, &failure{code: exitFailure} // the other process has said why
	case c.Isolate:
		return true, failf("Error! -isolate: %w\nRun it as root, or allow user namespaces: sysctl -w user.max_user_namespaces=10000, "+
			"and where they exist kernel.unprivileged_userns_clone=1 and kernel.apparmor_restrict_unprivileged_userns=0.", cause)
	default:
		s.sayf("not isolated, but on loopback addresses: %v", cause)
		return false, nil
	}
}

// inUserNamespace runs the demo once more and yields its exit code.
func (c *demo) inUserNamespace(ctx context.Context, e *Env, binary string) int {
	args := []string{
		"demo", "-dcs", strconv.Itoa(c.Datacenters), "-servers", strconv.Itoa(c.Servers), "-isolate",
		"-exit=" + strconv.FormatBool(c.Exit), "-keep=" + strconv.FormatBool(c.Keep),
	}
	cmd := exec.CommandContext(ctx, binary, args...) //nolint:gosec // this program itself
	cmd.Cancel = func() error { return cmd.Process.Signal(syscall.SIGTERM) }
	cmd.Env = append(os.Environ(), demoInner+"=1")
	cmd.Stdin, cmd.Stdout, cmd.Stderr = e.Stdin, e.Stdout, e.Stderr
	enterUserNamespace(cmd)
	err := runBound(cmd)
	exit, ended := errors.AsType[*exec.ExitError](err)
	switch {
	case ended:
		return exit.ExitCode()
	case err == nil, ctx.Err() != nil:
		return 0 // what it said of being stopped is enough
	default:
		return exitNoNamespaces // it did not even start
	}
}

// runBound runs a process that ends with this one.
func runBound(cmd *exec.Cmd) error {
	s, err := newSpace(func() error { return nil })
	if err != nil {
		return err
	}
	defer s.close()
	if err := s.start(cmd); err != nil {
		return fmt.Errorf("start the demo in a user namespace: %w", err)
	}
	return cmd.Wait() //nolint:wrapcheck // its exit code is all that counts
}

// furnish makes what the nodes need beside an isolated network.
func (r *demoRun) furnish(binary string, isolated bool) error {
	var err error
	if r.dir, err = demoDir(r.keep); err != nil {
		return err
	}
	r.processes = newDemoProcesses(binary, r.dir)
	r.processes.more = r.settings
	where := "isolated: each node is in a network namespace of its own, and only gateways are on the WAN;\n" +
		"to join for the first time, servers of other datacenters also have a way to the gateways of dc1, and to nothing else"
	if !isolated {
		where = "on loopback addresses; with -isolate the kernel keeps the datacenters apart"
		if r.network, err = newLoopback(r.nodes, r.processes.pids); err != nil {
			return err
		}
	}
	r.screen.sayf("%s", where)
	r.processes.space = r.network.space
	r.clients, r.plain = map[*demoNode]*consul.Client{}, map[*demoNode]*http.Client{}
	for _, n := range r.nodes {
		if !n.server {
			r.plain[n] = askFrom(r.network.space(n))
		} else if r.clients[n], err = client(n, r.network.space(n)); err != nil {
			return err
		}
	}
	if err := r.processes.prepare(r.nodes); err != nil {
		return err
	}
	for _, from := range r.datacenters() {
		for _, to := range r.datacenters() {
			if from == to {
				continue
			}
			p := &probe{from: from, to: to}
			for _, n := range r.servers(from) {
				p.ask = append(p.ask, r.clients[n])
			}
			r.probes = append(r.probes, p)
		}
	}
	return nil
}
