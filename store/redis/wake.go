package redis

import (
	"context"
	"sync"

	goredis "github.com/redis/go-redis/v9"
)

// bell tells listeners that jobs may have become claimable, by any process:
// scripts publish on a channel. While somebody listens it has one connection,
// shared by all listeners.
type bell struct {
	db *database

	mu        sync.Mutex
	listeners map[chan struct{}]struct{}
	hangUp    context.CancelFunc // not nil while subscribed
	stopped   bool
	hearing   sync.WaitGroup
}

func newBell(d *database) *bell {
	return &bell{db: d, listeners: map[chan struct{}]struct{}{}}
}

// ring signals all listeners; one that has a signal waiting needs no second.
func (b *bell) ring() {
	b.mu.Lock()
	defer b.mu.Unlock()
	for c := range b.listeners {
		select {
		case c <- struct{}{}:
		default:
		}
	}
}

// listen subscribes until ctx ends.
func (b *bell) listen(ctx context.Context) <-chan struct{} {
	c := make(chan struct{}, 1)
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.stopped || ctx.Err() != nil {
		return c
	}
	b.listeners[c] = struct{}{}
	context.AfterFunc(ctx, func() { b.leave(c) })
	if b.hangUp == nil {
		hear, cancel := context.WithCancel(context.Background())
		b.hangUp = cancel
		b.hearing.Go(func() { b.hear(hear) })
	}
	return c
}

func (b *bell) leave(c chan struct{}) {
	b.mu.Lock()
	defer b.mu.Unlock()
	delete(b.listeners, c)
	if len(b.listeners) == 0 && b.hangUp != nil {
		b.hangUp()
		b.hangUp = nil
	}
}

// stop ends the subscription for good; wait returns when it has ended.
func (b *bell) stop() {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.stopped = true
	if b.hangUp != nil {
		b.hangUp()
	}
}

func (b *bell) wait() { b.hearing.Wait() }

// hear rings for each message, and each time that the connection is there
// (again): a message may have been missed before. The client connects anew by
// itself, and finds out by pings that it has to. Its errors are not reported:
// workers poll behind the bell, and meet them themselves.
func (b *bell) hear(ctx context.Context) {
	sub := b.db.client.Subscribe(ctx, b.db.key("wake"))
	defer sub.Close()
	messages := sub.ChannelWithSubscriptions(goredis.WithChannelSize(1))
	for {
		select {
		case <-ctx.Done():
			return
		case _, open := <-messages:
			if !open {
				return
			}
			b.ring()
		}
	}
}
