//go:build unix

package shim_test

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"holdfast/runner/shim"
)

// The test binary is everything: the test, the shim and the engine.
func TestMain(m *testing.M) {
	shim.Main()
	if addr := os.Getenv("TEST_ENGINE"); addr != "" {
		os.Exit(testEngine(addr))
	}
	os.Exit(m.Run())
}

// testEngine connects to the test and does what it is told, a line at a time.
// The first line that it sends has its process id, arguments and environment.
func testEngine(addr string) int {
	signals := make(chan os.Signal, 8)
	signal.Notify(signals, os.Interrupt)
	conn, err := net.Dial("tcp", addr)
	if err != nil {
		return 99
	}
	hello, _ := json.Marshal(hello{Pid: os.Getpid(), Parent: os.Getppid(), Args: os.Args[1:], Env: os.Environ()})
	fmt.Fprintf(conn, "%s\n", hello)
	go func() {
		for s := range signals {
			fmt.Fprintf(conn, "signal %v\n", s)
		}
	}()
	in := bufio.NewScanner(conn)
	for in.Scan() {
		verb, rest, _ := strings.Cut(in.Text(), " ")
		switch verb {
		case "out":
			fmt.Println(rest)
		case "err":
			fmt.Fprintln(os.Stderr, rest)
		case "exit":
			code, _ := strconv.Atoi(rest)
			return code
		}
	}
	return 98
}

type hello struct {
	Pid, Parent int
	Args, Env   []string
}

// engine is the test's end of a running test engine.
type engine struct {
	hello
	conn net.Conn
	in   *bufio.Scanner
}

func (e *engine) tell(format string, args ...any) { fmt.Fprintf(e.conn, format+"\n", args...) }

// hears returns the next line that the engine sends.
func (e *engine) hears(t *testing.T) string {
	t.Helper()
	if !e.in.Scan() {
		t.Fatalf("the engine is gone: %v", e.in.Err())
	}
	return e.in.Text()
}

// stage is where test engines connect.
type stage struct {
	net.Listener
	dir string
}

func newStage(t *testing.T) *stage {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	return &stage{l, filepath.Join(t.TempDir(), "apply")}
}

func (s *stage) accept(t *testing.T) *engine {
	t.Helper()
	conn, err := s.Accept()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	e := &engine{conn: conn, in: bufio.NewScanner(conn)}
	e.in.Buffer(nil, 1<<20)
	if err := json.Unmarshal([]byte(e.hears(t)), &e.hello); err != nil {
		t.Fatal(err)
	}
	return e
}

// front is a started front with what it prints.
type front struct {
	*exec.Cmd
	out, err bytes.Buffer
}

// front starts the test binary as terraform-exec would start the front.
func (s *stage) front(t *testing.T, args ...string) *front {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	f := &front{Cmd: exec.Command(self, args...)}
	f.Env = append(os.Environ(), "TEST_ENGINE="+s.Addr().String(),
		shim.Dir+"="+s.dir, shim.Engine+"="+self,
		shim.EnvPrefix+"TF_VAR_password=a=b", "TF_LOG=", shim.EnvPrefix+"TF_LOG=DEBUG")
	f.Stdout, f.Stderr = &f.out, &f.err
	if err := f.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { f.Process.Kill() })
	return f
}

func ctx(t *testing.T) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	t.Cleanup(cancel)
	return ctx
}

func TestApply(t *testing.T) {
	s := newStage(t)
	f := s.front(t, "apply", "-input=false", "plan file")
	e := s.accept(t)
	if got, want := strings.Join(e.Args, "|"), "apply|-input=false|plan file"; got != want {
		t.Errorf("arguments = %q, want %q", got, want)
	}
	env := strings.Join(e.Env, "\n") + "\n"
	for _, want := range []string{"TF_VAR_password=a=b\n", "TF_LOG=DEBUG\n"} {
		if !strings.Contains(env, want) {
			t.Errorf("the engine's environment misses %q", want)
		}
	}
	if strings.Contains(env, shim.Dir) || strings.Contains(env, "TF_LOG=\n") {
		t.Errorf("the engine's environment has too much:\n%s", env)
	}
	e.tell("out creating")
	e.tell("err Error: no")
	e.tell("exit 3")
	if err := f.Wait(); err == nil || f.ProcessState.ExitCode() != 3 {
		t.Errorf("front ended with %v, want exit code 3", err)
	}
	if f.out.String() != "creating\n" || f.err.String() != "Error: no\n" {
		t.Errorf("front printed %q and %q", &f.out, &f.err)
	}
	exit, err := shim.Read(s.dir)
	if err != nil || exit.Code != 3 || exit.Output != "Error: no\n" || time.Since(exit.EndedAt) > time.Minute {
		t.Errorf("Read = %+v, %v", exit, err)
	}
	if abandoned, err := shim.Abandon(s.dir); abandoned || err != nil {
		t.Errorf("Abandon = %v, %v after an apply", abandoned, err)
	}
	checkModes(t, s.dir)
}

