// Package shim is the process between Holdfast and an engine that applies. It
// is there so that a killed, crashed or upgraded server does not kill an apply
// half way, which would leave resources that no state knows of: the engine
// runs in a session of its own, with its output and its exit in files, and a
// server that comes back follows it or reads how it ended.
//
// Three processes take part. terraform-exec starts Holdfast's own executable
// as if it were the engine: the front. It is killed with the server. For
// `apply` the front starts Holdfast's executable once more, in a new session:
// the supervisor, which starts the engine and records its end. All that they
// know is in one directory per apply:
//
//	owner    who decided about this apply: a supervisor, or Abandon
//	alive    locked while the supervisor lives
//	engine   locked while the engine, or a child of it, lives
//	pid      the engine's process id
//	control  a FIFO that takes requests to stop
//	stdout   what the engine printed
//	stderr   what it complained of
//	exit     how it ended
package shim

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"time"
)

// Variables by which Main knows what it is. None of them reaches the engine.
const (
	// Dir makes the process a front; its value is the apply's directory.
	Dir = "HOLDFAST_SHIM"
	// Engine is the absolute path of the real engine.
	Engine = "HOLDFAST_SHIM_ENGINE"
	// EnvPrefix marks variables that the engine gets without the prefix. It
	// carries those that terraform-exec refuses to carry (TF_VAR_*, TF_LOG …).
	EnvPrefix = "HOLDFAST_SHIM_ENV_"

	supervise   = "HOLDFAST_SHIM_SUPERVISE"
	shimPrefix  = "HOLDFAST_SHIM"
	maxOutput   = 64 << 10
	dirPerm     = 0o700
	filePerm    = 0o600
	exitReserve = 4 << 10 // bytes set aside for the exit file, see reserveExit
)

// Exit codes of the front where no engine ran.
const (
	codeUsage     = 125 // the shim itself could not do its work
	codeAbandoned = 124 // somebody else owns the directory
	codeNoEngine  = 127 // the engine's file could not be started
)

var (
	// ErrGone says that neither supervisor nor engine lives and that no end
	// was recorded: the machine was restarted, or both were killed. What the
	// engine did has to be found out by a plan.
	ErrGone = errors.New("the engine is gone and its end was not recorded")
	// ErrUnsupported says that this operating system has no shim.
	ErrUnsupported = errors.New("applies need a Unix system")
)

// Exit is how an engine ended.
type Exit struct {
	Code    int       `json:"code"`             // -1 where a signal ended it
	Signal  string    `json:"signal,omitempty"` // "killed", "interrupt", …
	EndedAt time.Time `json:"ended_at"`
	// Interrupted says that the engine was asked to stop: one that failed then
	// may have left the rest of its work.
	Interrupted bool `json:"interrupted,omitempty"`
	// Output is what the engine wrote to its standard error: its error
	// messages, 64 KiB of them at most.
	Output string `json:"-"`
	// Printed is what it wrote to its standard output, bounded likewise.
	Printed string `json:"-"`
}

// Success says that the engine did all that it was asked to.
func (e Exit) Success() bool { return e.Code == 0 && e.Signal == "" }

// Killed says that a signal ended the engine: it has not saved its state. An
// interrupt that it was sent is not meant: that ends an engine only before it
// listens for one, which is the first thing that it does.
func (e Exit) Killed() bool { return e.Signal != "" && !(e.Interrupted && e.Signal == "interrupt") }

// String describes the end for people: "exit code 1", "signal: killed".
func (e Exit) String() string {
	if e.Signal != "" {
		return "signal: " + e.Signal
	}
	return fmt.Sprintf("exit code %d", e.Code)
}

// Read returns how the engine of dir ended. It is an error matching
// fs.ErrNotExist where it has not ended, or where its end was not recorded.
func Read(dir string) (Exit, error) {
	data, err := os.ReadFile(filepath.Join(dir, "exit"))
	if err != nil {
		return Exit{}, fmt.Errorf("read the engine's exit: %w", err)
	}
	var e Exit
	if err := json.Unmarshal(data, &e); err != nil {
		return Exit{}, fmt.Errorf("read the engine's exit: %w", err)
	}
	e.Output = readBounded(filepath.Join(dir, "stderr"))
	e.Printed = readBounded(filepath.Join(dir, "stdout"))
	return e, nil
}

