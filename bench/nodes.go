package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// idleFor is how long a node is left alone before it is looked at, and how long
// it is looked at.
const idleFor = 10 * time.Second

// nodes measures what a process costs that has nothing to do: of its machine,
// and of Redis.
func nodes(ctx context.Context, out io.Writer, server *redisServer, s settings) error {
	if runtime.GOOS != "linux" {
		fmt.Fprintln(out, "\nIdle nodes are measured on Linux only.")
		return nil
	}
	binary, err := build(ctx, s.dir)
	if err != nil {
		return err
	}
	repository, err := emptyRepository(ctx, s.dir)
	if err != nil {
		return err
	}
	t := table{title: "An idle node, with one repository",
		note: fmt.Sprintf("Looked at for %s, after %s of rest. A script is one command.\n", idleFor, idleFor)}
	t.add("process", "memory (VmRSS)", "CPU", "Redis commands")
	for i, args := range [][]string{{"serve", "--workers", "0"}, {"worker"}} {
		if err := idle(ctx, &t, server, filepath.Join(s.dir, fmt.Sprint("node-", i)), binary, repository, args); err != nil {
			return err
		}
	}
	return t.print(out)
}

// build builds the program from the directory above.
func build(ctx context.Context, dir string) (string, error) {
	binary := filepath.Join(dir, "holdfast")
	cmd := exec.CommandContext(ctx, "go", "build", "-trimpath", "-o", binary, "./cmd/holdfast")
	cmd.Dir = ".."
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	if text, err := cmd.CombinedOutput(); err != nil {
		return "", fmt.Errorf("build holdfast: %w\n%s", err, text)
	}
	return binary, nil
}

// emptyRepository makes a repository with one commit, in which nothing happens.
func emptyRepository(ctx context.Context, dir string) (string, error) {
	repository := filepath.Join(dir, "repository")
	for _, args := range [][]string{
		{"init", "--quiet", "--initial-branch", "main", repository},
		{"-C", repository, "-c", "user.name=bench", "-c", "user.email=bench@example.com", "commit", "--quiet", "--allow-empty", "-m", "init"},
	} {
		if text, err := exec.CommandContext(ctx, "git", args...).CombinedOutput(); err != nil {
			return "", fmt.Errorf("git %s: %w\n%s", args[0], err, text)
		}
	}
	return repository, nil
}

// idle starts a process and measures it.
func idle(ctx context.Context, t *table, server *redisServer, dir, binary, repository string, args []string) error {
	listen, err := freeAddress()
	if err != nil {
		return err
	}
	if err := os.Mkdir(dir, 0o700); err != nil {
		return err
	}
	file := filepath.Join(dir, "server.hcl")
	text := fmt.Sprintf("url = %q\nlisten = %q\nstore = %q\ndata_dir = %q\n\nhost \"git\" \"internal\" {}\n\nrepository \"internal/acme/infra\" {\n  url = %q\n}\n",
		"http://"+listen, listen, "redis://"+server.addr, filepath.Join(dir, "data"), repository)
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		return err
	}
	var log bytes.Buffer
	cmd := exec.Command(binary, append(args, "--config", file)...)
	cmd.Env = append(os.Environ(), "HOLDFAST_KEY="+strings.Repeat("k", 32))
	cmd.Stdout, cmd.Stderr = &log, &log
	if err := cmd.Start(); err != nil {
		return err
	}
	err = func() error {
		if err := ready(ctx, "http://"+listen+"/readyz"); err != nil {
			return err
		}
		return look(ctx, t, server, strings.Join(args, " "), cmd.Process.Pid)
	}()
	_ = cmd.Process.Signal(syscall.SIGTERM)
	if ended := cmd.Wait(); err != nil {
		return fmt.Errorf("holdfast %s: %w (it ended with %v)\n%s", args[0], err, ended, log.String())
	}
	return nil
}

func freeAddress() (string, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return "", err
	}
	defer l.Close()
	return l.Addr().String(), nil
}

// ready waits until a node says that it is.
func ready(ctx context.Context, url string) error {
	for deadline := time.Now().Add(time.Minute); time.Now().Before(deadline); {
		resp, err := http.Get(url)
		if err == nil {
			resp.Body.Close()
			if resp.StatusCode == http.StatusOK {
				return nil
			}
		}
		if err := rest(ctx, 100*time.Millisecond); err != nil {
			return err
		}
	}
	return errors.New("not ready after a minute")
}

func rest(ctx context.Context, d time.Duration) error {
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-time.After(d):
		return nil
	}
}

// look adds a line about a process that has been ready for some time.
func look(ctx context.Context, t *table, server *redisServer, name string, pid int) error {
	if err := rest(ctx, idleFor); err != nil {
		return err
	}
	ticks, err := cpuTicks(pid)
	if err != nil {
		return err
	}
	sent, err := server.clientCommands(ctx)
	if err != nil {
		return err
	}
	if err := rest(ctx, idleFor); err != nil {
		return err
	}
	sentAfter, err := server.clientCommands(ctx)
	if err != nil {
		return err
	}
	sentAfter-- // our own question
	ticksAfter, err := cpuTicks(pid)
	if err != nil {
		return err
	}
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		return err
	}
	_, rss, _ := strings.Cut(string(status), "VmRSS:")
	kilobytes, err := strconv.Atoi(strings.Fields(rss + " ?")[0])
	if err != nil {
		return err
	}
	const ticksPerSecond = 100 // of /proc, on all of Linux
	cpu := float64(ticksAfter-ticks) / ticksPerSecond / idleFor.Seconds()
	t.add("holdfast "+name, fmt.Sprintf("%.0f MB", float64(kilobytes)*1024/1e6), fmt.Sprintf("%.1f %% of a core", 100*cpu),
		fmt.Sprintf("%.1f/s", (sentAfter-sent)/idleFor.Seconds()))
	return nil
}

// cpuTicks returns what a process has used of the processors, in ticks.
func cpuTicks(pid int) (int, error) {
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return 0, err
	}
	// After the name in brackets; utime and stime are the 14th and 15th of all
	// fields (proc_pid_stat(5)).
	fields := strings.Fields(string(stat[bytes.LastIndexByte(stat, ')')+1:]))
	user, err := strconv.Atoi(fields[11])
	if err != nil {
		return 0, err
	}
	system, err := strconv.Atoi(fields[12])
	return user + system, err
}

// clientCommands returns how many commands clients have sent, of those that a
// node without work sends. Others are left out, because the server counts those
// that scripts call as well.
func (s *redisServer) clientCommands(ctx context.Context) (float64, error) {
	text, err := s.client.Info(ctx, "commandstats").Result()
	if err != nil {
		return 0, err
	}
	sum := 0.0
	for line := range strings.Lines(text) {
		name, rest, _ := strings.Cut(line, ":calls=")
		switch name {
		case "cmdstat_evalsha", "cmdstat_eval", "cmdstat_info", "cmdstat_time", "cmdstat_ping":
			calls, _, _ := strings.Cut(rest, ",")
			n, err := strconv.ParseFloat(calls, 64)
			if err != nil {
				return 0, err
			}
			sum += n
		}
	}
	return sum, nil
}
