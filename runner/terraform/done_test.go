package terraform_test

import (
	"errors"
	"os"
	"path/filepath"
	"reflect"
	"sort"
	"strings"
	"testing"
	"unicode/utf8"

	"holdfast/runner/terraform"
)

// printed is what engines print in an apply, with the lines of others in it.
const printed = `terraform_data.a["x y"]: Refreshing state... [id=old]
module.net["a.b"].module.sub[0].aws_vpc.main["q\"\\]: $${z}"]: Creating...
module.net["a.b"].module.sub[0].aws_vpc.main["q\"\\]: $${z}"]: Still creating... [10s elapsed]
module.net["a.b"].module.sub[0].aws_vpc.main["q\"\\]: $${z}"]: Creation complete after 1m12s [id=vpc-1]
data.aws_ami.a: Read complete after 0s [id=ami-1]
ephemeral.aws_secret.a: Opening complete after 0s
terraform_data.a["x y"]: Modifications complete after 0s [id=old]
aws_instance.größe-1[3] (deposed object ab12cd34): Destroying... [id=i-1]
aws_instance.größe-1[3] (deposed object ab12cd34): Destruction complete after 5s
aws_instance.web: Importing... [id=i-1]
aws_instance.web: Import complete [id=i-1]
aws_instance.ident: Import complete
terraform_data.b: Provisioning with 'local-exec'...
terraform_data.b (local-exec): Executing: ["/bin/sh" "-c" "x"]
terraform_data.b (local-exec): aws_instance.fake: Creation complete after 0s [id=x]
terraform_data.b (local-exec): Error: fake
Action started: action.aws_lambda.warm[0] (triggered by aws_instance.web)
Action complete: action.aws_lambda.warm[0] (triggered by aws_instance.web)
Action failed: module.m.action.aws_lambda.cold (triggered by x) - it is cold

Warning: Deprecated

  with aws_instance.warned,
  on main.tf line 1:

Error: creating EC2 Instance: UnauthorizedOperation

  with module.net["a.b"].aws_instance.web[0],
  on main.tf line 3, in resource "aws_instance" "web":
   3: resource "aws_instance" "web" {

The detail says with aws_instance.detail,

Error: Failed to save state

Error saving state: x
  with aws_instance.detail2,

Error: Invalid provider configuration

  with provider["registry.terraform.io/acme/empty"],
  on <empty> line 0:
╷
│ Error: reading AMI
│ 
│   with data.aws_ami.b,
│   on main.tf line 9, in data "aws_ami" "b":
╵
`

func TestDone(t *testing.T) {
	want := []terraform.Step{
		{Address: `module.net["a.b"].module.sub[0].aws_vpc.main["q\"\\]: $${z}"]`, Verb: "created"},
		{Address: `terraform_data.a["x y"]`, Verb: "modified"},
		{Address: `aws_instance.größe-1[3]`, Deposed: "ab12cd34", Verb: "destroyed"},
		{Address: `aws_instance.web`, Verb: "imported"},
		{Address: `aws_instance.ident`, Verb: "imported"},
		{Address: `action.aws_lambda.warm[0]`, Verb: "invoked"},
		{Address: `module.m.action.aws_lambda.cold`, Failed: true, Error: "it is cold"},
		{Address: `module.net["a.b"].aws_instance.web[0]`, Failed: true, Error: "creating EC2 Instance: UnauthorizedOperation"},
		{Address: `data.aws_ami.b`, Failed: true, Error: "reading AMI"},
	}
	if got := terraform.Done([]byte(printed)); !reflect.DeepEqual(got, want) {
		t.Errorf("Done:\n%+v\nwant:\n%+v", got, want)
	}
	if got := terraform.Done([]byte(strings.ReplaceAll(printed, "\n", "\r\n"))); !reflect.DeepEqual(got, want) {
		t.Errorf("Done of lines that end with CR LF:\n%+v", got)
	}
}

// TestDoneOfHalfALog: lines that are cut give true steps or none.
func TestDoneOfHalfALog(t *testing.T) {
	for text, want := range map[string]int{
		"":                             0,
		"aws_vpc.a: Creation compl":    0,
		"aws_vpc.a: Creation complete": 1,
		"aws_vpc.a: Creation complete after 1s [id=vpc": 1,
		"aws_vpc.a[\"x y: Creation complete after 1s":   0,
		"aws_vpc.a: Creation complete after 1s\n[12 bytes left out]\nvpc.b: Creation complete after 2s\naws_vpc.c: Creation complete after 2s\n": 2,
		"Error: x\n\n  with aws_vpc.a":                                                               0,
		"Error: x\n\n  with aws_vpc.a,":                                                              1,
		"Error: x\n\n[12 bytes left out]\n\n  with aws_vpc.a,\n":                                     0,
		"Error: x\n\naws_vpc.b: Creation complete after 0s\n  with aws_vpc.a,\n":                     1,
		"aws_vpc." + strings.Repeat("a", 5000) + ": Creation complete after 1s":                      0,
		"aws_vpc.a (local-exec): Creation complete after 1s\n":                                       0,
		" aws_vpc.a (remote-exec): x\n\x1b[0m\x1b[1maws_vpc.a: Destruction complete after 1s\x1b[0m": 1,
	} {
		if got := terraform.Done([]byte(text)); len(got) != want {
			t.Errorf("Done(%q) = %+v", text, got)
		}
	}
	// Wherever a log is cut, its beginning tells no more than all of it.
	whole := terraform.Done([]byte(printed))
	for end := range printed {
		part := terraform.Done([]byte(printed[:end]))
		if len(part) > len(whole) {
			t.Fatalf("the first %d bytes: %+v", end, part)
		}
		for i, step := range part {
			last := i == len(part)-1
			if step.Error = whole[i].Error; step != whole[i] && !last || last && step.Address != whole[i].Address {
				t.Errorf("the first %d bytes: %+v, not %+v", end, step, whole[i])
			}
		}
	}
}

