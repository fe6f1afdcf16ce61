package main

import (
	"context"
	"encoding/json"
	"log/slog"
	"strings"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"

	"holdfast/queue"
	"holdfast/runner"
	"holdfast/store"
)

// newRegistry returns the metrics that need no event to be counted: of the
// process, and of what the store holds at the moment it is asked.
func newRegistry(st *store.Store, logger *slog.Logger) *prometheus.Registry {
	registry := prometheus.NewRegistry()
	registry.MustRegister(
		collectors.NewGoCollector(),
		collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}),
		&storeCollector{
			store: st, logger: logger,
			workspaces: prometheus.NewDesc("holdfast_workspaces", "Workspaces by repository and state.", []string{"repository", "state"}, nil),
			jobs:       prometheus.NewDesc("holdfast_jobs", "Unfinished jobs by kind and state.", []string{"kind", "state"}, nil),
		},
	)
	return registry
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
	store            *store.Store
	logger           *slog.Logger
	workspaces, jobs *prometheus.Desc
}

func (c *storeCollector) Describe(ch chan<- *prometheus.Desc) { ch <- c.workspaces; ch <- c.jobs }

// Collect leaves out what cannot be read now.
func (c *storeCollector) Collect(ch chan<- prometheus.Metric) {
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	counts := map[[2]string]int{}
	records, err := c.store.Records.List(ctx, "workspace/")
	for _, r := range records {
		var w runner.WorkspaceRecord
		if json.Unmarshal(r.Value, &w) == nil {
			counts[[2]string{w.Repository, string(w.State)}]++
		}
	}
	c.emit(ch, c.workspaces, counts, err)
	jobs, err := c.store.Queue.List(ctx, queue.Filter{Limit: 100_000})
	clear(counts)
	for _, j := range jobs {
		counts[[2]string{j.Kind, string(j.State)}]++
	}
	c.emit(ch, c.jobs, counts, err)
}

func (c *storeCollector) emit(ch chan<- prometheus.Metric, desc *prometheus.Desc, counts map[[2]string]int, err error) {
	if err != nil {
		c.logger.Warn("metrics", "error", err)
		return
	}
	for labels, n := range counts {
		// Names come from repositories; a metric's label must be valid UTF-8.
		ch <- prometheus.MustNewConstMetric(desc, prometheus.GaugeValue, float64(n), strings.ToValidUTF8(labels[0], "?"), labels[1])
	}
}
