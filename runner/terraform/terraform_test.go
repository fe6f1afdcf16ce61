package terraform_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"holdfast/runner/shim"
	"holdfast/runner/terraform"
)

// The test binary is what stands between terraform-exec and the engine.
func TestMain(m *testing.M) {
	shim.Main()
	if os.Getenv("TEST_PROVIDER") != "" {
		serveProvider()
		return
	}
	os.Exit(m.Run())
}

// rig is a root module in a checkout, and engines that count their processes.
type rig struct {
	*terraform.Engines
	config terraform.Config
	base   string
	m      terraform.Module
	log    *syncBuffer
	calls  string // the file that the counting engine writes to
}

// newRig has the engine be a script that notes its arguments and becomes the
// real terraform.
func newRig(t *testing.T, config terraform.Config, files map[string]string) *rig {
	t.Helper()
	real, err := exec.LookPath("terraform")
	if err != nil {
		t.Fatal(err)
	}
	base := t.TempDir()
	r := &rig{base: base, log: &syncBuffer{}, calls: filepath.Join(base, "calls")}
	script := fmt.Sprintf("#!/bin/sh\necho \"$1\" >>'%s'\nexec '%s' \"$@\"\n", r.calls, real)
	r.engine(t, "terraform", script)
	t.Setenv("PATH", filepath.Join(base, "bin")+string(filepath.ListSeparator)+os.Getenv("PATH"))
	t.Setenv("TF_CLI_CONFIG_FILE", "")
	t.Setenv("HOME", base)
	config.DataDir = filepath.Join(base, "data")
	config.Pass = append(config.Pass, "GORACE") // with the race detector the shim would sleep a second before it ends
	r.config = config
	r.Engines, err = terraform.New(config)
	if err != nil {
		t.Fatal(err)
	}
	r.m = terraform.Module{Key: "git.example/acme/live/app", Engine: "terraform", Log: r.log}
	r.checkout(t, "one", files)
	return r
}

// engine puts an executable on the rig's PATH.
func (r *rig) engine(t *testing.T, name, script string) {
	t.Helper()
	write(t, filepath.Join(r.base, "bin", name), script)
	if err := os.Chmod(filepath.Join(r.base, "bin", name), 0o755); err != nil {
		t.Fatal(err)
	}
}

// checkout makes a checkout with the files and has the rig work in it.
func (r *rig) checkout(t *testing.T, name string, files map[string]string) {
	t.Helper()
	r.m.Root = filepath.Join(r.base, "checkouts", name)
	r.m.Dir = filepath.Join(r.m.Root, "app")
	for path, text := range files {
		write(t, filepath.Join(r.m.Root, path), text)
	}
}

func write(t *testing.T, path, text string) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
}

// called returns the engine's commands since the last call.
func (r *rig) called(t *testing.T) string {
	t.Helper()
	data, err := os.ReadFile(r.calls)
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		t.Fatal(err)
	}
	os.Remove(r.calls)
	return strings.Join(strings.Fields(string(data)), " ")
}

func (r *rig) file(name string) string { return filepath.Join(r.base, name) }

func (r *rig) plan(t *testing.T) terraform.PlanResult {
	t.Helper()
	res, err := r.Plan(t.Context(), r.m, r.file("plan"), terraform.PlanOptions{})
	if err != nil {
		t.Fatalf("Plan: %v\n%s", err, r.log)
	}
	return res
}

func (r *rig) apply(t *testing.T) error {
	t.Helper()
	dir, err := os.MkdirTemp(r.base, "shim-")
	if err != nil {
		t.Fatal(err)
	}
	return r.Apply(t.Context(), r.m, r.file("plan"), filepath.Join(dir, "apply"))
}

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

const oneResource = `resource "terraform_data" "a" { input = "1" }`

