package watches

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"sync"
	"time"

	consul "github.com/hashicorp/consul/api"
)

// leftBehind is how long a handler's output is waited for once the handler itself
// has ended, in case it left something running.
const leftBehind = time.Second

// Runner runs the watches of an agent's settings.
type Runner struct {
	front http.Handler
	log   *slog.Logger
	sets  chan []*Watch // holds the newest set that Run has not begun yet

	mu sync.Mutex // of who replaces what sets holds
}

// New makes a runner for the watches that are defined, which ask front.
func New(front http.Handler, definitions []map[string]any, log *slog.Logger) (*Runner, error) {
	r := &Runner{front: front, log: log, sets: make(chan []*Watch, 1)}
	if err := r.Set(definitions); err != nil {
		return nil, err
	}
	return r, nil
}

// Set replaces all watches, whose handlers are then called anew. It may be called
// at any time. After an error, all is as before.
func (r *Runner) Set(definitions []map[string]any) error {
	list, err := ParseAll(definitions)
	if err != nil {
		return err
	}
	for i, w := range list {
		if _, ok := w.plan.Exempt["handler"]; ok {
			r.log.Warn("handler is an older key of a watch: use args", "watch", i)
		}
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	select {
	case <-r.sets: // nobody has begun these
	default:
	}
	r.sets <- list
	return nil
}

// ParseAll parses the watches of an agent, each of which has a handler.
func ParseAll(definitions []map[string]any) ([]*Watch, error) {
	list := make([]*Watch, len(definitions))
	for i, definition := range definitions {
		w, err := Parse(definition)
		if err == nil && w.handler == nil {
			err = errors.New("has neither args nor handler nor http_handler_config")
		}
		if err != nil {
			return nil, fmt.Errorf("watches[%d]: %w", i, err)
		}
		list[i] = w
	}
	return list, nil
}

// Run runs the watches until ctx is done.
func (r *Runner) Run(ctx context.Context) error {
	stop := func() {}
	defer func() { stop() }()
	for {
		select {
		case <-ctx.Done():
			return nil
		case list := <-r.sets:
			stop()
			stop = r.start(ctx, list)
		}
	}
}

// start runs watches until the function that it yields is called, which returns
// when all have ended.
func (r *Runner) start(ctx context.Context, list []*Watch) (stop func()) {
	ctx, cancel := context.WithCancel(ctx)
	var running sync.WaitGroup
	for _, w := range list {
		running.Go(func() {
			if err := r.follow(ctx, w); err != nil {
				r.log.Error("a watch ended", "type", w.Type(), "err", err)
			}
		})
	}
	return func() {
		cancel()
		running.Wait()
	}
}

func (r *Runner) follow(ctx context.Context, w *Watch) error {
	client, err := consul.NewClient(&consul.Config{
		Address: "127.0.0.1", Scheme: "http", HttpClient: &http.Client{Transport: inProcess{r.front}},
		Datacenter: w.plan.Datacenter, Token: w.plan.Token,
	})
	if err != nil {
		return fmt.Errorf("make a client: %w", err)
	}
	log := r.log.With("type", w.Type())
	return w.Follow(ctx, client, r.log, func(u Update) bool {
		view, err := u.JSON()
		if err == nil {
			err = w.handler.call(ctx, log, u, view)
		}
		if err != nil && ctx.Err() == nil {
			log.Error("a watch's handler failed", "err", err)
		}
		return true
	})
}
