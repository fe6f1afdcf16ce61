package redis

import (
	"context"
	"errors"
	"fmt"
	"math"
	"strconv"
	"time"

	goredis "github.com/redis/go-redis/v9"

	"holdfast/queue"
	"holdfast/store"
)

var loadScript = newScript("jobs", "runs", "audit", "load")

// dump is store.Store.Dump. It reads in steps, so nobody may write meanwhile.
func (d *database) dump(ctx context.Context, emit func(store.Item) error) (err error) {
	defer d.observe("dump", time.Now(), &err)
	for _, part := range []func(context.Context, func(store.Item) error) error{
		d.dumpTokens, d.dumpJobs, d.dumpLeases, d.dumpRuns, d.dumpArtifacts, d.dumpRecords, d.dumpEntries,
	} {
		if err := part(ctx, emit); err != nil {
			return fmt.Errorf("dump the store: %w", err)
		}
	}
	return nil
}

func (d *database) dumpTokens(ctx context.Context, emit func(store.Item) error) error {
	values, err := d.client.HMGet(ctx, d.key("token"), "job", "lock").Result()
	if err != nil {
		return d.explain(err)
	}
	r := &row{values: values}
	tokens := store.Tokens{Job: r.number(), Lock: r.number()}
	if r.err != nil {
		return r.err
	}
	return emit(store.Item{Tokens: &tokens})
}

func (d *database) dumpJobs(ctx context.Context, emit func(store.Item) error) error {
	return d.eachJob(ctx, queue.Filter{Limit: math.MaxInt32}, func(j queue.Job) error {
		return emit(store.Item{Job: &j})
	})
}

func (d *database) dumpLeases(ctx context.Context, emit func(store.Item) error) error {
	leases, err := d.leases(ctx, d.watch.now(), "")
	if err != nil {
		return err
	}
	for _, l := range leases {
		if err := emit(store.Item{Lease: &l}); err != nil {
			return err
		}
	}
	return nil
}

func (d *database) dumpRuns(ctx context.Context, emit func(store.Item) error) error {
	return d.eachName(ctx, "runs", func(ids []string) error {
		found := make([]*goredis.SliceCmd, len(ids))
		_, err := d.client.Pipelined(ctx, func(p goredis.Pipeliner) error {
			for i, id := range ids {
				found[i] = p.HMGet(ctx, d.key("run:"+id), runFields...)
			}
			return nil
		})
		if err != nil {
			return d.explain(err)
		}
		for i, id := range ids {
			r, err := scanRun(append([]any{id}, found[i].Val()...))
			if err != nil {
				return err
			}
			if err := emit(store.Item{Run: &r}); err != nil {
				return err
			}
		}
		return nil
	})
}

func (d *database) dumpArtifacts(ctx context.Context, emit func(store.Item) error) error {
	return d.eachName(ctx, "artifacts", func(keys []string) error {
		for _, key := range keys {
			chunks, err := d.chunks(ctx, key, 0)
			if err != nil {
				return err
			}
			for i, data := range chunks {
				if err := emit(store.Item{Chunk: &store.Chunk{Key: key, Index: i, Data: data}}); err != nil {
					return err
				}
			}
		}
		return nil
	})
}

func (d *database) dumpRecords(ctx context.Context, emit func(store.Item) error) error {
	return d.eachRecord(ctx, "", func(r store.Record) error {
		return emit(store.Item{Record: &r})
	})
}

func (d *database) dumpEntries(ctx context.Context, emit func(store.Item) error) error {
	return d.eachName(ctx, "entries", func(ids []string) error {
		texts, err := d.client.HMGet(ctx, d.key("entry"), ids...).Result()
		if err != nil {
			return d.explain(err)
		}
		entries, err := scanEntries(texts)
		if err != nil {
			return err
		}
		for _, e := range entries {
			if err := emit(store.Item{Entry: &e}); err != nil {
				return err
			}
		}
		return nil
	})
}

// eachName calls do for the members of a sorted set, some at a time, in order.
func (d *database) eachName(ctx context.Context, index string, do func(names []string) error) error {
	return eachPage("", func(from, to string) (string, error) {
		names, err := d.client.ZRangeByLex(ctx, d.key(index), &goredis.ZRangeBy{Min: from, Max: to, Count: step}).Result()
		if err != nil || len(names) == 0 {
			return "", d.explain(err)
		}
		return names[len(names)-1], do(names)
	})
}

// Bounds of what one call of the script loads.
const (
	loadItems = 500
	loadBytes = 1 << 20
)

// load is store.Store.Load. Each part of some hundred items is one atomic step.
func (d *database) load(ctx context.Context, items []store.Item) (err error) {
	defer d.observe("load", time.Now(), &err)
	now := stamp(d.watch.now())
	args, size := []any{now}, 0
	for i, item := range items {
		kind, fields, err := pack(item)
		if err != nil {
			return fmt.Errorf("load item %d: %w", i, err)
		}
		args = append(append(args, kind, len(fields)), fields...)
		for _, f := range fields {
			if b, ok := f.([]byte); ok {
				size += len(b)
			}
		}
		if (i+1)%loadItems != 0 && size < loadBytes && i < len(items)-1 {
			continue
		}
		if _, err := d.write(ctx, loadScript, args...); err != nil {
			return fmt.Errorf("load items up to %d: %w", i, err)
		}
		args, size = []any{now}, 0
	}
	return nil
}

// pack returns an item as lua/load.lua takes it.
func pack(item store.Item) (kind string, fields []any, err error) {
	switch {
	case item.Tokens != nil:
		return "tokens", []any{item.Tokens.Job, item.Tokens.Lock}, nil
	case item.Job != nil:
		j := *item.Job
		return "job", append(sentJob(nil, j), string(j.State), j.Attempt, j.Token, j.Worker, stamp(j.LeaseEnd), flag(j.Canceled), j.LastError), nil
	case item.Lease != nil:
		l := *item.Lease
		return "lease", []any{string(l.Key), l.Token, stamp(l.Since), l.Holder.ID, l.Holder.Who, l.Holder.Why, stamp(l.ExpireAt)}, nil
	case item.Run != nil:
		data, err := packRun(*item.Run)
		r := *item.Run
		return "run", []any{r.ID, r.Version, r.Token, r.Key, stamp(r.CreatedAt), data, []byte(r.Result)}, err
	case item.Chunk != nil:
		return "chunk", []any{item.Chunk.Key, item.Chunk.Index, blob(item.Chunk.Data)}, nil
	case item.Record != nil:
		r := *item.Record
		return "record", []any{r.Key, append([]byte(strconv.FormatInt(r.Version, 10)+":"), r.Value...)}, nil
	case item.Entry != nil:
		text, err := packEntry(*item.Entry)
		return "entry", []any{item.Entry.ID, item.Entry.Repository, text}, err
	}
	return "", nil, errors.New("it is empty")
}
