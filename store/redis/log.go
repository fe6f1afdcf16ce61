package redis

import (
	"context"
	"fmt"
	"log/slog"

	goredis "github.com/redis/go-redis/v9"
)

// LogTo sends what the client library has to say of its connections to logger,
// for debugging: every error comes back from a method as well. The library has
// one logger for the whole process, so this is for main, once, before Open. It
// writes to the standard error stream otherwise.
func LogTo(logger *slog.Logger) { goredis.SetLogger(printer{logger}) }

type printer struct{ logger *slog.Logger }

// Printf implements the library's logger.
func (p printer) Printf(ctx context.Context, format string, args ...any) {
	p.logger.DebugContext(ctx, "redis client", "message", fmt.Sprintf(format, args...))
}
