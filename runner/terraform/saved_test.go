package terraform_test

import (
	"archive/zip"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"holdfast/runner/terraform"
)

// savedPlan returns a rig with a saved plan of files, made in another checkout
// than the one in which it works now.
func savedPlan(t *testing.T, files map[string]string, versions ...string) *rig {
	t.Helper()
	r := newRig(t, terraform.Config{}, files)
	r.withProvider(t, versions...)
	r.m.StateFile = r.file("state/app.tfstate")
	r.plan(t)
	r.checkout(t, "two", files)
	r.called(t)
	return r
}

// machine has the rig work as another server would, with nothing but the state
// and the plan file in common.
func (r *rig) machine(t *testing.T, name string) {
	t.Helper()
	config := r.config
	config.DataDir = r.file(name)
	engines, err := terraform.New(config)
	if err != nil {
		t.Fatal(err)
	}
	r.Engines = engines
}

func TestApplyOfASavedPlanElsewhere(t *testing.T) {
	files := map[string]string{"app/main.tf": withEmpty}
	for name, test := range map[string]struct {
		change func(t *testing.T, r *rig)
		want   string // the engine's processes
	}{
		"another checkout": {func(*testing.T, *rig) {}, "apply"},
		"another commit": {func(t *testing.T, r *rig) {
			write(t, filepath.Join(r.m.Dir, "README.md"), "new")
		}, "apply"},
		"a pruned data directory": {func(t *testing.T, r *rig) {
			if err := os.RemoveAll(r.file("data/tfdata")); err != nil {
				t.Fatal(err)
			}
		}, "init apply"},
		"another machine": {func(t *testing.T, r *rig) { r.machine(t, "machine") }, "version init apply"},
	} {
		t.Run(name, func(t *testing.T) {
			r := savedPlan(t, files, "1.0.0")
			test.change(t, r)
			if err := r.apply(t); err != nil {
				t.Fatalf("Apply: %v", err)
			}
			if got := r.called(t); got != test.want {
				t.Errorf("engine processes: %q, want %q", got, test.want)
			}
			if state, err := os.ReadFile(r.m.StateFile); err != nil || !bytes.Contains(state, []byte("terraform_data")) {
				t.Errorf("state: %v\n%s", err, state)
			}
		})
	}
}