func TestPlanShowApply(t *testing.T) {
	r := newRig(t, terraform.Config{}, map[string]string{"app/main.tf": oneResource})
	r.m.StateFile = r.file("state/app.tfstate")

	res := r.plan(t)
	if !res.Changes || !res.Init || res.Version == "" || res.Versions != "Terraform "+res.Version {
		t.Errorf("first plan: %+v", res)
	}
	if got := r.called(t); got != "version init plan" {
		t.Errorf("engine processes of the first plan: %q", got)
	}
	if info, err := os.Stat(r.file("plan")); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("plan file: %v, %v", info.Mode(), err)
	}

	// From now on: two processes with changes, one without.
	res = r.plan(t)
	data, err := r.Show(t.Context(), r.m, r.file("plan"))
	if err != nil {
		t.Fatal(err)
	}
	if got := r.called(t); got != "plan show" || res.Init {
		t.Errorf("engine processes of a plan with changes: %q, %+v", got, res)
	}
	var shown struct {
		Changes []struct{ Address string } `json:"resource_changes"`
	}
	if err := json.Unmarshal(data, &shown); err != nil || len(shown.Changes) != 1 || shown.Changes[0].Address != "terraform_data.a" {
		t.Errorf("Show: %v, %s", err, data)
	}

	if err := r.apply(t); err != nil {
		t.Fatalf("Apply: %v", err)
	}
	if got := r.called(t); got != "apply" {
		t.Errorf("engine processes of an apply: %q", got)
	}
	if !strings.Contains(r.log.String(), "Apply complete! Resources: 1 added") {
		t.Errorf("log:\n%s", r.log)
	}
	// The same plan once more is refused, and says so.
	err = r.apply(t)
	var failed *terraform.EngineError
	if !errors.Is(err, terraform.ErrStalePlan) || !errors.As(err, &failed) || !strings.Contains(failed.Output, "Saved plan is stale") {
		t.Errorf("second apply of one plan: %v", err)
	}
	r.called(t)

	if res = r.plan(t); res.Changes {
		t.Errorf("plan after apply: %+v", res)
	}
	if got := r.called(t); got != "plan" {
		t.Errorf("engine processes of a plan without changes: %q", got)
	}
	// Another checkout of the same, and another process.
	r.checkout(t, "two", map[string]string{"app/main.tf": oneResource + "\n# a comment\n" + `output "x" { value = 1 }`})
	r.Engines, _ = terraform.New(r.config)
	if res = r.plan(t); !res.Changes || res.Init {
		t.Errorf("plan of another checkout: %+v", res)
	}
}

func TestInitWhenItsInputsChange(t *testing.T) {
	r := newRig(t, terraform.Config{}, map[string]string{
		"app/main.tf":         `module "a" { source = "../modules/a" }`,
		"modules/a/main.tf":   oneResource,
		"modules/b/main.tf":   oneResource,
		"app/notes.tf.backup": "not read",
	})
	r.m.Modules = []string{filepath.Join(r.m.Root, "modules/a")}
	r.m.StateFile = r.file("state/app.tfstate")
	steps := []struct {
		name, path, text string
		init             bool
	}{
		{"first", "app/notes.tf.backup", "still not", true},
		{"nothing", "app/notes.tf.backup", "still not read", false},
		{"an argument", "modules/a/main.tf", `resource "terraform_data" "a" { input = "2" }`, false},
		{"a module", "app/more.tf", `module "b" { source = "../modules/b" }`, true},
		{"a constraint on the engine, in a new file", "app/req.tf", `terraform { required_version = ">= 1.0" }`, false},
		{"JSON", "app/x.tf.json", `{"output":{"o":{"value":1}}}`, true},
		{"JSON again", "app/x.tf.json", `{"output":{"o":{"value":1}}}`, false},
	}
	for _, step := range steps {
		write(t, filepath.Join(r.m.Root, step.path), step.text)
		if res := r.plan(t); res.Init != step.init {
			t.Errorf("%s: init %v, want %v", step.name, res.Init, step.init)
		}
		r.called(t)
	}
	// A module that the caller does not know of: the engine's answer counts.
	write(t, filepath.Join(r.m.Root, "modules/a/deep.tf"), `module "b" { source = "../b" }`)
	r.m.Modules = nil
	if res := r.plan(t); !res.Init {
		t.Error("other modules: no init")
	}
	write(t, filepath.Join(r.m.Root, "modules/a/deeper.tf"), `module "c" { source = "../b" }`)
	r.called(t)
	if res := r.plan(t); !res.Init {
		t.Error("a module that the engine misses: no init")
	}
	if got := r.called(t); got != "plan init plan" {
		t.Errorf("engine processes: %q", got)
	}
}

