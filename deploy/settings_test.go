package deploy

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// TestTheProgramTakesTheServerFiles starts Holdfast with each server file and
// with the variables that its installation sets.
func TestTheProgramTakesTheServerFiles(t *testing.T) {
	dir := t.TempDir()
	program := filepath.Join(dir, "holdfast")
	build := exec.Command("go", "build", "-o", program, "./cmd/holdfast")
	build.Dir = ".."
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	var unit []string
	for _, value := range readUnit(t)["Service.Environment"] {
		unit = append(unit, strings.Fields(value)...)
	}
	takes(t, program, "systemd", readFile(t, "systemd/server.hcl"), unit)

	var compose []string
	for name, value := range loadCompose(t).Services["worker"].Environment {
		if strings.HasPrefix(name, "HOLDFAST_") {
			compose = append(compose, name+"="+*value)
		}
	}
	takes(t, program, "compose", readFile(t, "compose/server.hcl"), compose)

	everyExample(t, func(t *testing.T, r *release) {
		for _, w := range r.workloads {
			var env []string
			for _, v := range w.container().Env {
				if v.Value != "" {
					env = append(env, v.Name+"="+v.Value)
				}
			}
			takes(t, program, w.name, r.configs[0].Data["server.hcl"], env)
		}
	})
}

// takes tests that the program takes a server file, with env and with the
// variables that the file reads.
func takes(t *testing.T, program, name, config string, env []string) {
	t.Run(name, func(t *testing.T) {
		file := filepath.Join(t.TempDir(), "server.hcl")
		if err := os.WriteFile(file, []byte(config), 0o600); err != nil {
			t.Fatal(err)
		}
		for _, variable := range append(variables(config), "HOLDFAST_KEY") {
			env = append(env, variable+"="+strings.Repeat("k", 64))
		}
		// No directory can be made below a file, and that is the first thing
		// that it says once it has taken its settings.
		serve := exec.Command(program, "serve", "--config", file, "--data-dir", filepath.Join(file, "data"))
		serve.Env = env
		out, err := serve.CombinedOutput()
		if err == nil || !strings.Contains(string(out), "holdfast: the data directory") {
			t.Errorf("%v\n%s", err, out)
		}
	})
}
