package main
import ("context";"io")
func claims(ctx context.Context, out io.Writer, server *redisServer, s settings) error { return nil }
func memories(ctx context.Context, out io.Writer, server *redisServer, s settings) error { return nil }
func nodes(ctx context.Context, out io.Writer, server *redisServer, s settings) error { return nil }
