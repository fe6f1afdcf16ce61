package redis

import (
	"context"

	goredis "github.com/redis/go-redis/v9"
)

// hear rings for each message, which scripts publish when they make jobs
// claimable, and each time that the connection is there (again): a message may
// have been missed before. The client connects anew by itself, and finds out by
// pings that it has to. Its errors are not reported: workers poll behind the
// bell, and meet them themselves.
func (d *database) hear(ctx context.Context, ring func()) {
	sub := d.client.Subscribe(ctx, d.key("wake"))
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
			ring()
		}
	}
}
