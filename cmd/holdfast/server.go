package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math"
	"net"
	"net/http"
	"path/filepath"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"golang.org/x/sync/errgroup"

	"holdfast/lock"
	"holdfast/queue"
	"holdfast/runner"
	"holdfast/runner/terraform"
	"holdfast/store"
	"holdfast/vcs/git"
	"holdfast/web"
)

// shutdownGrace is how long running jobs may go on after SIGTERM before their
// engines are interrupted.
const shutdownGrace = 20 * time.Second

// server is a whole Holdfast in one process.
type server struct {
	settings Settings
	logger   *slog.Logger
	store    *store.Store
	hosts    hosts
	runner   *runner.Runner
	worker   *queue.Worker
	listener net.Listener
	unlock   func() // gives the data directory back
	handler  http.Handler
}

var errNoRepository = hinted{errors.New("no repository is configured"), "add a host and a repository block to the server file, or name that file with --config; README.md shows both"}

// newServer opens everything and starts nothing; every reason not to start is
// found here.
func newServer(ctx context.Context, s Settings, o serverOptions) (_ *server, err error) {
	o = o.withDefaults(s)
	logger := o.Logger
	if len(s.Repositories) == 0 {
		return nil, errNoRepository
	}
	if err := makeDataDir(s.DataDir); err != nil {
		return nil, err
	}
	srv := &server{settings: s, logger: logger}
	defer func() {
		if err != nil {
			srv.Close()
		}
	}()
	if srv.unlock, err = lockDataDir(s.DataDir); err != nil {
		return nil, err
	}
	if srv.listener, err = net.Listen("tcp", s.Listen); err != nil {
		return nil, hinted{fmt.Errorf("listen on %s: %w", s.Listen, err), "end what uses the port, or set another (listen, HOLDFAST_LISTEN, --listen)"}
	}
	if srv.settings.URL == "" {
		srv.settings.URL = "http://" + srv.listener.Addr().String()
	}
	var digestKey []byte
	if srv.store, digestKey, err = openStore(ctx, s, logger); err != nil {
		return nil, err
	}
	engines, err := newEngines(s, o)
	if err != nil {
		return nil, err
	}
	if err := findEngine(ctx, engines, logger); err != nil {
		return nil, err
	}
	mirrors, err := git.New(git.Config{Dir: s.DataDir})
	if err != nil {
		return nil, err
	}
	if srv.hosts, err = openHosts(srv.settings, srv.store, mirrors); err != nil {
		return nil, err
	}
	notifiers, err := openNotifiers(ctx, s)
	if err != nil {
		return nil, err
	}
	attributors, err := openAttributors(ctx, s)
	if err != nil {
		return nil, err
	}
	q := queue.New(srv.store.Queue, queue.Config{})
	r, err := runner.New(runner.Config{
		Store: srv.store, Queue: q, Locker: lock.New(srv.store.Locks, lock.Config{}), Git: mirrors, Engines: engines,
		Hosts: srv.hosts.all, Repositories: srv.hosts.repos, Patterns: srv.hosts.patterns, Pull: srv.hosts.pull, DataDir: s.DataDir, StateDir: filepath.Join(s.DataDir, "state"), BaseURL: srv.settings.URL,
		DigestKey: digestKey, Commands: s.Commands, Notify: notifiers, Attributors: attributors, Node: nodeName(), Logger: logger,
	})
	if err != nil {
		return nil, err
	}
	srv.runner = r
	registry := newRegistry(srv.store, logger)
	srv.worker = newWorker(srv.settings, q, r, registry, logger)
	srv.handler, err = web.New(web.Config{
		Store: srv.store, Hosts: srv.hosts.webhooks, Receive: r.Receive, Ready: srv.ready,
		Repositories: r.Repositories, CloudEvent: srv.cloudEvent(), Registry: registry, BaseURL: srv.settings.URL, Logger: logger,
	})
	return srv, err
}

// findEngine makes sure that there is an engine before the first pull request
// needs it. Either will do: which one a repository wants is known later.
func findEngine(ctx context.Context, engines *terraform.Engines, logger *slog.Logger) error {
	path, version, err := engines.Find(ctx, "terraform", "")
	if missing := (*terraform.NotInstalledError)(nil); errors.As(err, &missing) {
		var tofu error
		if path, version, tofu = engines.Find(ctx, "tofu", ""); tofu == nil {
			err = nil
		}
	}
	if err != nil {
		return err
	}
	logger.Info("engine found", "path", path, "version", version)
	return nil
}

