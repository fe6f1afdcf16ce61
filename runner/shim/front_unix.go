//go:build unix

package shim

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"syscall"
)

// Main is to be called first thing in main. In a process that was started as a
// shim it does the shim's work and exits; in any other it returns at once.
func Main() {
	engine := os.Getenv(Engine)
	if dir := os.Getenv(supervise); dir != "" {
		code, err := supervisor(dir, engine, os.Args[1:], environ(os.Environ()))
		if err != nil {
			fmt.Fprintf(os.Stderr, "holdfast: %v\n", err)
		}
		os.Exit(code)
	}
	if dir := os.Getenv(Dir); dir != "" {
		os.Exit(front(dir, engine, os.Args[1:], os.Stdout, os.Stderr))
	}
}

// front stands in for the engine before terraform-exec.
func front(dir, engine string, args []string, stdout, stderr io.Writer) int {
	if !filepath.IsAbs(engine) || !filepath.IsAbs(dir) {
		fmt.Fprintf(stderr, "holdfast: %s and %s must be absolute paths\n", Dir, Engine)
		return codeUsage
	}
	if len(args) == 0 || args[0] != "apply" {
		// Nothing to protect: become the engine.
		err := syscall.Exec(engine, append([]string{engine}, args...), environ(os.Environ()))
		fmt.Fprintf(stderr, "holdfast: start the engine: %v\n", err)
		return codeNoEngine
	}
	code, err := frontApply(dir, args, stdout, stderr)
	if err != nil {
		fmt.Fprintf(stderr, "holdfast: %v\n", err)
	}
	return code
}

// frontApply starts the supervisor, shows what the engine prints, passes
// signals on and returns the engine's exit code.
func frontApply(dir string, args []string, stdout, stderr io.Writer) (int, error) {
	signals := make(chan os.Signal, 4)
	signal.Notify(signals, syscall.SIGINT, syscall.SIGTERM)
	defer signal.Stop(signals)
	if err := os.MkdirAll(dir, dirPerm); err != nil {
		return codeUsage, fmt.Errorf("make the apply's directory: %w", err)
	}
	// What the supervisor itself has to say goes to a file, as nobody may be
	// left to read a pipe.
	log, err := create(filepath.Join(dir, "log"))
	if err != nil {
		return codeUsage, fmt.Errorf("open the supervisor's log: %w", err)
	}
	defer log.Close()
	self, err := os.Executable()
	if err != nil {
		return codeUsage, fmt.Errorf("find own executable: %w", err)
	}
	cmd := exec.Command(self, args...)
	cmd.Env = append(os.Environ(), supervise+"="+dir)
	cmd.Stdout, cmd.Stderr = log, log
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	if err := cmd.Start(); err != nil {
		return codeUsage, fmt.Errorf("start the supervisor: %w", err)
	}
	ended, done := context.WithCancel(context.Background())
	go func() {
		_ = cmd.Wait() // its exit code is no news: the exit file has the engine's
		done()
	}()
	return await(ended, dir, signals, &tail{dir: dir, stdout: stdout, stderr: stderr})
}

// await shows the engine's output until the supervisor has ended.
func await(ended context.Context, dir string, signals <-chan os.Signal, t *tail) (int, error) {
	defer t.close()
	pending := 0
	ticker := newTicker()
	defer ticker.Stop()
	for {
		select {
		case <-ended.Done():
			t.copy()
			return frontEnd(dir)
		case <-signals:
			if detached(dir) {
				t.copy()
				return codeUsage, errors.New("the engine goes on without this process")
			}
			pending++
		case <-ticker.C:
			t.copy()
		}
		// A signal may come before the supervisor listens: keep it.
		for pending > 0 && Interrupt(dir) == nil {
			pending--
		}
	}
}

// Detach has the front of dir end at its next signal, and the engine go on.
func Detach(dir string) error {
	f, err := create(filepath.Join(dir, "detached"))
	if err != nil {
		return fmt.Errorf("leave the engine alone: %w", err)
	}
	return f.Close()
}

func detached(dir string) bool {
	_, err := os.Stat(filepath.Join(dir, "detached"))
	return err == nil
}

// frontEnd is the front's exit code after the supervisor's end.
func frontEnd(dir string) (int, error) {
	exit, err := Read(dir)
	if err == nil {
		return frontCode(exit), nil
	}
	if !errors.Is(err, os.ErrNotExist) {
		return codeUsage, err
	}
	o, err := readOwner(dir)
	if err == nil && o.Abandoned {
		return codeAbandoned, errors.New("this apply was given up before the engine was started")
	}
	return codeUsage, fmt.Errorf("the supervisor ended early: %s", readBounded(filepath.Join(dir, "log")))
}

// Interrupt asks the engine of dir to stop; it then finishes what it is at and
// saves its state. Asked a second time, Terraform stops at once. Interrupt
// returns ErrGone where no supervisor takes requests (any more, or yet).
func Interrupt(dir string) error {
	// Without a reader the open fails instead of waiting for one.
	f, err := os.OpenFile(filepath.Join(dir, "control"), os.O_WRONLY|syscall.O_NONBLOCK, 0)
	if errors.Is(err, os.ErrNotExist) || errors.Is(err, syscall.ENXIO) {
		return ErrGone
	}
	if err != nil {
		return fmt.Errorf("interrupt the engine: %w", err)
	}
	_, err = f.Write([]byte{'i'})
	if err = errors.Join(err, f.Close()); err != nil {
		return fmt.Errorf("interrupt the engine: %w", err)
	}
	return nil
}
