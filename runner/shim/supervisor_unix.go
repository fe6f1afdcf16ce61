//go:build unix

package shim

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strconv"
	"sync/atomic"
	"syscall"
	"time"
)

// supervisor starts the engine with args in dir's name, waits for its end and
// records it. It returns the code to exit with, and what went wrong besides the
// engine itself.
func supervisor(dir, engine string, args, env []string) (int, error) {
	// The engine gets requests to stop by the FIFO alone. Where a service
	// manager signals the whole group, the engine has had its signal already,
	// and a second one would make it drop its work. Caught, not ignored: what
	// is ignored here would be ignored by the engine's children too.
	signal.Notify(make(chan os.Signal, 1), syscall.SIGHUP, syscall.SIGINT, syscall.SIGTERM)
	s := &supervised{dir: dir}
	defer s.close()
	code, err := s.prepare()
	if err != nil {
		return code, err
	}
	return s.run(engine, args, env)
}

// supervised holds the files of one apply.
type supervised struct {
	dir            string
	alive, engine  *os.File // locked files
	control        *os.File
	stdout, stderr *os.File
	reserve        *os.File // becomes the exit file
	interrupted    atomic.Bool
}

// prepare takes dir for this process and makes all files. After it, only a
// failing disk or executable keeps the engine from starting.
func (s *supervised) prepare() (int, error) {
	if err := os.MkdirAll(s.dir, dirPerm); err != nil {
		return codeUsage, fmt.Errorf("make the apply's directory: %w", err)
	}
	if _, err := readOwner(s.dir); err == nil {
		return codeAbandoned, errors.New("this apply was given up, or was started already")
	}
	// The lock comes before the owner file: whoever sees the owner can trust
	// that a free lock means a dead supervisor.
	var err error
	if s.alive, err = lockFile(filepath.Join(s.dir, "alive")); err != nil {
		return codeUsage, err
	}
	if s.engine, err = lockFile(filepath.Join(s.dir, "engine")); err != nil {
		return codeUsage, err
	}
	won, err := claim(s.dir, owner{Pid: os.Getpid(), At: time.Now().UTC()})
	if err != nil {
		return codeUsage, fmt.Errorf("own the apply: %w", err)
	}
	if !won {
		return codeAbandoned, errors.New("this apply was given up, or was started already")
	}
	if err := s.open(); err != nil {
		return codeUsage, s.fail(codeUsage, err)
	}
	return 0, nil
}

func (s *supervised) open() (err error) {
	if s.stderr, err = create(filepath.Join(s.dir, "stderr")); err != nil {
		return err
	}
	if s.stdout, err = create(filepath.Join(s.dir, "stdout")); err != nil {
		return err
	}
	fifo := filepath.Join(s.dir, "control")
	if err := syscall.Mkfifo(fifo, filePerm); err != nil {
		return fmt.Errorf("make control FIFO: %w", err)
	}
	// Open for writing too: a FIFO without a writer would read as ended.
	if s.control, err = os.OpenFile(fifo, os.O_RDWR, 0); err != nil {
		return fmt.Errorf("open control FIFO: %w", err)
	}
	return s.reserveExit()
}

// reserveExit sets disk space aside for the exit file, so that an apply's end
// is recorded even when the disk has filled up meanwhile.
func (s *supervised) reserveExit() (err error) {
	if s.reserve, err = create(filepath.Join(s.dir, ".exit")); err != nil {
		return err
	}
	blank := make([]byte, exitReserve)
	for i := range blank {
		blank[i] = ' '
	}
	if _, err := s.reserve.WriteAt(blank, 0); err != nil {
		return fmt.Errorf("reserve exit file: %w", err)
	}
	return s.reserve.Sync()
}

// run starts the engine and waits for it.
func (s *supervised) run(engine string, args, env []string) (int, error) {
	cmd := exec.Command(engine, args...)
	cmd.Env = env
	cmd.Stdout, cmd.Stderr = s.stdout, s.stderr // files: no pipe that breaks with this process
	cmd.ExtraFiles = []*os.File{s.engine}
	if err := cmd.Start(); err != nil {
		return codeNoEngine, s.fail(codeNoEngine, fmt.Errorf("start the engine: %w", err))
	}
	// From here on the lock is the engine's alone.
	s.engine.Close()
	pid := strconv.Itoa(cmd.Process.Pid)
	pidErr := os.WriteFile(filepath.Join(s.dir, "pid"), []byte(pid), filePerm)
	go s.forward(cmd.Process)
	err := waitErr(cmd.Wait())
	exit := exitOf(cmd.ProcessState)
	exit.Interrupted = s.interrupted.Load()
	return frontCode(exit), errors.Join(pidErr, err, s.record(exit))
}