// serverOptions are what a program that starts a server decides, and its
// operator does not.
type serverOptions struct {
	Logger *slog.Logger
	// EngineDir is where engines, providers and their caches are. Defaults to
	// "engines" in the data directory.
	EngineDir string
	// Progress is told of installations. Defaults to the log.
	Progress func(line string)
}

func (o serverOptions) withDefaults(s Settings) serverOptions {
	if o.EngineDir == "" {
		o.EngineDir = filepath.Join(s.DataDir, "engines")
	}
	if o.Progress == nil {
		o.Progress = func(line string) { o.Logger.Info(line) }
	}
	return o
}

// newWorker returns the worker that carries out the runner's jobs.
func newWorker(s Settings, q *queue.Queue, r *runner.Runner, registry *prometheus.Registry, logger *slog.Logger) *queue.Worker {
	const forever = math.MaxInt32
	return queue.NewWorker(q, queue.WorkerConfig{
		Name: nodeName(), Concurrency: s.Workers, PerLimit: s.PerRepository, Limits: map[string]int{runner.LimitDrift: cmp.Or(s.DriftChecks, max(1, s.Workers/2))},
		Lease: 15 * time.Second, Heartbeat: time.Second, Grace: shutdownGrace,
		// The runner decides itself when a run has failed. What reports to a
		// host or hears from one is tried for as long as the host is down:
		// nothing of it may be lost.
		MaxAttemptsOf: map[string]int{
			runner.JobEvent: forever, runner.JobReport: forever, runner.JobReconcile: forever,
			runner.JobTicket: forever, runner.JobNotify: forever, runner.JobPropose: forever,
			runner.JobPlan: forever, runner.JobApply: forever, runner.JobDrift: forever, runner.JobCorrect: forever,
		},
		Ready:    func(context.Context) error { return checkDisk(s.DataDir) },
		Handlers: r.Handlers(), Logger: logger, Metrics: workerMetrics(registry),
	})
}

// Run serves until ctx ends and everything that ran has ended or was given
// back.
func (s *server) Run(ctx context.Context) error {
	if err := s.runner.Start(ctx); err != nil {
		return err
	}
	// Open log streams end with the work; nothing else would end them.
	streams, endStreams := context.WithCancel(context.WithoutCancel(ctx))
	defer endStreams()
	web := &http.Server{Handler: s.handler, BaseContext: func(net.Listener) context.Context { return streams }, ReadHeaderTimeout: 10 * time.Second, IdleTimeout: 2 * time.Minute, ErrorLog: slog.NewLogLogger(s.logger.Handler(), slog.LevelWarn)}
	group, work := errgroup.WithContext(ctx)
	group.Go(func() error {
		if err := web.Serve(s.listener); !errors.Is(err, http.ErrServerClosed) {
			return fmt.Errorf("serve: %w", err)
		}
		return nil
	})
	worked := make(chan struct{})
	group.Go(func() error {
		// Pages stay up until the work has ended.
		<-work.Done()
		s.logger.Info("stopping; running jobs have a grace time", "grace", shutdownGrace)
		<-worked
		endStreams()
		stop, cancel := context.WithTimeout(context.WithoutCancel(work), 5*time.Second)
		defer cancel()
		if err := web.Shutdown(stop); err != nil {
			return web.Close()
		}
		return nil
	})
	group.Go(func() error { s.runner.Schedule(work); return nil })
	group.Go(func() error { s.hosts.ask(work, s.logger, askTimeout); return nil })
	group.Go(func() error {
		defer close(worked)
		return s.worker.Run(work)
	})
	s.logger.Info("serving", "url", s.settings.URL, "listen", s.listener.Addr().String(), "data_dir", s.settings.DataDir, "workers", s.settings.Workers, "repositories", len(s.settings.Repositories))
	return group.Wait()
}

// ready says why the server cannot do its work now.
func (s *server) ready(ctx context.Context) error {
	if err := checkDisk(s.settings.DataDir); err != nil {
		return err
	}
	if _, err := s.store.Records.List(ctx, "ready/"); err != nil {
		return fmt.Errorf("store: %w", err)
	}
	return nil
}

// Close gives back what newServer opened.
func (s *server) Close() {
	if s.listener != nil {
		_ = s.listener.Close()
	}
	if s.store != nil {
		if err := s.store.Close(); err != nil {
			s.logger.Error("close store", "error", err)
		}
	}
	if s.unlock != nil {
		s.unlock()
	}
}
