package main

import (
	"context"
	"log/slog"
	"strings"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"

	"holdfast/lock"
	"holdfast/queue"
	"holdfast/runner"
	"holdfast/runner/plan"
	"holdfast/store"
)

// newRegistry returns the metrics that need no event to be counted, of the
// process.
func newRegistry() *prometheus.Registry {
	registry := prometheus.NewRegistry()
	registry.MustRegister(collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	return registry
}

// newStoreCollector returns the metrics of what a store holds at the moment it
// is asked.
func newStoreCollector(st *store.Store, logger *slog.Logger) prometheus.Collector {
	return &storeCollector{
		store: st, logger: logger,
		workspaces: prometheus.NewDesc("holdfast_workspaces", "Workspaces by repository and state.", []string{"repository", "state"}, nil),
		drifted:    prometheus.NewDesc("holdfast_drifted_workspaces", "Workspaces that drifted, by repository and class.", []string{"repository", "class"}, nil),
		overdue:    prometheus.NewDesc("holdfast_overdue_workspaces", "Workspaces whose last good check is older than it may be, by repository.", []string{"repository"}, nil),
		contested:  prometheus.NewDesc("holdfast_contested_workspaces", "Workspaces where something changes back what is corrected, by repository.", []string{"repository"}, nil),
		workers:    prometheus.NewDesc("holdfast_workers", "Processes that carry out jobs and were heard of within a minute, by role.", []string{"role"}, nil),
		unserved:   prometheus.NewDesc("holdfast_jobs_unserved", "Waiting jobs that no such process may take, of the 1,000 oldest.", nil, nil),
		jobs:       prometheus.NewDesc("holdfast_jobs", "Unfinished jobs by kind and state.", []string{"kind", "state"}, nil),
		leases:     prometheus.NewDesc("holdfast_leases", "Locks in force by kind: workspace (an apply at work), owner (a pull request), hold (a person).", []string{"kind"}, nil),
	}
}

// storeCalls counts the calls of a store on another machine.
func storeCalls(registry *prometheus.Registry) func(method string, took time.Duration, err error) {
	took := prometheus.NewHistogramVec(prometheus.HistogramOpts{Name: "holdfast_store_call_seconds", Help: "Time that calls of the store took.", Buckets: []float64{.0005, .001, .0025, .005, .01, .025, .05, .1, .5, 1, 5}}, []string{"method"})
	failed := prometheus.NewCounterVec(prometheus.CounterOpts{Name: "holdfast_store_call_errors_total", Help: "Calls of the store that failed."}, []string{"method"})
	registry.MustRegister(took, failed)
	return func(method string, d time.Duration, err error) {
		took.WithLabelValues(method).Observe(d.Seconds())
		if err != nil {
			failed.WithLabelValues(method).Inc()
		}
	}
}

// workerMetrics counts what a worker does.
func workerMetrics(registry *prometheus.Registry) queue.Metrics {
	buckets := []float64{.01, .05, .1, .5, 1, 5, 10, 30, 60, 300, 900, 3600}
	waited := prometheus.NewHistogramVec(prometheus.HistogramOpts{Name: "holdfast_job_wait_seconds", Help: "Time that jobs waited after they were due.", Buckets: buckets}, []string{"kind"})
	took := prometheus.NewHistogramVec(prometheus.HistogramOpts{Name: "holdfast_job_duration_seconds", Help: "Time that attempts at jobs took, by how they ended.", Buckets: buckets}, []string{"kind", "outcome"})
	lost := prometheus.NewCounterVec(prometheus.CounterOpts{Name: "holdfast_jobs_lost_total", Help: "Attempts whose lease ended before their outcome was stored."}, []string{"kind"})
	registry.MustRegister(waited, took, lost)
	return queue.Metrics{
		Claimed: func(j queue.Job, d time.Duration) { waited.WithLabelValues(j.Kind).Observe(d.Seconds()) },
		Finished: func(j queue.Job, o queue.Outcome, d time.Duration) {
			took.WithLabelValues(j.Kind, outcome(o)).Observe(d.Seconds())
		},
		Lost: func(j queue.Job) { lost.WithLabelValues(j.Kind).Inc() },
	}
}

// showWorker tells how many jobs this process runs at once, and how many it runs
// now.
func showWorker(registry *prometheus.Registry, w *queue.Worker, slots int) {
	registry.MustRegister(
		prometheus.NewGaugeFunc(prometheus.GaugeOpts{Name: "holdfast_worker_slots", Help: "Jobs that this process runs at once."}, func() float64 { return float64(slots) }),
		prometheus.NewGaugeFunc(prometheus.GaugeOpts{Name: "holdfast_worker_busy", Help: "Jobs that this process runs now."}, func() float64 { return float64(len(w.Running())) }),
	)
}

// retentionMetric counts what is removed by its age.
func retentionMetric(registry *prometheus.Registry) func(what string) {
	removed := prometheus.NewCounterVec(prometheus.CounterOpts{Name: "holdfast_retention_removed_total", Help: "What was removed by its age (retention), by kind: the artifacts of a run, checks that found nothing, other runs."}, []string{"what"})
	registry.MustRegister(removed)
	for _, what := range []string{"artifacts", "checks", "runs"} {
		removed.WithLabelValues(what)
	}
	return func(what string) { removed.WithLabelValues(what).Inc() }
}

// outcome names how an attempt ended.
func outcome(o queue.Outcome) string {
	switch {
	case o.Done:
		return "done"
	case o.Dead:
		return "dead"
	case o.Uncounted:
		return "put_back"
	}
	return "failed"
}

// storeCollector counts what the store holds.
type storeCollector struct {
	store  *store.Store
	logger *slog.Logger

	workspaces, jobs, leases, drifted, overdue, contested, workers, unserved *prometheus.Desc
}

func (c *storeCollector) Describe(ch chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{c.workspaces, c.jobs, c.leases, c.drifted, c.overdue, c.contested, c.workers, c.unserved} {
		ch <- d
	}
}

// Collect leaves out what cannot be read now.
func (c *storeCollector) Collect(ch chan<- prometheus.Metric) {
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	counts, drifted, overdue, contested := map[[2]string]int{}, map[[2]string]int{}, map[[2]string]int{}, map[[2]string]int{}
	workspaces, err := runner.ReadWorkspaces(ctx, c.store.Records, "")
	for _, w := range workspaces {
		counts[[2]string{w.Repository, string(w.State)}]++
		// Also where there are none: a series that comes and goes is no history.
		for _, class := range []plan.Class{plan.CloudChange, plan.OutputOnly} {
			drifted[[2]string{w.Repository, string(class)}] += 0
		}
		if w.State == runner.Drifted {
			drifted[[2]string{w.Repository, w.Class}]++
		}
		overdue[[2]string{w.Repository, ""}] += one(w.Overdue)
		contested[[2]string{w.Repository, ""}] += 0
	}
	c.emit(ch, c.workspaces, counts, err)
	c.emit(ch, c.drifted, drifted, err)
	c.emit(ch, c.overdue, overdue, err)
	drifts, err := runner.ReadDrift(ctx, c.store.Records, "")
	for _, d := range drifts {
		contested[[2]string{d.Repository, ""}] += one(!d.Contested.IsZero())
	}
	c.emit(ch, c.contested, contested, err)
	c.queue(ctx, ch)
}

// queue collects jobs and locks.
func (c *storeCollector) queue(ctx context.Context, ch chan<- prometheus.Metric) {
	jobs, leases := map[[2]string]int{}, map[[2]string]int{}
	counts, err := c.store.Counts(ctx)
	for _, n := range counts {
		jobs[[2]string{n.Kind, string(n.State)}] = n.N
	}
	c.emit(ch, c.jobs, jobs, err)
	held, err := lock.New(c.store.Locks, lock.Config{Clock: c.store.Clock}).List(ctx, "")
	for _, l := range held {
		kind, _, _ := strings.Cut(string(l.Key), "/")
		leases[[2]string{kind, ""}]++
	}
	c.emit(ch, c.leases, leases, err)
	c.nodes(ctx, ch)
}

// nodes counts the processes that carry out jobs, and the jobs that none takes.
func (c *storeCollector) nodes(ctx context.Context, ch chan<- prometheus.Metric) {
	now := c.store.Now()
	nodes, err := runner.Nodes(ctx, c.store.Records)
	counts := map[[2]string]int{{"serve", ""}: 0, {"worker", ""}: 0}
	for _, n := range nodes {
		counts[[2]string{n.Role, ""}] += one(n.Slots > 0 && !n.Gone(now))
	}
	c.emit(ch, c.workers, counts, err)
	if err != nil {
		return
	}
	unserved, err := runner.UnservedJobs(ctx, c.store.Queue, nodes, now)
	if err != nil {
		c.logger.Warn("metrics", "error", err)
		return
	}
	sum := 0
	for _, u := range unserved {
		sum += u.Jobs
	}
	ch <- prometheus.MustNewConstMetric(c.unserved, prometheus.GaugeValue, float64(sum))
}

func (c *storeCollector) emit(ch chan<- prometheus.Metric, desc *prometheus.Desc, counts map[[2]string]int, err error) {
	if err != nil {
		c.logger.Warn("metrics", "error", err)
		return
	}
	for labels, n := range counts {
		// Names come from repositories; a metric's label must be valid UTF-8.
		values := []string{strings.ToValidUTF8(labels[0], "?"), labels[1]}
		if labels[1] == "" {
			values = values[:1]
		}
		ch <- prometheus.MustNewConstMetric(desc, prometheus.GaugeValue, float64(n), values...)
	}
}

func one(b bool) int {
	if b {
		return 1
	}
	return 0
}