func checkModes(t *testing.T, dir string) {
	t.Helper()
	info, err := os.Stat(dir)
	if err != nil || info.Mode().Perm() != 0o700 {
		t.Errorf("mode of the directory = %v, %v", info.Mode(), err)
	}
	entries, _ := os.ReadDir(dir)
	for _, e := range entries {
		if info, err := e.Info(); err != nil || info.Mode().Perm() != 0o600 {
			t.Errorf("mode of %s = %v, %v", e.Name(), info.Mode(), err)
		}
	}
}

func TestKilledFront(t *testing.T) {
	s := newStage(t)
	f := s.front(t, "apply", "plan")
	e := s.accept(t)
	e.tell("out one")
	f.Process.Kill()
	f.Wait()

	var log syncBuffer
	type result struct {
		exit shim.Exit
		err  error
	}
	results := make(chan result, 1)
	go func() {
		exit, err := shim.Follow(ctx(t), s.dir, &log)
		results <- result{exit, err}
	}()
	if abandoned, err := shim.Abandon(s.dir); abandoned || err != nil {
		t.Errorf("Abandon = %v, %v while the engine runs", abandoned, err)
	}
	e.tell("out two")
	e.tell("exit 0")
	r := <-results
	if r.err != nil || !r.exit.Success() {
		t.Errorf("Follow = %+v, %v", r.exit, r.err)
	}
	if log.String() != "one\ntwo\n" {
		t.Errorf("followed output = %q", log.String())
	}
	// And again, later, all of it.
	var again bytes.Buffer
	if _, err := shim.Follow(ctx(t), s.dir, &again); err != nil || again.String() != "one\ntwo\n" {
		t.Errorf("second Follow: %q, %v", &again, err)
	}
}

func TestAllKilled(t *testing.T) {
	s := newStage(t)
	f := s.front(t, "apply", "plan")
	e := s.accept(t)
	f.Process.Kill()
	f.Wait()
	kill(t, e.Parent) // the supervisor
	for err := error(nil); !errors.Is(err, shim.ErrGone); err = shim.Interrupt(s.dir) {
		if t.Context().Err() != nil {
			t.Fatal("a killed supervisor takes requests")
		}
	}
	if alive, err := shim.Alive(s.dir); !alive || err != nil {
		t.Errorf("Alive = %v, %v while the engine lives", alive, err)
	}
	// Without its supervisor the engine goes on.
	e.tell("out still here")
	kill(t, e.Pid)
	var log bytes.Buffer
	if exit, err := shim.Follow(ctx(t), s.dir, &log); !errors.Is(err, shim.ErrGone) {
		t.Errorf("Follow = %+v, %v, want ErrGone", exit, err)
	}
	if abandoned, err := shim.Abandon(s.dir); abandoned || err != nil {
		t.Errorf("Abandon = %v, %v after a lost apply", abandoned, err)
	}
}

func TestKilledEngine(t *testing.T) {
	s := newStage(t)
	f := s.front(t, "apply", "plan")
	e := s.accept(t)
	kill(t, e.Pid)
	exit, err := shim.Follow(ctx(t), s.dir, &bytes.Buffer{})
	if err != nil || exit.Success() || exit.Code != -1 || exit.String() != "signal: killed" {
		t.Errorf("Follow = %+v, %v", exit, err)
	}
	if f.Wait(); f.ProcessState.ExitCode() != 137 {
		t.Errorf("front ended with %v", f.ProcessState)
	}
}

func TestSignals(t *testing.T) {
	s := newStage(t)
	f := s.front(t, "apply", "plan")
	e := s.accept(t)
	for _, sig := range []os.Signal{os.Interrupt, syscall.SIGTERM} {
		f.Process.Signal(sig)
		if got := e.hears(t); got != "signal interrupt" {
			t.Errorf("after %v of the front the engine got %q", sig, got)
		}
	}
	// A service manager that signals everybody: the supervisor passes nothing
	// on and lives.
	syscall.Kill(e.Parent, syscall.SIGTERM)
	syscall.Kill(e.Parent, syscall.SIGHUP)
	if err := shim.Interrupt(s.dir); err != nil {
		t.Errorf("Interrupt = %v", err)
	}
	if got := e.hears(t); got != "signal interrupt" {
		t.Errorf("after Interrupt the engine got %q", got)
	}
	e.tell("exit 1")
	if f.Wait(); f.ProcessState.ExitCode() != 1 {
		t.Errorf("front ended with %v", f.ProcessState)
	}
	if err := shim.Interrupt(s.dir); !errors.Is(err, shim.ErrGone) {
		t.Errorf("Interrupt of an ended apply = %v", err)
	}
}