func TestWorkspaces(t *testing.T) {
	r := newRig(t, terraform.Config{}, map[string]string{
		"app/main.tf": `resource "terraform_data" "a" { input = terraform.workspace }`,
	})
	r.m.StateFile = r.file("state/app.tfstate")
	for _, name := range []string{"", "dev", "prod", "dev"} {
		r.m.Workspace, r.m.Key = name, "git.example/acme/live/app@"+name
		r.plan(t)
		if err := r.apply(t); err != nil && !errors.Is(err, terraform.ErrStalePlan) {
			t.Fatal(err)
		}
	}
	for _, path := range []string{"app.tfstate", "app.tfstate.workspaces/dev/terraform.tfstate", "app.tfstate.workspaces/prod/terraform.tfstate"} {
		data, err := os.ReadFile(r.file("state/" + path))
		want := filepath.Base(filepath.Dir(path))
		if want == "." {
			want = "default"
		}
		if err != nil || !strings.Contains(string(data), `"value": "`+want+`"`) && !strings.Contains(string(data), `"`+want+`"`) {
			t.Errorf("%s: %v\n%s", path, err, data)
		}
	}
	// Two Terraform workspaces of one key change places without init.
	r.called(t)
	r.m.Workspace = "prod"
	if res := r.plan(t); res.Changes || res.Init {
		t.Errorf("prod in dev's data directory: %+v", res)
	}
	for _, name := range []string{"../escape", "a b", "a/b", "..", "-x"} {
		r.m.Workspace = name
		_, err := r.Plan(t.Context(), r.m, r.file("plan"), terraform.PlanOptions{})
		var mistake *terraform.ModuleError
		if !errors.As(err, &mistake) {
			t.Errorf("workspace %q: %v", name, err)
		}
	}
}

// A backend that does not make a missing Terraform workspace by itself.
func TestWorkspaceThatHasToBeMade(t *testing.T) {
	r := newRig(t, terraform.Config{}, map[string]string{"app/main.tf": oneResource})
	version := r.plan(t).Version
	r.engine(t, "terraform", `#!/bin/sh
echo "$1" >>'`+r.calls+`'
case "$1 $2" in
"version -json") echo '{"terraform_version":"`+version+`"}' ;;
"workspace new") test ! -e "$TF_DATA_DIR/environment" && touch "$TF_DATA_DIR/made" ;;
plan*)
	test "$(cat "$TF_DATA_DIR/environment")" = prod || exit 9
	if ! test -e "$TF_DATA_DIR/made"; then
		echo 'Error: Currently selected workspace "prod" does not exist' >&2
		exit 1
	fi
	for a; do case "$a" in -out=*) touch "${a#-out=}" ;; esac; done
	exit 2 ;;
esac
`)
	r.m.Workspace = "prod"
	r.called(t)
	if res := r.plan(t); !res.Changes {
		t.Errorf("plan: %+v", res)
	}
	if got := r.called(t); got != "version plan workspace plan" {
		t.Errorf("engine processes: %q", got)
	}
}