// readBounded returns a file's text. Of a longer one it returns the beginning,
// where the cause is, and the end.
func readBounded(path string) string {
	f, err := os.Open(path)
	if err != nil {
		return ""
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return ""
	}
	if info.Size() <= maxOutput {
		data, _ := io.ReadAll(io.LimitReader(f, maxOutput))
		return string(data)
	}
	const half = maxOutput / 2
	head := make([]byte, half)
	tail := make([]byte, half)
	n, _ := f.ReadAt(head, 0)
	t, _ := f.ReadAt(tail, info.Size()-half)
	left := info.Size() - int64(n) - int64(t)
	return strings.ToValidUTF8(fmt.Sprintf("%s\n[%d bytes left out]\n%s", head[:n], left, tail[:t]), "\uFFFD")
}

// owner is the content of the owner file.
type owner struct {
	Abandoned bool      `json:"abandoned,omitempty"`
	Pid       int       `json:"pid"` // of the process that decided
	At        time.Time `json:"at"`
}

// claim makes dir's owner file, durably. It returns false where there is one
// already. The file appears with all of its content or not at all, and one
// process alone can make it.
func claim(dir string, o owner) (bool, error) {
	data, err := json.Marshal(o)
	if err != nil {
		return false, err
	}
	tmp, err := os.CreateTemp(dir, ".owner-*")
	if err != nil {
		return false, err
	}
	defer os.Remove(tmp.Name())
	_, err = tmp.Write(data)
	err = errors.Join(err, tmp.Sync(), tmp.Close())
	if err != nil {
		return false, err
	}
	err = os.Link(tmp.Name(), filepath.Join(dir, "owner"))
	if errors.Is(err, os.ErrExist) {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	// The name must survive a power cut: without it, Abandon would say that
	// nothing had been started here.
	return true, syncDir(dir)
}

// readOwner returns who owns dir. It matches fs.ErrNotExist where nobody does.
func readOwner(dir string) (owner, error) {
	var o owner
	data, err := os.ReadFile(filepath.Join(dir, "owner"))
	if err != nil {
		return o, err
	}
	return o, json.Unmarshal(data, &o)
}

// Abandon settles for a restarted server whether an engine was started in dir.
// It returns true when none was and, from now on, none can be: a front or
// supervisor that is late finds that it may not. It returns false when one was
// started; Follow then tells what became of it. It makes dir where it is
// missing and may be called again with the same answer. What was settled before
// is told on a full disk as well.
func Abandon(dir string) (bool, error) {
	if o, err := readOwner(dir); err == nil {
		return o.Abandoned, nil
	}
	if err := os.MkdirAll(dir, dirPerm); err != nil {
		return false, fmt.Errorf("abandon an apply: %w", err)
	}
	won, err := claim(dir, owner{Abandoned: true, Pid: os.Getpid(), At: time.Now().UTC()})
	if err != nil {
		return false, fmt.Errorf("abandon an apply: %w", err)
	}
	if won {
		return true, nil
	}
	o, err := readOwner(dir)
	if err != nil {
		return false, fmt.Errorf("abandon an apply: %w", err)
	}
	return o.Abandoned, nil
}

// Used says whether dir is somebody's already, so that no apply can be started
// in it.
func Used(dir string) (bool, error) {
	_, err := os.Stat(filepath.Join(dir, "owner"))
	if errors.Is(err, os.ErrNotExist) {
		return false, nil
	}
	return err == nil, err
}

// environ splits a shim's environment into the engine's, without the shim's
// own variables and with the prefixed ones under their real names.
func environ(env []string) []string {
	var out, carried []string
	named := map[string]bool{}
	for _, kv := range env {
		if rest, ok := strings.CutPrefix(kv, EnvPrefix); ok {
			carried = append(carried, rest)
			name, _, _ := strings.Cut(rest, "=")
			named[name] = true
		}
	}
	for _, kv := range env {
		name, _, _ := strings.Cut(kv, "=")
		if !strings.HasPrefix(name, shimPrefix) && !named[name] {
			out = append(out, kv)
		}
	}
	return append(out, carried...)
}

func syncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}
