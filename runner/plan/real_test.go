package plan

import (
	"bytes"
	"encoding/json"
	"flag"
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"github.com/google/go-cmp/cmp"
)

var update = flag.Bool("update", false, "make testdata again, with the terraform on PATH")

// realCases are plans made by a real engine: configuration after (and before,
// where something is applied first).
var realCases = []struct {
	name          string
	before, after string
	want          Summary
	empty         bool
}{
	{
		name: "create",
		after: `
resource "terraform_data" "a" {
  input = { name = "one", list = [1, 2, 3], big = 12345678901234567890 }
}
resource "terraform_data" "b" {
  for_each = toset(["x y", "z"])
  input    = terraform_data.a.id
}
output "name" { value = terraform_data.a.output["name"] }
`,
		want: Summary{Add: 3, Outputs: 1},
	},
	{
		name:   "nothing",
		before: `resource "terraform_data" "a" { input = "one" }`,
		after:  `resource "terraform_data" "a" { input = "one" }`,
		empty:  true,
	},
	{
		name: "mixed",
		before: `
variable "pw" {
  default   = "hunter2-first"
  sensitive = true
}
resource "terraform_data" "secret" { input = { pw = var.pw, user = "me" } }
resource "terraform_data" "replaced" {
  input            = "same"
  triggers_replace = ["v1"]
}
resource "terraform_data" "first" {
  triggers_replace = "v1"
  lifecycle { create_before_destroy = true }
}
resource "terraform_data" "gone" { input = "old" }
resource "terraform_data" "old_name" { input = "kept" }
resource "terraform_data" "kept_in_cloud" { input = "kept" }
output "pw" {
  value     = var.pw
  sensitive = true
}
output "removed" { value = "x" }
`,
		after: `
variable "pw" {
  default   = "hunter2-second"
  sensitive = true
}
resource "terraform_data" "secret" { input = { pw = var.pw, user = "me" } }
resource "terraform_data" "replaced" {
  input            = "same"
  triggers_replace = ["v2"]
}
resource "terraform_data" "first" {
  triggers_replace = "v2"
  lifecycle { create_before_destroy = true }
}
resource "terraform_data" "new_name" { input = "kept" }
moved {
  from = terraform_data.old_name
  to   = terraform_data.new_name
}
removed {
  from = terraform_data.kept_in_cloud
  lifecycle { destroy = false }
}
import {
  to = terraform_data.imported
  id = "11111111-2222-3333-4444-555555555555"
}
resource "terraform_data" "imported" {}
output "pw" {
  value     = var.pw
  sensitive = true
}
`,
		want: Summary{Change: 1, Replace: 2, Destroy: 1, Forget: 1, Import: 1, Move: 1, Outputs: 2},
	},
	{
		name:   "outputs",
		before: `output "a" { value = "one" }`,
		after:  `output "a" { value = ["two"] }`,
		want:   Summary{Outputs: 1},
	},
}

func TestRealPlans(t *testing.T) {
	for _, tc := range realCases {
		t.Run(tc.name, func(t *testing.T) {
			file := filepath.Join("testdata", tc.name+".json")
			if *update {
				makePlanFile(t, tc.before, tc.after, file)
			}
			data, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			p, err := Parse(data)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(tc.want, p.Summary()); diff != "" {
				t.Error(diff)
			}
			if p.Empty() != tc.empty {
				t.Errorf("Empty() = %v", p.Empty())
			}
			golden(t, filepath.Join("testdata", tc.name+".golden"), p)
		})
	}
}

func golden(t *testing.T, file string, p *Plan) {
	t.Helper()
	got, err := json.MarshalIndent(p, "", "  ")
	if err != nil {
		t.Fatal(err)
	}
	got = append(got, '\n')
	if *update {
		if err := os.WriteFile(file, got, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(string(want), string(got)); diff != "" {
		t.Errorf("%s (go test -update makes it again):\n%s", file, diff)
	}
}

// makePlanFile runs the engine and writes its plan, without the time in it.
func makePlanFile(t *testing.T, before, after, file string) {
	t.Helper()
	dir := t.TempDir()
	terraform := func(args ...string) []byte {
		t.Helper()
		cmd := exec.Command("terraform", args...)
		cmd.Dir = dir
		var stderr bytes.Buffer
		cmd.Stderr = &stderr
		out, err := cmd.Output()
		if err != nil {
			t.Fatalf("terraform %v: %v\n%s%s", args, err, out, stderr.Bytes())
		}
		return out
	}
	write := func(config string) {
		if err := os.WriteFile(filepath.Join(dir, "main.tf"), []byte(config), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if before != "" {
		write(before)
		terraform("init", "-input=false")
		terraform("apply", "-input=false", "-auto-approve")
	}
	write(after)
	terraform("init", "-input=false")
	terraform("plan", "-input=false", "-out=plan.bin")
	var doc map[string]json.RawMessage
	if err := json.Unmarshal(terraform("show", "-json", "plan.bin"), &doc); err != nil {
		t.Fatal(err)
	}
	delete(doc, "timestamp")
	var out bytes.Buffer
	enc := json.NewEncoder(&out)
	enc.SetIndent("", " ")
	if err := enc.Encode(doc); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(file, out.Bytes(), 0o644); err != nil {
		t.Fatal(err)
	}
}