func TestStateFile(t *testing.T) {
	for name, test := range map[string]struct {
		files map[string]string
		want  string // in the error
	}{
		"the file is the repository's": {map[string]string{"app/holdfast_override.tf": "# mine"}, "rename"},
		"another backend":              {map[string]string{"app/b.tf": "terraform {\n backend \"http\" {}\n}"}, `backend "http"`},
		"another backend in JSON":      {map[string]string{"app/b.tf.json": `{"terraform":{"backend":{"http":{}}}}`}, `backend "http"`},
		"a cloud block":                {map[string]string{"app/b.tf": "terraform {\n cloud {}\n}"}, "cloud block"},
		"a relative local backend":     {map[string]string{"app/b.tf": "terraform {\n backend \"local\" { path = \"x\" }\n}"}, ""},
	} {
		t.Run(name, func(t *testing.T) {
			test.files["app/main.tf"] = oneResource
			r := newRig(t, terraform.Config{}, test.files)
			r.m.StateFile = r.file(`state/app "1" ${x}.tfstate`)
			_, err := r.Plan(t.Context(), r.m, r.file("plan"), terraform.PlanOptions{})
			var mistake *terraform.ModuleError
			switch {
			case test.want == "" && err != nil:
				t.Errorf("Plan: %v", err)
			case test.want == "":
				if err := r.apply(t); err != nil {
					t.Errorf("Apply: %v", err)
				}
				if _, err := os.Stat(r.m.StateFile); err != nil {
					t.Error(err)
				}
			case !errors.As(err, &mistake) || !strings.Contains(mistake.Message+mistake.Hint(), test.want):
				t.Errorf("Plan: %v", err)
			}
		})
	}
}

// A repository's own override that comes later would have the state in the
// checkout, and lost with it.
func TestOverrideThatComesLater(t *testing.T) {
	const local = "terraform {\n  backend \"local\" {}\n}\n"
	for name, refused := range map[string]bool{"override.tf": true, "z.1_override.tf": true, "a_override.tf": false, "zz.tf": false} {
		r := newRig(t, terraform.Config{}, map[string]string{"app/main.tf": "resource \"terraform_data\" \"a\" {}\n", "app/" + name: local})
		r.m.StateFile = r.file("state/app.tfstate")
		_, err := r.Plan(t.Context(), r.m, r.file("plan"), terraform.PlanOptions{})
		var module *terraform.ModuleError
		if refused {
			if !errors.As(err, &module) || !strings.Contains(module.Message, name) {
				t.Errorf("%s: %v", name, err)
			}
			continue
		}
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		if err := r.apply(t); err != nil {
			t.Error(err)
		}
		if !exists(r.m.StateFile) || exists(filepath.Join(r.m.Dir, "terraform.tfstate")) {
			t.Errorf("%s: the state is not where Holdfast keeps it", name)
		}
	}
}

func TestPlanThatFails(t *testing.T) {
	r := newRig(t, terraform.Config{}, map[string]string{"app/main.tf": "resource {"})
	_, err := r.Plan(t.Context(), r.m, r.file("plan"), terraform.PlanOptions{})
	var failed *terraform.EngineError
	if !errors.As(err, &failed) || failed.Command != "init" || !strings.Contains(failed.Output, "main.tf line 1") {
		t.Errorf("a file that does not parse: %v", err)
	}
	write(t, filepath.Join(r.m.Dir, "main.tf"), `resource "terraform_data" "a" { input = nope }`)
	_, err = r.Plan(t.Context(), r.m, r.file("plan"), terraform.PlanOptions{})
	if !errors.As(err, &failed) || failed.Command != "plan" || !strings.Contains(failed.Output, "Invalid reference") {
		t.Errorf("a reference to nothing: %v", err)
	}
	write(t, filepath.Join(r.m.Dir, "main.tf"), `terraform { required_version = "< 0.1" }`)
	_, err = r.Plan(t.Context(), r.m, r.file("plan"), terraform.PlanOptions{})
	if !errors.As(err, &failed) || !strings.Contains(failed.Output, "Unsupported Terraform Core version") {
		t.Errorf("another version: %v", err)
	}
	if _, err := r.Show(t.Context(), r.m, r.file("nothing")); err == nil {
		t.Error("Show of nothing")
	}
}

// slowResource says when its making has begun and waits for leave to end it.
const slowResource = `
resource "terraform_data" "a" {
  provisioner "local-exec" { command = "touch started; while ! test -e go; do sleep 0.05; done" }
}
resource "terraform_data" "b" { depends_on = [terraform_data.a] }
`

