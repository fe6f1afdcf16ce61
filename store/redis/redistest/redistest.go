//go:build unix

// Package redistest starts Redis servers for tests from the redis-server on
// PATH, alone or as a cluster, so that tests can stop, kill and pause what
// Holdfast is to survive.
package redistest

import (
	"bytes"
	"fmt"
	"net"
	"os/exec"
	"strconv"
	"sync"
	"syscall"
	"testing"
	"time"

	goredis "github.com/redis/go-redis/v9"
)

// startTimeout is after how long a server that does not answer has failed.
const startTimeout = 30 * time.Second

// Server is a running server, which ends with its test. Its data are in a
// directory of the test and are there again after Restart.
type Server struct {
	Addr string // HOST:PORT
	URL  string // redis://HOST:PORT

	t    testing.TB
	args []string

	mu  sync.Mutex
	cmd *exec.Cmd
	out bytes.Buffer
}

// Start starts a server that keeps every write (appendfsync always) until the
// test ends, and waits until it answers. args are further arguments, which
// take precedence: "--appendonly", "no".
func Start(t testing.TB, args ...string) *Server {
	t.Helper()
	port := freePort(t)
	return start(t, "redis", port, append([]string{"--port", port}, args...))
}

// start starts a server whose args name its port.
func start(t testing.TB, scheme, port string, args []string) *Server {
	t.Helper()
	s := &Server{t: t, Addr: net.JoinHostPort("127.0.0.1", port)}
	s.URL = scheme + "://" + s.Addr
	s.args = append([]string{"--bind", "127.0.0.1", "--dir", t.TempDir(), "--save", "", "--appendonly", "yes", "--appendfsync", "always"}, args...)
	t.Cleanup(s.Kill)
	s.Restart()
	return s
}

// freePort returns a port that nobody listens on, neither there nor where a
// node of a cluster has its second port.
func freePort(t testing.TB) string {
	t.Helper()
	for {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		port := l.Addr().(*net.TCPAddr).Port
		bus, err := net.Listen("tcp", net.JoinHostPort("127.0.0.1", strconv.Itoa(port+10000)))
		l.Close()
		if err == nil {
			bus.Close()
			return strconv.Itoa(port)
		}
	}
}

// Client returns a client, which is closed with the test.
func (s *Server) Client() *goredis.Client {
	c := goredis.NewClient(&goredis.Options{Addr: s.Addr, DialerRetries: 1})
	s.t.Cleanup(func() { c.Close() })
	return c
}

// Restart starts the server where it does not run, and waits until it answers.
func (s *Server) Restart() {
	s.t.Helper()
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.cmd != nil {
		return
	}
	s.out.Reset()
	s.cmd = exec.Command("redis-server", s.args...)
	s.cmd.Stdout, s.cmd.Stderr = &s.out, &s.out
	if err := s.cmd.Start(); err != nil {
		s.cmd = nil
		s.t.Fatalf("start redis-server: %v", err)
	}
	if err := answers(s.Addr); err != nil {
		_ = s.cmd.Process.Kill()
		_ = s.cmd.Wait()
		s.t.Fatalf("redis-server %v: %v\n%s", s.args, err, s.out.String())
	}
}

// answers waits until the server at addr answers, be it with a refusal, and
// does not load its data any more.
func answers(addr string) error {
	deadline := time.Now().Add(startTimeout)
	for {
		answer, err := ping(addr)
		if err == nil && !bytes.HasPrefix(answer, []byte("-LOADING")) {
			return nil
		}
		if time.Now().After(deadline) {
			return fmt.Errorf("no answer but %q: %w", answer, err)
		}
		time.Sleep(5 * time.Millisecond)
	}
}

// ping returns what a server says first. One that speaks TLS only says nothing
// that can be read here.
func ping(addr string) ([]byte, error) {
	conn, err := net.DialTimeout("tcp", addr, time.Second)
	if err != nil {
		return nil, err
	}
	defer conn.Close()
	_ = conn.SetDeadline(time.Now().Add(time.Second))
	_, _ = conn.Write([]byte("PING\r\n"))
	answer := make([]byte, 64)
	n, _ := conn.Read(answer)
	return answer[:n], nil
}

// Stop ends the server as a service manager does, with its data on disk.
func (s *Server) Stop() { s.end(syscall.SIGTERM) }

// Kill ends the server as a crash does.
func (s *Server) Kill() { s.end(syscall.SIGKILL) }

func (s *Server) end(how syscall.Signal) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.cmd == nil {
		return
	}
	_ = s.cmd.Process.Signal(how)
	_ = s.cmd.Process.Signal(syscall.SIGCONT)
	_ = s.cmd.Wait()
	s.cmd = nil
}

// Pause stops the server from answering, with its connections open, as a
// machine does that is cut off. Resume has it go on.
func (s *Server) Pause() { s.signal(syscall.SIGSTOP) }

// Resume is the end of Pause.
func (s *Server) Resume() { s.signal(syscall.SIGCONT) }

func (s *Server) signal(sig syscall.Signal) {
	s.t.Helper()
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.cmd == nil {
		s.t.Fatalf("no server runs at %s", s.Addr)
	}
	if err := s.cmd.Process.Signal(sig); err != nil {
		s.t.Fatal(err)
	}
}