// fail records that the directory was taken and that no engine will run, with
// the reason in the engine's place.
func (s *supervised) fail(code int, err error) error {
	if s.stderr != nil {
		fmt.Fprintf(s.stderr, "Error: %v\n", err)
	}
	return errors.Join(err, s.record(Exit{Code: code, EndedAt: time.Now().UTC()}))
}

// waitErr drops the error that only says that the engine's exit was not 0.
func waitErr(err error) error {
	var exit *exec.ExitError
	if errors.As(err, &exit) {
		return nil
	}
	return err
}

// forward interrupts the engine once for each byte in the FIFO.
func (s *supervised) forward(engine *os.Process) {
	buf := make([]byte, 1)
	for {
		if n, err := s.control.Read(buf); err != nil || n == 0 {
			return
		}
		s.interrupted.Store(true)
		_ = engine.Signal(os.Interrupt) // it may have ended: nothing to do then
	}
}

// record writes the exit file: whole, durable, or not at all.
func (s *supervised) record(e Exit) error {
	data, err := json.Marshal(e)
	if err != nil {
		return fmt.Errorf("record the engine's exit: %w", err)
	}
	if s.reserve == nil {
		if s.reserve, err = create(filepath.Join(s.dir, ".exit")); err != nil {
			return fmt.Errorf("record the engine's exit: %w", err)
		}
	}
	_, err = s.reserve.WriteAt(data, 0)
	if err == nil {
		err = s.reserve.Sync()
	}
	if err == nil {
		err = os.Rename(s.reserve.Name(), filepath.Join(s.dir, "exit"))
	}
	if err == nil {
		err = syncDir(s.dir)
	}
	if err != nil {
		return fmt.Errorf("record the engine's exit: %w", err)
	}
	return nil
}

func (s *supervised) close() {
	for _, f := range []*os.File{s.control, s.stdout, s.stderr, s.reserve, s.engine, s.alive} {
		if f != nil {
			f.Close()
		}
	}
}

func exitOf(state *os.ProcessState) Exit {
	e := Exit{Code: state.ExitCode(), EndedAt: time.Now().UTC()}
	if ws, ok := state.Sys().(syscall.WaitStatus); ok && ws.Signaled() {
		e.Signal = ws.Signal().String()
	}
	return e
}

// frontCode is the exit code that a shell would show for e.
func frontCode(e Exit) int {
	if e.Code < 0 {
		return 128 + int(syscall.SIGKILL)
	}
	return e.Code
}

func create(path string) (*os.File, error) {
	// No O_TRUNC: a directory is used once, and what is there must not be
	// lost.
	return os.OpenFile(path, os.O_CREATE|os.O_RDWR, filePerm)
}

// lockFile opens path and holds its lock until the file, in every process that
// inherited it, is closed.
func lockFile(path string) (*os.File, error) {
	f, err := create(path)
	if err != nil {
		return nil, fmt.Errorf("lock: %w", err)
	}
	if err := flock(f, syscall.LOCK_EX); err != nil {
		f.Close()
		return nil, fmt.Errorf("lock %s: %w", path, err)
	}
	return f, nil
}

func flock(f *os.File, how int) error {
	for {
		err := syscall.Flock(int(f.Fd()), how)
		if !errors.Is(err, syscall.EINTR) {
			return err
		}
	}
}

// locked says whether somebody holds the lock of path.
func locked(path string) (bool, error) {
	f, err := os.Open(path)
	if errors.Is(err, os.ErrNotExist) {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	defer f.Close() // gives the lock back, where it was free
	err = flock(f, syscall.LOCK_SH|syscall.LOCK_NB)
	if errors.Is(err, syscall.EWOULDBLOCK) {
		return true, nil
	}
	return false, err
}