func exists(path string) bool {
	_, err := os.Stat(path)
	return err == nil
}

// waitFor polls: there is nothing else to wait on in another process.
func waitFor(t *testing.T, ok func() bool) {
	t.Helper()
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	limit := time.After(30 * time.Second)
	for !ok() {
		select {
		case <-tick.C:
		case <-limit:
			t.Fatal("waited in vain")
		}
	}
}

func TestInterruptedApply(t *testing.T) {
	r := newRig(t, terraform.Config{}, map[string]string{"app/main.tf": slowResource})
	r.m.StateFile = r.file("state/app.tfstate")
	r.plan(t)
	ctx, cancel := context.WithCancel(t.Context())
	applied := make(chan error, 1)
	go func() { applied <- r.Apply(ctx, r.m, r.file("plan"), r.file("shim")) }()
	waitFor(t, func() bool { return exists(filepath.Join(r.m.Dir, "started")) })
	cancel()
	err := <-applied
	var failed *terraform.EngineError
	if !errors.Is(err, context.Canceled) || !errors.As(err, &failed) || !strings.Contains(failed.Output, "execution halted") {
		t.Errorf("Apply: %v", err)
	}
	// The engine has saved what it did and given its lock back.
	if data, err := os.ReadFile(r.m.StateFile); err != nil || !strings.Contains(string(data), "terraform_data") {
		t.Errorf("state: %v, %s", err, data)
	}
	r.plan(t)
}

func TestApplyThatWasCanceledBefore(t *testing.T) {
	r := newRig(t, terraform.Config{}, map[string]string{"app/main.tf": oneResource})
	r.m.StateFile = r.file("state/app.tfstate")
	r.plan(t)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := r.Apply(ctx, r.m, r.file("plan"), r.file("shim")); !errors.Is(err, context.Canceled) {
		t.Errorf("Apply: %v", err)
	}
	if abandoned, err := shim.Abandon(r.file("shim")); !abandoned || err != nil {
		t.Errorf("Abandon = %v, %v", abandoned, err)
	}
	if err := r.Apply(t.Context(), r.m, r.file("plan"), r.file("shim")); err == nil || !strings.Contains(err.Error(), "another attempt") {
		t.Errorf("Apply in a directory that was given up: %v", err)
	}
}

// An engine that does not care for interrupts goes on without its reader.
func TestApplyThatDoesNotStop(t *testing.T) {
	r := newRig(t, terraform.Config{Grace: 10 * time.Millisecond, PlanGrace: 10 * time.Millisecond},
		map[string]string{"app/main.tf": oneResource})
	r.plan(t)
	r.engine(t, "terraform", `#!/bin/sh
case "$1" in
version) echo '{"terraform_version":"`+r.plan(t).Version+`"}' ;;
apply) trap 'echo interrupted >>stops' INT; touch started; while ! test -e go; do sleep 0.05; done ;;
esac
`)
	ctx, cancel := context.WithCancel(t.Context())
	applied := make(chan error, 1)
	go func() { applied <- r.Apply(ctx, r.m, r.file("plan"), r.file("shim")) }()
	waitFor(t, func() bool { return exists(filepath.Join(r.m.Dir, "started")) })
	cancel()
	if err := <-applied; !errors.Is(err, terraform.ErrApplying) {
		t.Errorf("Apply: %v", err)
	}
	write(t, filepath.Join(r.m.Dir, "go"), "")
	exit, err := shim.Follow(t.Context(), r.file("shim"), r.log)
	if err != nil || terraform.ApplyError(exit) != nil {
		t.Errorf("Follow = %+v, %v", exit, err)
	}
}

