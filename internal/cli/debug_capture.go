package cli

import (
	"archive/tar"
	"compress/gzip"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"
)

const archiveSuffix = ".tar.gz"

// changing captures what changes, for as long as it was asked for.
func (c *debugBundle) changing(ctx context.Context, e *Env) error {
	if !c.wants(captureMetrics) && !c.wants(captureLogs) && !c.wants(captureProfile) {
		return nil
	}
	asked := ctx
	ctx, cancel := context.WithTimeout(ctx, c.Duration)
	defer cancel()
	var (
		running sync.WaitGroup
		mu      sync.Mutex
		failed  []error
	)
	begin := func(wanted string, capture func(ctx context.Context, e *Env) error) {
		if !c.wants(wanted) {
			return
		}
		running.Go(func() {
			err := capture(ctx, e)
			mu.Lock()
			defer mu.Unlock()
			failed = append(failed, err)
		})
	}
	begin(captureLogs, c.logs)
	// These end by themselves, a little after the time is over.
	seconds := int(c.Duration / time.Second)
	begin(captureProfile, func(context.Context, *Env) error { return c.profile(asked, e, "profile", "profile.prof", seconds) })
	begin(captureProfile, func(context.Context, *Env) error { return c.profile(asked, e, "trace", "trace.out", seconds) })
	err := c.intervals(ctx, e)
	running.Wait()
	if asked.Err() != nil {
		return errors.New("stopping collection due to shutdown signal")
	}
	return errors.Join(append(failed, err)...)
}

// intervals captures at once and after each interval.
func (c *debugBundle) intervals(ctx context.Context, e *Env) error {
	tick := time.NewTicker(c.Interval)
	defer tick.Stop()
	now := time.Now()
	if err := e.printf("==> Beginning capture interval %s (%d)\n", now.UTC(), 0); err != nil {
		return err
	}
	for i := 0; ; i++ {
		err := c.interval(ctx, e, now.UTC())
		if err == nil {
			err = e.printf("==> Capture successful %s (%d)\n", now.UTC(), i)
		}
		if err != nil && ctx.Err() == nil {
			return err
		}
		select {
		case <-ctx.Done():
			return nil
		case now = <-tick.C:
		}
	}
}

func (c *debugBundle) interval(ctx context.Context, e *Env, now time.Time) error {
	var failed []error
	if c.wants(captureMetrics) {
		failed = append(failed, c.metrics(e))
	}
	if c.wants(captureProfile) && ctx.Err() == nil {
		for name, ask := range map[string]func() ([]byte, error){"heap": e.Client().Debug().Heap, "goroutine": e.Client().Debug().Goroutine} {
			profile, err := ask()
			if err == nil {
				err = c.writeFile(filepath.Join(now.Format(debugTime), name+".prof"), profile)
			}
			if err != nil {
				failed = append(failed, fmt.Errorf("capture %s: %w", name, err))
			}
		}
	}
	return errors.Join(failed...)
}

// metrics appends what the node measured to the file of all intervals, one JSON
// value after the other.
func (c *debugBundle) metrics(e *Env) error {
	answer, err := e.Client().Agent().Metrics()
	if err != nil {
		return fmt.Errorf("capture metrics: %w", err)
	}
	f, err := os.OpenFile(filepath.Join(c.Output, "metrics.json"), os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o644) //nolint:gosec // for everybody to read
	if err != nil {
		return err
	}
	out := json.NewEncoder(f)
	out.SetIndent("", "    ")
	return errors.Join(out.Encode(answer), f.Close())
}

// logs writes the node's log until ctx is done.
func (c *debugBundle) logs(ctx context.Context, e *Env) error {
	lines, err := e.Client().Agent().Monitor("TRACE", ctx.Done(), e.Query(ctx))
	if err != nil {
		return fmt.Errorf("capture logs: %w", err)
	}
	f, err := os.Create(filepath.Join(c.Output, "consul.log"))
	if err != nil {
		return err
	}
	for {
		select {
		case <-ctx.Done():
			return f.Close()
		case line, ok := <-lines:
			if !ok || line == "" && ctx.Err() == nil {
				return errors.Join(errors.New("capture logs: the node ended the log"), f.Close())
			}
			if _, err := fmt.Fprintln(f, line); err != nil {
				return errors.Join(err, f.Close())
			}
		}
	}
}

// profile writes a profile that takes some seconds.
func (c *debugBundle) profile(ctx context.Context, e *Env, name, file string, seconds int) error {
	body, err := e.Client().Debug().PProf(ctx, name, seconds)
	if err != nil {
		return fmt.Errorf("capture %s: %w", file, err)
	}
	defer func() { _ = body.Close() }()
	text, err := io.ReadAll(body)
	if err != nil {
		return fmt.Errorf("capture %s: %w", file, err)
	}
	return c.writeFile(file, text)
}

// pack puts a directory into an archive, under its own name, and removes it.
func pack(dir, target string) (err error) {
	f, err := os.OpenFile(target, os.O_CREATE|os.O_TRUNC|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	zipped := gzip.NewWriter(f)
	archive := tar.NewWriter(zipped)
	base := filepath.Base(dir)
	err = filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		return add(archive, path, base+strings.TrimPrefix(path, dir), d)
	})
	if err := errors.Join(err, archive.Close(), zipped.Close(), f.Close()); err != nil {
		return errors.Join(err, os.Remove(target))
	}
	return os.RemoveAll(dir)
}

// add writes one file or directory to an archive.
func add(archive *tar.Writer, path, name string, d fs.DirEntry) error {
	info, err := d.Info()
	if err != nil {
		return err
	}
	header, err := tar.FileInfoHeader(info, "")
	if err != nil {
		return err
	}
	header.Name = filepath.ToSlash(name)
	if err := archive.WriteHeader(header); err != nil || d.IsDir() {
		return err
	}
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	_, err = io.Copy(archive, f)
	return errors.Join(err, f.Close())
}
