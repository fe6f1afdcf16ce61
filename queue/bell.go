package queue

import (
	"context"
	"sync"
)

// Bell is what backends make Driver.Wake of: it signals all who listen, and has
// one goroutine that hears of other processes' writes while somebody does. Safe
// for concurrent use.
type Bell struct {
	hear func(ctx context.Context, ring func())

	mu        sync.Mutex
	listeners map[chan struct{}]struct{}
	hangUp    context.CancelFunc // not nil while hear runs
	stopped   bool
	hearing   sync.WaitGroup
}

// NewBell returns a bell. hear calls ring when another process may have made
// jobs claimable, until its ctx ends; it runs while somebody listens.
func NewBell(hear func(ctx context.Context, ring func())) *Bell {
	return &Bell{hear: hear, listeners: map[chan struct{}]struct{}{}}
}

// Ring signals all listeners; one that has a signal waiting needs no second.
func (b *Bell) Ring() {
	b.mu.Lock()
	defer b.mu.Unlock()
	for c := range b.listeners {
		select {
		case c <- struct{}{}:
		default:
		}
	}
}

// Listen subscribes until ctx ends. The channel is never closed.
func (b *Bell) Listen(ctx context.Context) <-chan struct{} {
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
		b.hearing.Go(func() { b.hear(hear, b.Ring) })
	}
	return c
}

func (b *Bell) leave(c chan struct{}) {
	b.mu.Lock()
	defer b.mu.Unlock()
	delete(b.listeners, c)
	if len(b.listeners) == 0 && b.hangUp != nil {
		b.hangUp()
		b.hangUp = nil
	}
}

// Stop ends the hearing for good. Wait returns when it has ended.
func (b *Bell) Stop() {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.stopped = true
	if b.hangUp != nil {
		b.hangUp()
	}
}

// Wait returns when nothing is heard any more, after Stop.
func (b *Bell) Wait() { b.hearing.Wait() }
