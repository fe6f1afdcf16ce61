package main

import (
	"context"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	goredis "github.com/redis/go-redis/v9"
)

// redisServer is the server that all sides share.
type redisServer struct {
	addr   string
	client *goredis.Client
	cmd    *exec.Cmd
}

// startRedis starts a server that keeps its data in dir and waits until it
// answers. AOF files are not rewritten, which would happen to some rounds only.
func startRedis(ctx context.Context, dir string) (*redisServer, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	addr := l.Addr().String()
	l.Close()
	_, port, _ := net.SplitHostPort(addr)
	data := filepath.Join(dir, "redis")
	if err := os.Mkdir(data, 0o700); err != nil {
		return nil, err
	}
	s := &redisServer{addr: addr, client: goredis.NewClient(&goredis.Options{Addr: addr})}
	s.cmd = exec.Command("redis-server", "--port", port, "--bind", "127.0.0.1", "--dir", data, "--save", "",
		"--appendonly", "yes", "--appendfsync", "everysec", "--auto-aof-rewrite-percentage", "0")
	if err := s.cmd.Start(); err != nil {
		return nil, fmt.Errorf("start redis-server: %w", err)
	}
	for deadline := time.Now().Add(30 * time.Second); ; time.Sleep(10 * time.Millisecond) {
		err := s.client.Ping(ctx).Err()
		if err == nil {
			return s, nil
		}
		if time.Now().After(deadline) || ctx.Err() != nil {
			s.stop()
			return nil, fmt.Errorf("redis-server at %s does not answer: %w", addr, err)
		}
	}
}

func (s *redisServer) stop() {
	s.client.Close()
	_ = s.cmd.Process.Kill()
	_ = s.cmd.Wait()
}

// info returns the sum of some fields of a section of INFO.
func (s *redisServer) info(ctx context.Context, section string, names ...string) (float64, error) {
	text, err := s.client.Info(ctx, section).Result()
	if err != nil {
		return 0, err
	}
	sum, found := 0.0, 0
	for line := range strings.Lines(text) {
		name, value, _ := strings.Cut(strings.TrimSpace(line), ":")
		for _, wanted := range names {
			if name != wanted {
				continue
			}
			n, err := strconv.ParseFloat(value, 64)
			if err != nil {
				return 0, err
			}
			sum += n
			found++
		}
	}
	if found != len(names) {
		return 0, fmt.Errorf("the server's INFO lacks one of %v: Redis 6.2 or newer is needed", names)
	}
	return sum, nil
}

// cpu returns the processor time of the server's main thread, which executes
// all commands: what bounds the jobs per second, whatever else the machine does.
func (s *redisServer) cpu(ctx context.Context) (time.Duration, error) {
	seconds, err := s.info(ctx, "cpu", "used_cpu_user_main_thread", "used_cpu_sys_main_thread")
	return time.Duration(seconds * float64(time.Second)), err
}

// memory returns used_memory in bytes, without what the server is about to
// forget: Holdfast keeps the answer of each write for a minute.
func (s *redisServer) memory(ctx context.Context) (float64, error) {
	keys := s.client.Scan(ctx, 0, "*:answer:*", 1000).Iterator()
	var found []string
	for keys.Next(ctx) {
		found = append(found, keys.Val())
	}
	if err := keys.Err(); err != nil {
		return 0, err
	}
	for len(found) > 0 {
		n := min(1000, len(found))
		if err := s.client.Del(ctx, found[:n]...).Err(); err != nil {
			return 0, err
		}
		found = found[n:]
	}
	return s.info(ctx, "memory", "used_memory")
}