// TestRefusedPlans has the real engine refuse a saved plan, which then is made
// again and applied.
func TestRefusedPlans(t *testing.T) {
	for name, spoil := range map[string]func(t *testing.T, r *rig){
		"another version of a provider on another machine": func(t *testing.T, r *rig) {
			r.withProvider(t, "1.0.0", "1.1.0")
			r.machine(t, "machine")
		},
		"a provider that is gone": func(t *testing.T, r *rig) {
			dirs, err := filepath.Glob(r.file("data/tfdata/*/*/tf/providers"))
			if err != nil || len(dirs) != 1 {
				t.Fatalf("providers: %q, %v", dirs, err)
			}
			if err := os.RemoveAll(dirs[0]); err != nil {
				t.Fatal(err)
			}
		},
		"another version of the engine": func(t *testing.T, r *rig) {
			ours, err := r.Version(t.Context(), r.m)
			if err != nil {
				t.Fatal(err)
			}
			ours = strings.TrimPrefix(ours, "Terraform ")
			theirs := ours[:len(ours)-1] + string(ours[len(ours)-1]^1)
			repack(t, r.file("plan"), func(name string, data []byte) []byte {
				if name == "tfplan" {
					return bytes.Replace(data, []byte(ours), []byte(theirs), 1)
				}
				return data
			})
		},
		"a plan without a state": func(t *testing.T, r *rig) {
			repack(t, r.file("plan"), func(name string, data []byte) []byte {
				if name == "tfstate" {
					return nil
				}
				return data
			})
		},
		"half a plan":   func(t *testing.T, r *rig) { damage(t, r.file("plan"), func(b []byte) []byte { return b[:len(b)/2] }) },
		"an empty plan": func(t *testing.T, r *rig) { damage(t, r.file("plan"), func([]byte) []byte { return nil }) },
		"a flipped byte": func(t *testing.T, r *rig) {
			damage(t, r.file("plan"), func(b []byte) []byte { b[60] ^= 0xff; return b })
		},
		"no plan": func(t *testing.T, r *rig) {
			if err := os.Remove(r.file("plan")); err != nil {
				t.Fatal(err)
			}
		},
		"a state that moved on": func(t *testing.T, r *rig) {
			changed := r.m
			changed.Key += "2"
			write(t, filepath.Join(r.m.Dir, "more.tf"), `resource "terraform_data" "more" {}`)
			if _, err := r.Plan(t.Context(), changed, r.file("other"), terraform.PlanOptions{}); err != nil {
				t.Fatal(err)
			}
			if err := r.Apply(t.Context(), changed, r.file("other"), r.file("shim-other")); err != nil {
				t.Fatal(err)
			}
		},
		"elsewhere: a workspace": func(t *testing.T, r *rig) { r.m.Workspace = "prod" },
		"elsewhere: a file":      func(t *testing.T, r *rig) { r.m.StateFile = r.file("state/other.tfstate") },
		"elsewhere: both":        func(t *testing.T, r *rig) { r.m.Workspace, r.m.StateFile = "prod", r.file("state/other.tfstate") },
	} {
		t.Run(name, func(t *testing.T) {
			config := oneResource
			if strings.Contains(name, "provider") {
				config = withEmpty
			}
			r := savedPlan(t, map[string]string{"app/main.tf": config}, "1.0.0")
			spoil(t, r)
			before, _ := os.ReadFile(r.m.StateFile)
			r.called(t)
			err := r.apply(t)
			if !errors.Is(err, terraform.ErrStalePlan) {
				t.Fatalf("Apply: %v", err)
			}
			// Terraform 1.11 would have applied these.
			if started := strings.Contains(r.called(t), "apply"); started == strings.HasPrefix(name, "elsewhere") {
				t.Errorf("the engine was started: %v, %v", started, err)
			}
			if after, _ := os.ReadFile(r.m.StateFile); !bytes.Equal(before, after) {
				t.Errorf("the state after a refusal:\n%s\nbefore:\n%s", after, before)
			}
			r.plan(t)
			if err := r.apply(t); err != nil {
				t.Errorf("Apply of a new plan: %v", err)
			}
		})
	}
}

// A state with another history: somebody began it anew.
func TestAnotherLineage(t *testing.T) {
	r := savedPlan(t, map[string]string{"app/main.tf": oneResource}, "1.0.0")
	if err := r.apply(t); err != nil {
		t.Fatal(err)
	}
	write(t, filepath.Join(r.m.Dir, "main.tf"), strings.Replace(oneResource, `"a"`, `"b"`, 1))
	r.plan(t)
	damage(t, r.m.StateFile, func(state []byte) []byte {
		return bytes.Replace(state, []byte(`"lineage": "`), []byte(`"lineage": "f`), 1)
	})
	err := r.apply(t)
	if !errors.Is(err, terraform.ErrStalePlan) || !strings.Contains(err.Error(), "lineage") {
		t.Errorf("Apply: %v", err)
	}
}

// Terraform leaves a plan file behind a plan that failed.
func TestIncompletePlan(t *testing.T) {
	r := newRig(t, terraform.Config{}, map[string]string{"app/main.tf": `
resource "terraform_data" "a" {
  input = "1"
  lifecycle {
    postcondition {
      condition     = self.input == "2"
      error_message = "no"
    }
  }
}`})
	if _, err := r.Plan(t.Context(), r.m, r.file("plan"), terraform.PlanOptions{}); err == nil {
		t.Fatal("Plan: no error")
	}
	err := r.apply(t)
	if !errors.Is(err, terraform.ErrStalePlan) || !strings.Contains(err.Error(), "incomplete plan") {
		t.Errorf("Apply: %v", err)
	}
}