func TestAbandonedBeforeStart(t *testing.T) {
	s := newStage(t)
	for range 2 {
		if abandoned, err := shim.Abandon(s.dir); !abandoned || err != nil {
			t.Fatalf("Abandon = %v, %v", abandoned, err)
		}
	}
	f := s.front(t, "apply", "plan")
	if err := f.Wait(); err == nil || f.ProcessState.ExitCode() != 124 || !strings.Contains(f.err.String(), "given up") {
		t.Errorf("front of an abandoned apply: %v, %q", err, &f.err)
	}
	if _, err := shim.Follow(ctx(t), s.dir, &bytes.Buffer{}); !errors.Is(err, shim.ErrGone) {
		t.Errorf("Follow of an abandoned apply = %v", err)
	}
}

func TestSecondApplyInOneDirectory(t *testing.T) {
	s := newStage(t)
	f := s.front(t, "apply", "plan")
	s.accept(t).tell("exit 0")
	f.Wait()
	if f := s.front(t, "apply", "plan"); f.Wait() == nil && f.ProcessState.ExitCode() != 0 {
		t.Errorf("second front: %v", f.ProcessState)
	}
	// It tells the first one's end and starts nothing: no engine connected.
	s.Listener.(*net.TCPListener).SetDeadline(time.Now())
	if conn, err := s.Accept(); err == nil {
		conn.Close()
		t.Error("a second engine was started")
	}
}

func TestOtherCommandsBecomeTheEngine(t *testing.T) {
	s := newStage(t)
	f := s.front(t, "version", "-json")
	e := s.accept(t)
	if e.Pid != f.Process.Pid {
		t.Errorf("the engine's process is %d, the front's %d", e.Pid, f.Process.Pid)
	}
	if env := strings.Join(e.Env, "\n"); strings.Contains(env, shim.Dir) {
		t.Errorf("environment:\n%s", env)
	}
	e.tell("exit 7")
	if f.Wait(); f.ProcessState.ExitCode() != 7 {
		t.Errorf("ended with %v", f.ProcessState)
	}
	if _, err := os.Stat(s.dir); err == nil {
		t.Error("a directory was made")
	}
}

func TestEngineThatDoesNotStart(t *testing.T) {
	s := newStage(t)
	self, _ := os.Executable()
	f := exec.Command(self, "apply", "plan")
	f.Env = append(os.Environ(), shim.Dir+"="+s.dir, shim.Engine+"=/does/not/exist")
	out, err := f.CombinedOutput()
	if err == nil || f.ProcessState.ExitCode() != 127 || !strings.Contains(string(out), "start the engine") {
		t.Errorf("front: %v, %q", err, out)
	}
	exit, err := shim.Follow(ctx(t), s.dir, &bytes.Buffer{})
	if err != nil || exit.Code != 127 || !strings.Contains(exit.Output, "no such file") {
		t.Errorf("Follow = %+v, %v", exit, err)
	}
}

// A front that is killed at any moment has started an engine, and Abandon says
// so, or none, and Abandon keeps it so.
func TestFrontKilledAtAnyMoment(t *testing.T) {
	for _, moment := range []string{"", ".", "log", "alive", "engine", "owner", "control", "stderr", "pid"} {
		t.Run("after "+moment, func(t *testing.T) {
			t.Parallel()
			s := newStage(t)
			f := s.front(t, "apply", "plan")
			for moment != "" && !exists(filepath.Join(s.dir, moment)) {
				runtime.Gosched()
			}
			f.Process.Kill()
			f.Wait()
			abandoned, err := shim.Abandon(s.dir)
			if err != nil {
				t.Fatal(err)
			}
			switch {
			case abandoned && slices.Contains([]string{"owner", "control", "stderr", "pid"}, moment):
				t.Error("abandoned although the supervisor was the owner")
			case !abandoned:
				s.accept(t).tell("exit 0")
				if exit, err := shim.Follow(ctx(t), s.dir, &bytes.Buffer{}); err != nil || !exit.Success() {
					t.Errorf("Follow = %+v, %v", exit, err)
				}
			}
		})
	}
}

func exists(path string) bool {
	_, err := os.Stat(path)
	return err == nil
}

func TestFollowEndsWithItsContext(t *testing.T) {
	s := newStage(t)
	s.front(t, "apply", "plan")
	e := s.accept(t)
	ctx, cancel := context.WithCancel(context.Background())
	e.tell("out hello")
	got := writerFunc(func(p []byte) (int, error) {
		cancel()
		return 0, errors.New("full")
	})
	if _, err := shim.Follow(ctx, s.dir, got); !errors.Is(err, context.Canceled) {
		t.Errorf("Follow = %v", err)
	}
	e.tell("exit 0")
}

func kill(t *testing.T, pid int) {
	t.Helper()
	if err := syscall.Kill(pid, syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
}

type writerFunc func([]byte) (int, error)

func (f writerFunc) Write(p []byte) (int, error) { return f(p) }

type syncBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (b *syncBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.Write(p)
}

func (b *syncBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.String()
}
