package redis

import (
	"testing"
	"time"

	"github.com/alicebob/miniredis/v2"
	miniserver "github.com/alicebob/miniredis/v2/server"
	goredis "github.com/redis/go-redis/v9"
)

// TestClockIsMeasured goes through what a server's clock and the network do.
// All times are in milliseconds since the watch began, by this machine's clock.
func TestClockIsMeasured(t *testing.T) {
	origin := time.Date(2031, 5, 4, 3, 2, 1, 0, time.UTC)
	ms := func(n int) time.Time { return origin.Add(time.Duration(n) * time.Millisecond) }
	own := origin
	w := newWatch(&database{cfg: Config{Now: func() time.Time { return own }}})
	for _, step := range []struct {
		what                  string
		before, server, after int // a measurement, where after is not 0
		now, want             int
	}{
		{what: "nothing is known yet", now: 10, want: 10},
		{what: "the server is 1000 ahead", before: 10, server: 1015, after: 20, now: 20, want: 1020},
		{what: "a slow answer counts less", before: 20, server: 1060, after: 120, now: 120, want: 1120},
		{what: "a faster one more", before: 200, server: 1203, after: 202, now: 202, want: 1204},
		{what: "it is counted on", now: 302, want: 1304},
		{what: "the server's clock was set back", before: 302, server: 803, after: 304, now: 304, want: 1304},
		{what: "and is not caught up with yet", now: 500, want: 1304},
		{what: "until it is", now: 900, want: 1400},
		{what: "this machine slept", before: 900, server: 61001, after: 902, now: 902, want: 61002},
	} {
		if step.after != 0 {
			w.measured(ms(step.before), ms(step.server), ms(step.after))
		}
		own = ms(step.now)
		if got := w.now(); !got.Equal(ms(step.want)) {
			t.Errorf("%s: it is %s, want %s", step.what, got.Sub(origin), ms(step.want).Sub(origin))
		}
	}
	for range 100 {
		w.measured(ms(902), ms(61002), ms(902))
	}
	if len(w.samples) > samples {
		t.Errorf("%d measurements are kept", len(w.samples))
	}
}

// A server that is asked twice and answers once is not known, instead of being
// another one than before.
func TestHalfAnIdentity(t *testing.T) {
	m := miniredis.RunT(t)
	refuses := false
	m.Server().SetPreHook(func(c *miniserver.Peer, cmd string, args ...string) bool {
		switch {
		case cmd != "INFO":
			return false
		case refuses && args[0] == "replication":
			c.WriteError("LOADING")
		default:
			c.WriteBulk("run_id:1\r\nmaster_replid:2\r\n")
		}
		return true
	})
	client := goredis.NewClient(&goredis.Options{Addr: m.Addr(), MaxRetries: -1})
	defer client.Close()
	if id := identity(t.Context(), client); id != "12" {
		t.Errorf("identity %q", id)
	}
	refuses = true
	if id := identity(t.Context(), client); id != "" {
		t.Errorf("half an identity: %q", id)
	}
}