// Another version of the engine took the place of the one that planned.
func TestUpgradedEngine(t *testing.T) {
	r := newRig(t, terraform.Config{}, map[string]string{"app/main.tf": oneResource})
	r.plan(t)
	const refusal = "\nError: Failed to read plan from plan file\n\nCannot read the plan from the given plan file: plan file was created by\nTerraform %s, but this is 1.99.0; plan files cannot be transferred\nbetween different Terraform versions.\n"
	said := fmt.Sprintf(refusal, r.plan(t).Version)
	script := "#!/bin/sh\necho \"$1\" >>'" + r.calls + `'
case "$1" in
version) echo '{"terraform_version":"1.99.0"}' ;;
apply) %s; cat >&2 <<'END'
` + said + `END
exit 1 ;;
esac
`
	for name, test := range map[string]struct {
		before string
		stale  bool
	}{
		"refused":        {":", true},
		"a lock":         {"echo 'Acquiring state lock. This may take a few moments...'", true},
		"it had begun":   {"echo 'terraform_data.a: Creating...'", false},
		"it had to move": {"echo 'terraform_data.a: Importing... [id=x]'", false},
	} {
		r.engine(t, "terraform", fmt.Sprintf(script, test.before))
		r.called(t)
		err := r.apply(t)
		var failed *terraform.EngineError
		if errors.Is(err, terraform.ErrStalePlan) != test.stale || !errors.As(err, &failed) || !strings.Contains(failed.Output, "1.99.0") {
			t.Errorf("%s: %v", name, err)
		}
		if got := r.called(t); got != "version init apply" && got != "version apply" {
			t.Errorf("%s: engine processes %q", name, got)
		}
	}
}

func TestVersion(t *testing.T) {
	r := newRig(t, terraform.Config{}, map[string]string{"app/main.tf": oneResource})
	want := r.plan(t).Versions
	r.called(t)
	for range 2 {
		if got, err := r.Version(t.Context(), r.m); err != nil || got != want || !strings.HasPrefix(got, "Terraform 1.") {
			t.Errorf("Version = %q, %v, want %q", got, err, want)
		}
	}
	if got := r.called(t); got != "" {
		t.Errorf("engine processes for a version that is known: %q", got)
	}
	r.engine(t, "tofu", saying("1.9.0"))
	m := r.m
	m.Engine, m.Version = "tofu", "~> 1.9"
	if got, err := r.Version(t.Context(), m); err != nil || got != "OpenTofu 1.9.0" {
		t.Errorf("Version = %q, %v", got, err)
	}
	m.Version = "newest"
	var mistake *terraform.ModuleError
	if got, err := r.Version(t.Context(), m); !errors.As(err, &mistake) || got != "" {
		t.Errorf("Version = %q, %v", got, err)
	}
}

// TestLockedStates: while one process applies, others neither plan nor apply,
// and know who is at it.
func TestLockedStates(t *testing.T) {
	r := newRig(t, terraform.Config{}, map[string]string{"app/main.tf": slowResource})
	r.SetLockTimeout("1ms")
	r.m.StateFile = r.file("state/app.tfstate")
	r.plan(t)
	other := r.m
	other.Key += "2"
	if _, err := r.Plan(t.Context(), other, r.file("plan2"), terraform.PlanOptions{}); err != nil {
		t.Fatal(err)
	}
	applied := make(chan error, 1)
	began := time.Now()
	go func() { applied <- r.Apply(t.Context(), r.m, r.file("plan"), r.file("shim")) }()
	waitFor(t, func() bool { return exists(filepath.Join(r.m.Dir, "started")) })

	_, planErr := r.Plan(t.Context(), other, r.file("plan3"), terraform.PlanOptions{})
	applyErr := r.Apply(t.Context(), other, r.file("plan2"), r.file("shim2"))
	for name, err := range map[string]error{"Plan": planErr, "Apply": applyErr} {
		var locked *terraform.StateLockedError
		if !errors.As(err, &locked) {
			t.Fatalf("%s while the state is locked: %v", name, err)
		}
		if locked.ID == "" || !strings.Contains(locked.Who, "@") || locked.Operation != "OperationTypeApply" ||
			locked.Path != r.m.StateFile || locked.Info != "" || locked.Created.Before(began.Add(-time.Minute)) || locked.Created.After(time.Now()) ||
			!strings.Contains(locked.Hint(), locked.ID) || !strings.Contains(locked.Err.Output, "Lock Info") || locked.Err.Command != strings.ToLower(name) {
			t.Errorf("%s while the state is locked: %+v", name, locked)
		}
	}
	write(t, filepath.Join(r.m.Dir, "go"), "")
	if err := <-applied; err != nil {
		t.Error(err)
	}
	// The same plan is stale now: it did nothing when the state was locked.
	if err := r.Apply(t.Context(), other, r.file("plan2"), r.file("shim3")); !errors.Is(err, terraform.ErrStalePlan) {
		t.Errorf("Apply after the lock: %v", err)
	}
}