func TestInterruptedPlan(t *testing.T) {
	r := newRig(t, terraform.Config{PlanGrace: 100 * time.Millisecond}, map[string]string{"app/main.tf": oneResource})
	version := r.plan(t).Version
	for name, trap := range map[string]string{
		"obedient": "trap 'exit 1' INT",
		"stubborn": "trap '' INT",
	} {
		t.Run(name, func(t *testing.T) {
			os.Remove(filepath.Join(r.m.Dir, "started"))
			r.engine(t, "terraform", `#!/bin/sh
case "$1" in
version) echo '{"terraform_version":"`+version+`"}' ;;
plan) `+trap+`; touch started; while :; do sleep 0.05; done ;;
esac
# `+name)
			ctx, cancel := context.WithCancel(t.Context())
			planned := make(chan error, 1)
			go func() {
				_, err := r.Plan(ctx, r.m, r.file("plan"), terraform.PlanOptions{})
				planned <- err
			}()
			waitFor(t, func() bool { return exists(filepath.Join(r.m.Dir, "started")) })
			cancel()
			if err := <-planned; !errors.Is(err, context.Canceled) {
				t.Errorf("Plan: %v", err)
			}
		})
	}
}

// A plan whose engine has lost the first interrupt gives its locks back after
// the second, long before it would be killed.
func TestPlanInterruptedTwice(t *testing.T) {
	r := newRig(t, terraform.Config{PlanGrace: 1500 * time.Millisecond}, map[string]string{"app/main.tf": oneResource})
	version := r.plan(t).Version
	r.engine(t, "terraform", `#!/bin/sh
case "$1" in
version) echo '{"terraform_version":"`+version+`"}' ;;
plan) trap 'trap "touch unlocked; exit 1" INT' INT; touch started; while :; do sleep 0.05; done ;;
esac
`)
	ctx, cancel := context.WithCancel(t.Context())
	planned := make(chan error, 1)
	go func() {
		_, err := r.Plan(ctx, r.m, r.file("plan"), terraform.PlanOptions{})
		planned <- err
	}()
	waitFor(t, func() bool { return exists(filepath.Join(r.m.Dir, "started")) })
	cancel()
	if err := <-planned; !errors.Is(err, context.Canceled) || !exists(filepath.Join(r.m.Dir, "unlocked")) {
		t.Errorf("Plan: %v; unlocked: %t", err, exists(filepath.Join(r.m.Dir, "unlocked")))
	}
}

func TestEnvironmentOfProgramsInTheConfiguration(t *testing.T) {
	t.Setenv("HOLDFAST_WEBHOOK_SECRET", "server's own")
	t.Setenv("GITEA_TOKEN", "server's own")
	t.Setenv("AWS_PROFILE", "ops")
	t.Setenv("AWS_SECRET_ACCESS_KEY", "not passed")
	t.Setenv("https_proxy", "http://127.0.0.1:1")
	r := newRig(t, terraform.Config{
		Pass: []string{"AWS_PRO*", "HOLDFAST_*", "TF_WORKSPACE"},
		Set:  map[string]string{"TF_VAR_password": "hunter2", "TF_LOG_PATH": ""},
	}, map[string]string{"app/main.tf": `
variable "password" {
  sensitive = true
}
resource "terraform_data" "env" {
  input = nonsensitive(var.password)
  provisioner "local-exec" { command = "env | sort >env.txt" }
}`})
	r.m.StateFile = r.file("state/app.tfstate")
	r.plan(t)
	if err := r.apply(t); err != nil {
		t.Fatal(err)
	}
	data, err := os.ReadFile(filepath.Join(r.m.Dir, "env.txt"))
	if err != nil {
		t.Fatal(err)
	}
	env := "\n" + string(data)
	for _, want := range []string{"AWS_PROFILE=ops", "https_proxy=http://127.0.0.1:1", "TF_VAR_password=hunter2", "TF_IN_AUTOMATION=1", "CHECKPOINT_DISABLE=1"} {
		if !strings.Contains(env, "\n"+want+"\n") {
			t.Errorf("missing %s", want)
		}
	}
	for _, not := range []string{"HOLDFAST", "server's own", "not passed"} {
		if strings.Contains(env, not) {
			t.Errorf("%q is visible to a provisioner:\n%s", not, env)
		}
	}
}
