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
	"os"
	"path/filepath"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"
	"golang.org/x/sync/errgroup"

	"holdfast/lock"
	"holdfast/queue"
	"holdfast/runner"
	"holdfast/runner/terraform"
	"holdfast/store"
	"holdfast/vcs/git"
	"holdfast/web"
)

// role is what a process does.
type role int

const (
	serves role = iota // webhooks, pages and schedules; and work, where it has workers
	works              // only work
)

func (r role) String() string {
	if r == works {
		return "worker"
	}
	return "serve"
}

// server is a Holdfast in one process: a whole one, or one of several that share
// a store.
type server struct {
	settings Settings
	role     role
	node     string
	logger   *slog.Logger
	registry *prometheus.Registry
	store    *store.Store
	hosts    hosts
	runner   *runner.Runner
	worker   *queue.Worker // nil where it does no work
	listener net.Listener
	front    *front
	http     *http.Server
	served   chan error   // how serving ended
	streams  func()       // ends open logs
	unlock   func()       // gives the data directory back
	handler  http.Handler // behind front
}

var (
	errNoRepository = hinted{errors.New("no repository is configured"), "add a host and a repository block to the server file, or name that file with --config; README.md shows both"}
	errNotShared    = hinted{errors.New("the store is a file, which machines cannot share"), `one process does everything then: holdfast serve. For several set store = "redis://HOST:PORT" (HOLDFAST_STORE, --store)`}
	errNoURL        = hinted{errors.New("url is not set, and several machines share the store: links in comments would lead to whichever of them wrote the comment"), `set url = "https://holdfast.example.com" (HOLDFAST_URL, --url), the address at which people reach the pages`}
)

// newServer opens everything and starts nothing but answers to "are you ready";
// every reason not to start is found here. It waits for a shared store that
// cannot be reached.
func newServer(ctx context.Context, s Settings, o serverOptions) (_ *server, err error) {
	o = o.withDefaults(s)
	srv := &server{settings: s, role: o.Role, logger: o.Logger, registry: newRegistry()}
	if err := srv.check(); err != nil {
		return nil, err
	}
	if err := makeDataDir(s.DataDir); err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			srv.Close()
		}
	}()
	if srv.unlock, err = lockDataDir(s.DataDir); err != nil {
		return nil, err
	}
	if srv.node, err = nodeName(s.DataDir); err != nil {
		return nil, err
	}
	if err := srv.listen(ctx); err != nil {
		return nil, err
	}
	digestKey, err := srv.openStore(ctx)
	if err != nil {
		return nil, err
	}
	engines, err := newEngines(s, o)
	if err != nil {
		return nil, err
	}
	if s.Workers > 0 {
		if err := findEngine(ctx, engines, srv.logger); err != nil {
			return nil, err
		}
	}
	q := queue.New(srv.store.Queue, queue.Config{Clock: srv.store.Clock})
	if err := srv.newRunner(ctx, q, engines, digestKey); err != nil {
		return nil, err
	}
	if s.Workers > 0 {
		srv.worker = newWorker(srv.settings, srv.node, q, srv.runner, srv.registry, srv.logger)
	}
	if srv.handler, err = srv.newHandler(); err != nil {
		return nil, err
	}
	srv.front.serve(srv.handler)
	return srv, nil
}

// check refuses settings that do not go together.
func (s *server) check() error {
	switch {
	case len(s.settings.Repositories) == 0:
		return errNoRepository
	case !s.settings.Shared() && (s.role == works || s.settings.Workers == 0):
		return errNotShared
	case s.settings.Shared() && s.settings.URL == "":
		return errNoURL
	case s.settings.Dedicated && len(s.settings.Labels) == 0:
		return hinted{errors.New("dedicated workers without a label are given nothing"), "set labels (HOLDFAST_LABELS, --label), or leave dedicated out"}
	case s.settings.Dedicated && !s.settings.Shared():
		return hinted{errors.New("dedicated is set, and there is no other process to do the rest"), "leave dedicated out"}
	case s.role == works && s.settings.Workers == 0:
		return hinted{errors.New("a worker with 0 workers does nothing"), "set workers, HOLDFAST_WORKERS or --workers to 1 or more"}
	}
	return nil
}

// listen answers from now on.
func (s *server) listen(ctx context.Context) (err error) {
	if s.listener, err = net.Listen("tcp", s.settings.Listen); err != nil {
		return hinted{fmt.Errorf("listen on %s: %w", s.settings.Listen, err), "end what uses the port, or set another (listen, HOLDFAST_LISTEN, --listen)"}
	}
	if s.settings.URL == "" {
		s.settings.URL = "http://" + s.listener.Addr().String()
	}
	// Open log streams end with the work; nothing else would end them.
	streams, end := context.WithCancel(context.WithoutCancel(ctx))
	s.streams, s.front, s.served = end, &front{}, make(chan error, 1)
	s.http = &http.Server{Handler: s.front, BaseContext: func(net.Listener) context.Context { return streams }, ReadHeaderTimeout: 10 * time.Second, IdleTimeout: 2 * time.Minute, ErrorLog: slog.NewLogLogger(s.logger.Handler(), slog.LevelWarn)}
	go func() { s.served <- s.http.Serve(s.listener) }()
	return nil
}

