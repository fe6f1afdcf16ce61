package runner

import (
	"bytes"
	"context"
	"fmt"
	"sync"
	"time"

	"holdfast/store"
)

// Chunks of a log are written when this much has gathered, or this long after
// its first byte.
const (
	logChunk = 16 << 10 // bytes
	logDelay = 250 * time.Millisecond
	// logRetry is when a chunk is stored again that the store did not take.
	logRetry = 2 * time.Second
	// maxLog bounds what one run may write, so that a provider in debug mode
	// does not fill the disk.
	maxLog = 16 << 20 // bytes
)

// runLog is what the engine prints in a run, stored as it comes, so that a
// page can follow it from any process. A log that cannot be written never
// stops a run.
type runLog struct {
	ctx   context.Context
	to    store.Artifacts
	key   string
	clock func() time.Time

	mu     sync.Mutex
	buf    bytes.Buffer
	timer  *time.Timer
	total  int
	closed bool
	// refused is set while the store does not take the log.
	refused bool
}

func newRunLog(ctx context.Context, to store.Artifacts, key string, clock func() time.Time) *runLog {
	return &runLog{ctx: context.WithoutCancel(ctx), to: to, key: key, clock: clock}
}

// Write gathers p. It never fails: the engine's work matters more than its
// words.
func (l *runLog) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.closed || l.total > maxLog {
		return len(p), nil
	}
	if l.total += len(p); l.total > maxLog {
		fmt.Fprintf(&l.buf, "\n(the log is cut here, at %d MiB)\n", maxLog>>20)
		l.flush()
		return len(p), nil
	}
	l.buf.Write(p)
	if l.buf.Len() >= logChunk && !l.refused {
		l.flush()
	} else if l.timer == nil {
		l.timer = time.AfterFunc(logDelay, l.flushLater)
	}
	return len(p), nil
}

// Printf writes a line of Holdfast's own.
func (l *runLog) Printf(format string, args ...any) { fmt.Fprintf(l, format, args...) }

// flush stores what has gathered; l.mu is held.
func (l *runLog) flush() {
	if l.timer != nil {
		l.timer.Stop()
		l.timer = nil
	}
	if l.buf.Len() == 0 {
		return
	}
	err := l.to.Append(l.ctx, l.clock(), l.key, bytes.Clone(l.buf.Bytes()))
	if l.refused = err != nil; !l.refused {
		l.buf.Reset()
	} else if !l.closed {
		// Kept, and tried again: the store may be away for a while.
		l.timer = time.AfterFunc(logRetry, l.flushLater)
	}
}

func (l *runLog) flushLater() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.timer = nil
	l.flush()
}

// Close stores what is left. Later writes are dropped. Where the store did not
// take all of it, calling Close again tries again.
func (l *runLog) Close() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.closed = true
	l.flush()
}