// TestDoneOfAnApply reads what the real engine prints.
func TestDoneOfAnApply(t *testing.T) {
	r := newRig(t, terraform.Config{}, map[string]string{"app/main.tf": `
resource "terraform_data" "a" {
  for_each = toset(["x y", "q\"\\$${z}"])
}
resource "terraform_data" "b" { input = 1 }
resource "terraform_data" "gone" {}
`})
	r.m.StateFile = r.file("state/app.tfstate")
	apply := func(fails bool) []string {
		t.Helper()
		*r.log = syncBuffer{}
		r.plan(t)
		if err := r.apply(t); (err != nil) != fails || errors.Is(err, terraform.ErrStalePlan) {
			t.Fatalf("Apply: %v", err)
		}
		var got []string
		for _, s := range terraform.Done([]byte(r.log.String())) {
			got = append(got, strings.TrimSpace(s.Address+" "+s.Verb+s.Error))
		}
		sort.Strings(got)
		return got
	}
	want := []string{`terraform_data.a["q\"\\$${z}"] created`, `terraform_data.a["x y"] created`, "terraform_data.b created", "terraform_data.gone created"}
	if got := apply(false); !reflect.DeepEqual(got, want) {
		t.Errorf("first apply: %q, want %q", got, want)
	}
	write(t, filepath.Join(r.m.Dir, "main.tf"), `
resource "terraform_data" "b" { input = 2 }
resource "terraform_data" "a" {
  for_each = toset(["x y", "q\"\\$${z}"])
}
resource "terraform_data" "imported" {}
import {
  to = terraform_data.imported
  id = "x: Creation complete after 1s"
}
module "m" {
  source   = "./m"
  for_each = toset(["k e"])
}
`)
	write(t, filepath.Join(r.m.Dir, "m/main.tf"), `
resource "terraform_data" "liar" {
  provisioner "local-exec" { command = "echo 'terraform_data.x: Creation complete after 1s'; exit 1" }
}
`)
	r.m.Modules = []string{filepath.Join(r.m.Dir, "m")}
	want = []string{
		`module.m["k e"].terraform_data.liar local-exec provisioner error`,
		"terraform_data.b modified", "terraform_data.gone destroyed", "terraform_data.imported imported",
	}
	got := apply(true)
	// What a provisioner printed is in the error too, at the beginning of a line.
	if n := len(got) - 1; n >= 0 && got[n] == "terraform_data.x created" {
		got = got[:n]
	}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("second apply: %q, want %q\n%s", got, want, r.log)
	}
	if _, err := os.Stat(r.m.StateFile); err != nil {
		t.Error(err)
	}
}

func FuzzDone(f *testing.F) {
	f.Add([]byte(printed))
	for line := range strings.Lines(printed) {
		f.Add([]byte(line))
	}
	f.Add([]byte("Error: x\n\n  with module.a[\"\\\"\"].b.c[0],\n"))
	f.Add([]byte("a.b[\"\\: Creation complete\n[1 bytes left out]\n[2 bytes left out]\n\xff.\xfe: Import complete"))
	f.Fuzz(func(t *testing.T, log []byte) {
		for _, s := range terraform.Done(log) {
			if s.Address == "" || strings.ContainsAny(s.Address+s.Error, "\n\r\x1b\x00") || !utf8.ValidString(s.Address+s.Error) || len(s.Error) > 500 || len(s.Address) > 4096 {
				t.Errorf("not for people: %+v", s)
			}
			if s.Failed == (s.Verb != "") {
				t.Errorf("done and failed: %+v", s)
			}
		}
		// Lines of the engine are found whatever comes before them.
		steps := terraform.Done(append(log, "\n\n\naws_vpc.sure: Creation complete after 1s [id=1]\n"...))
		if len(steps) == 0 || steps[len(steps)-1] != (terraform.Step{Address: "aws_vpc.sure", Verb: "created"}) {
			t.Errorf("not found: %+v", steps)
		}
	})
}