// openStore opens the store. It returns the key that plans are compared by.
func (s *server) openStore(ctx context.Context) (digestKey []byte, err error) {
	var observe func(string, time.Duration, error)
	if s.settings.Shared() {
		observe = storeCalls(s.registry)
	}
	if s.store, digestKey, err = reachStore(ctx, s.settings, s.logger, observe, s.front.wait); err != nil {
		return nil, err
	}
	s.registry.MustRegister(newStoreCollector(s.store, s.logger))
	return digestKey, nil
}

// newRunner connects what carries out jobs.
func (s *server) newRunner(ctx context.Context, q *queue.Queue, engines *terraform.Engines, digestKey []byte) error {
	mirrors, err := git.New(git.Config{Dir: s.settings.DataDir})
	if err != nil {
		return err
	}
	if s.hosts, err = openHosts(s.settings, s.store, mirrors); err != nil {
		return err
	}
	notifiers, err := openNotifiers(ctx, s.settings)
	if err != nil {
		return err
	}
	attributors, err := openAttributors(ctx, s.settings)
	if err != nil {
		return err
	}
	s.runner, err = runner.New(runner.Config{
		Store: s.store, Queue: q, Locker: lock.New(s.store.Locks, lock.Config{Clock: s.store.Clock}), Clock: s.store.Clock, Git: mirrors, Engines: engines,
		Hosts: s.hosts.all, Repositories: s.hosts.repos, Patterns: s.hosts.patterns, Pull: s.hosts.pull,
		DataDir: s.settings.DataDir, StateDir: s.settings.stateDir(), BaseURL: s.settings.URL,
		DigestKey: digestKey, Commands: s.settings.Commands, Retention: s.settings.Retention, Removed: retentionMetric(s.registry), Notify: notifiers, Attributors: attributors, Node: s.node, Logger: s.logger,
	})
	return err
}

// newHandler returns what is answered: webhooks and pages, or of a process that
// only works how it is.
func (s *server) newHandler() (http.Handler, error) {
	if s.role == serves {
		return web.New(web.Config{
			Store: s.store, Hosts: s.hosts.webhooks, Receive: s.runner.Receive, Ready: s.ready,
			Repositories: s.runner.Repositories, CloudEvent: s.cloudEvent(), Registry: s.registry, BaseURL: s.settings.URL, Logger: s.logger,
		})
	}
	mux := http.NewServeMux()
	mux.HandleFunc("GET /healthz", func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write([]byte("ok\n")) })
	mux.HandleFunc("GET /readyz", func(w http.ResponseWriter, r *http.Request) {
		ctx, cancel := context.WithTimeout(r.Context(), 5*time.Second)
		defer cancel()
		if err := s.ready(ctx); err != nil {
			http.Error(w, "not ready: "+err.Error(), http.StatusServiceUnavailable)
			return
		}
		_, _ = w.Write([]byte("ok\n"))
	})
	mux.Handle("GET /metrics", promhttp.HandlerFor(s.registry, promhttp.HandlerOpts{Registry: s.registry}))
	return mux, nil
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
	// Role defaults to serves.
	Role role
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
func newWorker(s Settings, node string, q *queue.Queue, r *runner.Runner, registry *prometheus.Registry, logger *slog.Logger) *queue.Worker {
	const forever = math.MaxInt32
	w := queue.NewWorker(q, queue.WorkerConfig{
		Name: node, Labels: s.Labels, Dedicated: s.Dedicated, Concurrency: s.Workers, PerLimit: s.PerRepository, Limits: map[string]int{runner.LimitDrift: cmp.Or(s.DriftChecks, max(1, s.Workers/2))},
		Lease: 15 * time.Second, Heartbeat: time.Second, Grace: s.Grace,
		// The runner decides itself when a run has failed. What reports to a
		// host or hears from one is tried for as long as the host is down:
		// nothing of it may be lost.
		MaxAttemptsOf: map[string]int{
			runner.JobEvent: forever, runner.JobReport: forever, runner.JobReconcile: forever,
			runner.JobRequeue: forever, runner.JobTicket: forever, runner.JobNotify: forever, runner.JobPropose: forever,
			runner.JobPlan: forever, runner.JobApply: forever, runner.JobDrift: forever, runner.JobCorrect: forever,
		},
		Ready:    func(context.Context) error { return checkDisk(s.DataDir) },
		Handlers: r.Handlers(), Logger: logger, Metrics: workerMetrics(registry),
	})
	showWorker(registry, w, s.Workers)
	return w
}

