package redis

import (
	"context"
	"errors"
	"fmt"

	goredis "github.com/redis/go-redis/v9"
)

// writeThrough executes a script and waits for the replicas. Both go over one
// connection, as WAIT is about the writes of its own; on a cluster to the node
// that has the keys, whose redirections are followed here.
func (d *database) writeThrough(ctx context.Context, s script, args []any) *goredis.Cmd {
	const redirections = 3
	for i := 0; ; i++ {
		node, err := d.node(ctx)
		if err != nil {
			return failed(ctx, err)
		}
		reply := d.writeAndWait(ctx, node, s, args)
		_, moved := goredis.IsMovedError(reply.Err())
		cluster, ok := d.client.(*goredis.ClusterClient)
		if !moved || !ok || i == redirections {
			return reply
		}
		cluster.ReloadState(ctx)
	}
}

func (d *database) writeAndWait(ctx context.Context, node *goredis.Client, s script, args []any) *goredis.Cmd {
	send := s.EvalSha
	for {
		pipe := node.Pipeline()
		reply := send(ctx, pipe, []string{d.prefix}, args...)
		wait := pipe.Do(ctx, "WAIT", d.cfg.WaitReplicas, waitTimeout.Milliseconds())
		_, _ = pipe.Exec(ctx) // each command has its error
		if goredis.HasErrorPrefix(reply.Err(), "NOSCRIPT") {
			send = s.Eval
			continue
		}
		if err := reply.Err(); err != nil && !errors.Is(err, goredis.Nil) {
			return reply
		}
		switch replicas, err := wait.Int(); {
		case err != nil:
			return failed(ctx, fmt.Errorf("wait for replicas (the write may be kept or not): %w", err))
		case replicas < d.cfg.WaitReplicas:
			return failed(ctx, fmt.Errorf("%w: %d replicas of %d have the write after %s: it may be kept or not",
				ErrUnreachable, replicas, d.cfg.WaitReplicas, waitTimeout))
		}
		return reply
	}
}

// failed returns a command that ended with err.
func failed(ctx context.Context, err error) *goredis.Cmd {
	cmd := goredis.NewCmd(ctx)
	cmd.SetErr(err)
	return cmd
}
