//go:build unix

package shim

import (
	"os"
	"os/exec"
	"path/filepath"
	"reflect"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
)

// Abandon and a supervisor at the same moment: one of them wins, and both know
// which.
func TestAbandonRace(t *testing.T) {
	engine, err := exec.LookPath("touch")
	if err != nil {
		t.Fatal(err)
	}
	base := t.TempDir()
	var started atomic.Int64
	rounds := make(chan int)
	var wg sync.WaitGroup
	for range 8 { // the disk, which is waited for, can take several at once
		wg.Go(func() {
			for i := range rounds {
				if raceOnce(t, filepath.Join(base, strconv.Itoa(i)), engine) {
					started.Add(1)
				}
			}
		})
	}
	for i := range 1000 {
		rounds <- i
	}
	close(rounds)
	wg.Wait()
	t.Logf("the engine was started in %d of 1000 rounds", started.Load())
}

// raceOnce returns whether the engine ran.
func raceOnce(t *testing.T, dir, engine string) bool {
	mark := filepath.Join(dir, "ran")
	var wg sync.WaitGroup
	var code int
	var abandoned bool
	var err error
	gate := make(chan struct{})
	wg.Go(func() {
		<-gate
		code, _ = supervisor(dir, engine, []string{mark}, os.Environ())
	})
	wg.Go(func() {
		<-gate
		abandoned, err = Abandon(dir)
	})
	close(gate)
	wg.Wait()
	_, statErr := os.Stat(mark)
	ran := statErr == nil
	if err != nil || ran == abandoned || (code == 0) != ran {
		t.Errorf("%s: abandoned %v (%v), engine ran %v, supervisor's code %d", dir, abandoned, err, ran, code)
	}
	return ran
}

func TestEnviron(t *testing.T) {
	got := environ([]string{
		"PATH=/bin", Dir + "=/d", Engine + "=/e", supervise + "=/d", "TF_LOG=",
		EnvPrefix + "TF_LOG=TRACE", EnvPrefix + "TF_VAR_a=x=y", "HOLDFAST_OTHER=kept by its owner",
	})
	want := []string{"PATH=/bin", "HOLDFAST_OTHER=kept by its owner", "TF_LOG=TRACE", "TF_VAR_a=x=y"}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("environ = %q, want %q", got, want)
	}
}

func TestReadBounded(t *testing.T) {
	path := filepath.Join(t.TempDir(), "stderr")
	long := "first line\n" + strings.Repeat("x", 1<<20) + "\nlast line\n"
	if err := os.WriteFile(path, []byte(long), 0o600); err != nil {
		t.Fatal(err)
	}
	got := readBounded(path)
	if len(got) > maxOutput+100 || !strings.HasPrefix(got, "first line") || !strings.HasSuffix(got, "last line\n") {
		t.Errorf("readBounded: %d bytes, %q … %q", len(got), got[:20], got[len(got)-20:])
	}
}

func FuzzRead(f *testing.F) {
	f.Add([]byte(`{"code":1,"ended_at":"2026-01-02T03:04:05Z"}   `))
	f.Add([]byte(`{"code":"x"}`))
	f.Add([]byte{})
	f.Fuzz(func(t *testing.T, data []byte) {
		dir := t.TempDir()
		if err := os.WriteFile(filepath.Join(dir, "exit"), data, 0o600); err != nil {
			t.Fatal(err)
		}
		if e, err := Read(dir); err == nil && e.String() == "" {
			t.Error("an exit without words")
		}
	})
}