// Run serves until ctx ends and everything that ran has ended or was given
// back.
func (s *server) Run(ctx context.Context) error {
	if err := s.runner.Sweep(ctx); err != nil {
		return err
	}
	if s.role == serves {
		if err := s.runner.Start(ctx); err != nil {
			return err
		}
	}
	group, work := errgroup.WithContext(ctx)
	group.Go(func() error {
		if err := <-s.served; !errors.Is(err, http.ErrServerClosed) {
			return fmt.Errorf("serve: %w", err)
		}
		return nil
	})
	worked := make(chan struct{})
	// Others ask about the engines here for as long as jobs have their grace time.
	until, gone := context.WithCancel(context.WithoutCancel(work))
	defer gone()
	group.Go(func() error {
		// Pages stay up until the work has ended.
		<-work.Done()
		s.logger.Info("stopping; running jobs have a grace time", "grace", s.settings.Grace)
		<-worked
		gone()
		s.streams()
		stop, cancel := context.WithTimeout(context.WithoutCancel(work), 5*time.Second)
		defer cancel()
		if err := s.http.Shutdown(stop); err != nil {
			return s.http.Close()
		}
		return nil
	})
	if s.role == serves {
		group.Go(func() error { s.runner.Schedule(work); return nil })
		group.Go(func() error { s.hosts.ask(work, s.logger, askTimeout); return nil })
	}
	group.Go(func() error { s.runner.Attend(until); return nil })
	started := s.store.Now()
	group.Go(func() error {
		s.runner.Announce(until, func() runner.NodeState { return s.state(started) })
		return nil
	})
	group.Go(func() error { s.recoverAfterFailovers(work); return nil })
	group.Go(func() error {
		defer close(worked)
		if s.worker == nil {
			<-work.Done()
			return nil
		}
		return s.worker.Run(work)
	})
	s.logger.Info("ready", "role", s.role.String(), "node", s.node, "url", s.settings.URL, "listen", s.listener.Addr().String(),
		"store", s.settings.storeName(), "data_dir", s.settings.DataDir, "workers", s.settings.Workers, "labels", s.settings.Labels, "repositories", len(s.settings.Repositories))
	return group.Wait()
}

// state is what this process tells others of itself.
func (s *server) state(started time.Time) runner.NodeState {
	host, _ := os.Hostname() // only shown
	n := runner.NodeState{
		Name: s.node, Role: s.role.String(), Host: host, Version: version, Labels: s.settings.Labels, Dedicated: s.settings.Dedicated, Started: started, Slots: s.settings.Workers,
	}
	if s.worker == nil {
		return n
	}
	for _, j := range s.worker.Running() {
		n.Running = append(n.Running, runner.NodeJob{ID: j.ID, Kind: j.Kind})
	}
	return n
}

// recoverAfterFailovers looks for what a store forgot that failed over.
func (s *server) recoverAfterFailovers(ctx context.Context) {
	if s.store.Failovers == nil {
		return
	}
	failovers := s.store.Failovers(ctx)
	for {
		select {
		case <-ctx.Done():
			return
		case <-failovers:
		}
		s.logger.Warn("the store restarted or failed over; looking for what it may have forgotten")
		for err := s.runner.Recover(ctx); err != nil && ctx.Err() == nil; err = s.runner.Recover(ctx) {
			s.logger.Error("look for what the store may have forgotten", "error", err)
			select {
			case <-ctx.Done():
			case <-time.After(5 * time.Second):
			}
		}
	}
}

// ready says why the server cannot do its work now.
func (s *server) ready(ctx context.Context) error {
	if err := checkDisk(s.settings.DataDir); err != nil {
		return err
	}
	if err := s.writes(ctx); err != nil {
		return fmt.Errorf("store: %w", err)
	}
	return nil
}

// writes finds out whether the store takes a write: one that is full, or whose
// replicas are away, can still be read.
func (s *server) writes(ctx context.Context) error {
	rec, err := s.store.Records.Get(ctx, "ready/"+s.node)
	if err != nil && !errors.Is(err, store.ErrNotFound) {
		return err
	}
	_, err = s.store.Records.Put(ctx, s.store.Now(), store.Record{Key: "ready/" + s.node, Version: rec.Version, Value: []byte("{}")})
	if errors.Is(err, store.ErrConflict) {
		return nil // another request asked at the same time
	}
	return err
}

// Close gives back what newServer opened.
func (s *server) Close() {
	if s.http != nil {
		s.streams()
		_ = s.http.Close()
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