// An apply waits for a lock that is given back in time, and stops waiting when
// its context ends.
func TestApplyWaitsForTheLock(t *testing.T) {
	r := newRig(t, terraform.Config{}, map[string]string{"app/main.tf": slowResource})
	r.SetLockTimeout("10m")
	r.m.StateFile = r.file("state/app.tfstate")
	r.plan(t)
	other := r.m
	other.Key += "2"
	if _, err := r.Plan(t.Context(), other, r.file("plan2"), terraform.PlanOptions{}); err != nil {
		t.Fatal(err)
	}
	first, second := make(chan error, 1), make(chan error, 1)
	go func() { first <- r.Apply(t.Context(), r.m, r.file("plan"), r.file("shim")) }()
	waitFor(t, func() bool { return exists(filepath.Join(r.m.Dir, "started")) })

	waits := func(name string) func() bool {
		return func() bool {
			printed, _ := os.ReadFile(r.file(name + "/stdout"))
			return bytes.Contains(printed, []byte("Acquiring state lock"))
		}
	}
	ctx, cancel := context.WithCancel(t.Context())
	go func() { second <- r.Apply(ctx, other, r.file("plan2"), r.file("shim2")) }()
	waitFor(t, waits("shim2"))
	cancel()
	if err := <-second; !errors.Is(err, context.Canceled) {
		t.Errorf("Apply that was canceled while it waited: %v", err)
	}

	go func() { second <- r.Apply(t.Context(), other, r.file("plan2"), r.file("shim3")) }()
	waitFor(t, waits("shim3"))
	write(t, filepath.Join(r.m.Dir, "go"), "")
	if err := <-first; err != nil {
		t.Error(err)
	}
	if err := <-second; !errors.Is(err, terraform.ErrStalePlan) {
		t.Errorf("Apply after it waited: %v", err)
	}
}

// damage changes a file's content.
func damage(t *testing.T, path string, change func([]byte) []byte) {
	t.Helper()
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, change(data), 0o600); err != nil {
		t.Fatal(err)
	}
}

// repack changes the files in a plan file; nil leaves one out.
func repack(t *testing.T, path string, change func(name string, data []byte) []byte) {
	t.Helper()
	damage(t, path, func(old []byte) []byte {
		in, err := zip.NewReader(bytes.NewReader(old), int64(len(old)))
		if err != nil {
			t.Fatal(err)
		}
		var out bytes.Buffer
		w := zip.NewWriter(&out)
		for _, f := range in.File {
			rc, err := f.Open()
			if err != nil {
				t.Fatal(err)
			}
			data, err := io.ReadAll(rc)
			if err != nil {
				t.Fatal(err)
			}
			if data = change(f.Name, data); data == nil {
				continue
			}
			entry, err := w.Create(f.Name)
			if err != nil {
				t.Fatal(err)
			}
			if _, err := entry.Write(data); err != nil {
				t.Fatal(err)
			}
		}
		if err := w.Close(); err != nil {
			t.Fatal(err)
		}
		return out.Bytes()
	})
}
