package terraform

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os/exec"
	"regexp"
	"strings"
	"sync"
	"time"
)

const (
	maxErrorText = 64 << 10  // of an engine's error output
	maxJSON      = 512 << 20 // of `show -json`; beyond it a plan is no use to anybody
)

// process is one engine command.
type process struct {
	path, dir string
	args, env []string
	stdout    *bounded // instead of the log; nil: the log
	log       io.Writer
	grace     time.Duration // from interrupt to kill
}

// run starts the process, waits for it and returns its exit code and what it
// wrote to standard error. When ctx ends, the engine is interrupted, so that it
// gives its locks back, once more after a third of the grace time, and killed
// at its end, with all that it has started. The error is a context's, or one of starting; an exit code is none.
func (p process) run(ctx context.Context) (code int, errText string, err error) {
	if err := ctx.Err(); err != nil {
		return 0, "", err
	}
	cmd := exec.CommandContext(ctx, p.path, p.args...)
	cmd.Dir, cmd.Env = p.dir, p.env
	log := &logWriter{w: p.log}
	stderr := &bounded{max: maxErrorText}
	cmd.Stdout = log
	if p.stdout != nil {
		p.stdout.reset()
		cmd.Stdout = p.stdout
	}
	cmd.Stderr = io.MultiWriter(log, stderr)
	ownGroup(cmd)
	var killer, again *time.Timer
	cmd.Cancel = func() error {
		// Terraform loses an interrupt that comes between its taking the
		// state's lock and its first step, and waits for a provider that does
		// not stop. The second one ends it at once, with the lock given back.
		again = time.AfterFunc(p.grace/3, func() { _ = interrupt(cmd) })
		killer = time.AfterFunc(p.grace, func() { killGroup(cmd) })
		return interrupt(cmd)
	}
	// Behind the killer, for pipes that a stray grandchild holds open.
	cmd.WaitDelay = p.grace + 5*time.Second
	err = cmd.Run()
	if killer != nil { // Cancel ran, and Run has waited for it
		again.Stop()
		killer.Stop()
		killGroup(cmd)
	}
	if ctx.Err() != nil {
		return 0, stderr.String(), ctx.Err()
	}
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) && !errors.Is(err, exec.ErrWaitDelay) {
		return 0, "", err
	}
	return cmd.ProcessState.ExitCode(), stderr.String(), nil
}

// engineError is the error of a command that ended with code.
func engineError(command string, code int, text string) error {
	cause := fmt.Errorf("exit code %d", code)
	if code < 0 {
		cause = errors.New("ended by a signal")
	}
	return classify(&EngineError{Command: command, Output: clean(text), Err: cause})
}

// logWriter passes on what an engine prints, whole writes at a time. An error
// of the log must never stop the engine, so it ends the logging instead.
type logWriter struct {
	mu sync.Mutex
	w  io.Writer
}

func (l *logWriter) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.w != nil {
		if _, err := l.w.Write(p); err != nil {
			l.w = nil
		}
	}
	return len(p), nil
}

// bounded keeps the beginning of what is written to it.
type bounded struct {
	buf  bytes.Buffer
	max  int
	over int64
}

func (b *bounded) Write(p []byte) (int, error) {
	n := min(len(p), b.max-b.buf.Len())
	b.buf.Write(p[:n])
	b.over += int64(len(p) - n)
	return len(p), nil
}

func (b *bounded) reset() {
	b.buf.Reset()
	b.over = 0
}

func (b *bounded) String() string {
	if b.over == 0 {
		return b.buf.String()
	}
	return fmt.Sprintf("%s\n[%d bytes left out]\n", b.buf.String(), b.over)
}

// escapes are ANSI's control sequences: colours and links.
var escapes = regexp.MustCompile(`\x1b(\[[0-?]*[ -/]*[@-~]|\][^\x07\x1b]*(\x07|\x1b\\))`)

// clean makes an engine's text fit for a comment: no colours, no other control
// characters, no bytes that are not UTF-8.
func clean(text string) string {
	text = escapes.ReplaceAllString(strings.ToValidUTF8(text, "\uFFFD"), "")
	text = strings.Map(func(r rune) rune {
		if r == '\n' || r == '\t' || r >= ' ' && r != 0x7f {
			return r
		}
		return -1
	}, text)
	return strings.TrimSpace(text)
}
