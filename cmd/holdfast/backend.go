package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net/url"
	"os"
	"strings"
	"syscall"
	"time"

	"holdfast/store"
	"holdfast/store/redis"
	"holdfast/store/sqlite"
)

// openBackend opens the store that the settings name, as it is: what is sealed
// in it stays so.
func openBackend(ctx context.Context, s Settings, logger *slog.Logger, observe func(string, time.Duration, error)) (*store.Store, error) {
	if !s.Shared() {
		return sqlite.Open(ctx, s.StorePath())
	}
	c, err := s.redisConfig()
	if err != nil {
		return nil, err
	}
	c.Logger, c.Observe = logger, observe
	redis.LogTo(logger)
	return redis.Open(ctx, c)
}

// openRead opens the store of a server for a command that looks into it. Where
// there is none, none is made.
func openRead(ctx context.Context, s Settings, logger *slog.Logger) (*store.Store, error) {
	if !s.Shared() {
		if _, err := os.Stat(s.StorePath()); errors.Is(err, fs.ErrNotExist) || errors.Is(err, syscall.ENOTDIR) {
			return nil, hinted{fmt.Errorf("there is no store at %s", s.StorePath()),
				"a server makes it when it first starts; say where that server's is: --config, --data-dir (HOLDFAST_DATA_DIR) or --store"}
		}
	}
	return openBackend(ctx, s, logger, nil)
}

// Pauses between attempts to reach a store that cannot be reached.
const (
	firstReach = time.Second
	lastReach  = 15 * time.Second
)

// reachStore is openStore for a server, which waits for a store that cannot be
// reached; waiting is told why, each time. What only a person can mend is an
// error at once.
func reachStore(ctx context.Context, s Settings, logger *slog.Logger, observe func(string, time.Duration, error), waiting func(error)) (*store.Store, []byte, error) {
	for pause := firstReach; ; pause = min(2*pause, lastReach) {
		st, digestKey, err := openStore(ctx, s, logger, observe)
		if err == nil || !errors.Is(err, redis.ErrUnreachable) || ctx.Err() != nil {
			return st, digestKey, err
		}
		hint := hintOf(err)
		logger.Error("the store cannot be reached; trying again", "error", withoutHint(err, hint), "hint", hint, "in", pause)
		waiting(err)
		select {
		case <-ctx.Done():
			return nil, nil, ctx.Err()
		case <-time.After(pause):
		}
	}
}

// storeName names the store for people, without what is secret in its address.
func (s Settings) storeName() string {
	if !s.Shared() {
		return s.StorePath()
	}
	scheme, rest, _ := strings.Cut(s.Store, "://")
	place, query, _ := strings.Cut(rest, "?")
	name := scheme + "://" + place[strings.LastIndex(place, "@")+1:]
	parameters, _ := url.ParseQuery(query) // those that can be read
	parameters.Del("sentinel_username")
	parameters.Del("sentinel_password")
	if len(parameters) > 0 {
		name += "?" + parameters.Encode()
	}
	return name
}
