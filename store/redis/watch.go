package redis

import (
	"context"
	"sync"
	"time"

	goredis "github.com/redis/go-redis/v9"
)

// watchEvery is how often the server is asked for its time and its identity.
const watchEvery = 3 * time.Second

// samples is how many of the latest measurements of the server's time count.
const samples = 8

// watch keeps the clock that all processes share, and notices when another
// server answers than before.
type watch struct {
	db     *database
	origin time.Time // from which this process counts, by its own clock
	end    context.CancelFunc
	done   sync.WaitGroup

	mu        sync.Mutex
	listeners map[chan struct{}]struct{}
	identity  string
	samples   []sample
	last      time.Time
}

// sample is one measurement: what the server's clock showed at the origin, and
// how long the request was on its way, which bounds the error.
type sample struct {
	epoch time.Time
	trip  time.Duration
}

func newWatch(d *database) *watch {
	return &watch{db: d, origin: d.cfg.Now(), listeners: map[chan struct{}]struct{}{}, end: func() {}}
}

// start looks for the first time, and then every watchEvery until stop.
func (w *watch) start(ctx context.Context) {
	w.look(ctx)
	ctx, w.end = context.WithCancel(context.Background())
	w.done.Go(func() {
		tick := time.NewTicker(watchEvery)
		defer tick.Stop()
		for {
			select {
			case <-ctx.Done():
				return
			case <-tick.C:
				w.look(ctx)
			}
		}
	})
}

// stop ends the looks; wait returns when the last one has ended.
func (w *watch) stop() { w.end() }
func (w *watch) wait() { w.done.Wait() }

// look asks the server. Where it does not answer, the next look does.
func (w *watch) look(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, ioTimeout)
	defer cancel()
	node, err := w.db.node(ctx)
	if err != nil {
		return
	}
	w.recognize(identity(ctx, node))
	before := w.db.cfg.Now()
	server, err := node.Time(ctx).Result()
	if err != nil {
		return
	}
	w.measured(before, server, w.db.cfg.Now())
}

// identity returns what changes when another server is the master, and when the
// same one starts anew: it may have lost its last writes in either case. "" is
// not known.
func identity(ctx context.Context, node *goredis.Client) string {
	server, err := node.Info(ctx, "server").Result()
	replication, rerr := node.Info(ctx, "replication").Result()
	if err != nil || rerr != nil {
		return "" // half of it would look like another server
	}
	info := parseInfo(server + replication)
	return info["run_id"] + info["master_replid"]
}

// recognize signals when identity is another one than before.
func (w *watch) recognize(identity string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if identity == "" || identity == w.identity {
		return
	}
	if w.identity != "" {
		for c := range w.listeners {
			select {
			case c <- struct{}{}:
			default:
			}
		}
	}
	w.identity = identity
}

// listen is store.Store.Failovers.
func (w *watch) listen(ctx context.Context) <-chan struct{} {
	c := make(chan struct{}, 1)
	w.mu.Lock()
	defer w.mu.Unlock()
	w.listeners[c] = struct{}{}
	context.AfterFunc(ctx, func() {
		w.mu.Lock()
		defer w.mu.Unlock()
		delete(w.listeners, c)
	})
	return c
}

// measured takes down that the server's clock showed server at some time from
// before to after. A measurement that cannot be reconciled with the best one
// says that a clock was set, that another server took over, or that this
// machine slept: those before it are worth nothing.
func (w *watch) measured(before, server, after time.Time) {
	w.mu.Lock()
	defer w.mu.Unlock()
	s := sample{trip: after.Sub(before)}
	s.epoch = server.Add(-before.Sub(w.origin) - s.trip/2).UTC()
	if best, ok := w.best(); ok && s.epoch.Sub(best.epoch).Abs() > s.trip+best.trip {
		w.samples = nil
	}
	w.samples = append(w.samples, s)
	w.samples = w.samples[max(0, len(w.samples)-samples):]
}

// best returns the sample with the shortest way there and back.
func (w *watch) best() (best sample, ok bool) {
	for i, s := range w.samples {
		if i == 0 || s.trip <= best.trip {
			best = s
		}
	}
	return best, len(w.samples) > 0
}

// now is store.Store.Clock: the time of the server's clock, counted on by this
// process between two looks, so that this machine's own clock may be wrong, or
// be set. It never goes backwards: where the server's clock does, it stands
// until it is caught up with.
//
// The drivers still compare with the now that they are given; this makes those
// of all processes agree.
func (w *watch) now() time.Time {
	w.mu.Lock()
	defer w.mu.Unlock()
	own := w.db.cfg.Now()
	t := own.UTC()
	if best, ok := w.best(); ok {
		t = best.epoch.Add(own.Sub(w.origin))
	}
	if t.After(w.last) {
		w.last = t
	}
	return w.last
}
