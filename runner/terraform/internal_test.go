package terraform

import (
	"errors"
	"maps"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"

	"holdfast/runner/shim"
)

func TestEnvironment(t *testing.T) {
	got := environment([]string{
		"PATH=/bin", "HOME=/root", "LC_ALL=C", "https_proxy=http://proxy", "TF_CLI_CONFIG_FILE=/etc/rc",
		"TF_REGISTRY_DISCOVERY_RETRY=2", "TF_TOKEN_app_terraform_io=secret", "TF_VAR_x=secret", "TF_LOG=TRACE",
		"HOLDFAST_KEY=secret", "GITEA_TOKEN=secret", "SSH_AUTH_SOCK=/s", "AWS_REGION=eu", "AWS_PROFILE=p",
		"TF_WORKSPACE=evil", "TF_DATA_DIR=evil", "=C:=x", "EMPTY", "CHECKPOINT_DISABLE=",
	}, Config{
		Pass: []string{"AWS_*", "HOLDFAST_*", "*_WORKSPACE", "TF_DATA_DIR", "EMPTY"},
		Set:  map[string]string{"AWS_REGION": "us", "TF_LOG": "INFO"},
	})
	want := map[string]string{
		"PATH": "/bin", "HOME": "/root", "LC_ALL": "C", "https_proxy": "http://proxy", "TF_CLI_CONFIG_FILE": "/etc/rc",
		"TF_REGISTRY_DISCOVERY_RETRY": "2", "AWS_REGION": "us", "AWS_PROFILE": "p", "TF_LOG": "INFO",
		"TF_IN_AUTOMATION": "1", "TF_INPUT": "0", "CHECKPOINT_DISABLE": "1",
	}
	if !maps.Equal(got, want) {
		t.Errorf("environment = %v, want %v", got, want)
	}
}

func TestConfigMistakes(t *testing.T) {
	for name, c := range map[string]Config{
		"relative":       {DataDir: "data"},
		"bad pattern":    {DataDir: "/d", Pass: []string{"[x"}},
		"ours":           {DataDir: "/d", Set: map[string]string{"HOLDFAST_KEY": "x"}},
		"TF_DATA_DIR":    {DataDir: "/d", Set: map[string]string{"TF_DATA_DIR": "x"}},
		"no name":        {DataDir: "/d", Set: map[string]string{"": "x"}},
		"a name with =":  {DataDir: "/d", Set: map[string]string{"a=b": "x"}},
		"a zero byte":    {DataDir: "/d", Set: map[string]string{"a": "\x00"}},
		"no directories": {DataDir: "/d", MaxDataDirs: -1},
	} {
		if _, err := New(c); err == nil {
			t.Errorf("%s: no error", name)
		}
	}
}

func TestNeedsInit(t *testing.T) {
	for text, want := range map[string]bool{
		"Error: Backend initialization required, please run \"terraform init\"":                        true,
		"Error: Inconsistent dependency lock file\n\nThe following dependency selections":              true,
		"╷\n│ Error: Required plugins are not installed\n│\n│ The installed provider plugins":          true,
		"Error: Module not installed\n\n  on main.tf line 5:\nRun \"tofu\ninit\" to install":           true,
		"Error: Initialization required\n\nReason: x. Please run:\n  tofu init":                        true,
		"Error: Module source has changed":                                                             true,
		"Error: Invalid reference\n\nA reference to a resource type must be followed by":               false,
		"Error: creating EC2 Instance: UnauthorizedOperation: You are not authorized to initialise it": false,
		"": false,
	} {
		if got := needsInit(unwrap(text)); got != want {
			t.Errorf("needsInit(%q) = %v", text, got)
		}
	}
}

func TestNeedsWorkspace(t *testing.T) {
	for text, want := range map[string]bool{
		"Error: Currently selected workspace \"prod\" does not exist":             true,
		"Error: workspace \"prod\" not found\n\nFor security":                     true,
		"│ Workspace \"prod\" doesn't exist.\n│\n│ You can create this workspace": true,
		"Error: the file does not exist":                                          false,
	} {
		if got := needsWorkspace(unwrap(text)); got != want {
			t.Errorf("needsWorkspace(%q) = %v", text, got)
		}
	}
}

func TestClean(t *testing.T) {
	got := clean("\x1b[31m╷\x1b[0m\r\n│ \x1b[1mError\x1b]8;;http://x\x07: \xff\x00no\ttab\n\n")
	if want := "╷\n│ Error: \uFFFDno\ttab"; got != want {
		t.Errorf("clean = %q, want %q", got, want)
	}
}

func TestBounded(t *testing.T) {
	b := &bounded{max: 4}
	for _, s := range []string{"ab", "cde", "f"} {
		if n, err := b.Write([]byte(s)); n != len(s) || err != nil {
			t.Errorf("Write = %d, %v", n, err)
		}
	}
	if got := b.String(); got != "abcd\n[2 bytes left out]\n" {
		t.Errorf("bounded = %q", got)
	}
}

// scanned returns the inputs of one file as the root module.
func scanned(t testing.TB, name, text string) inputs {
	t.Helper()
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	e := &Engines{env: map[string]string{"TF_REATTACH_PROVIDERS": `{"registry.terraform.io/acme/cloud":{"Pid":1}}`}}
	in, err := e.scan(Module{Dir: dir}, engine{name: "terraform", version: "1.11.4"})
	if err != nil {
		t.Fatal(err)
	}
	return in
}

func TestScan(t *testing.T) {
	for text, want := range map[string]inputs{
		`resource "terraform_data" "a" {}`:                                {},
		`resource "cloud_thing" "a" {}`:                                   {}, // attached
		`resource "aws_instance" "a" {}`:                                  {providers: true},
		"resource \"cloud_thing\" \"a\" {\n provider = aws.west\n}":       {providers: true},
		"check \"c\" {\n data \"http\" \"x\" {}\n}":                       {providers: true},
		`provider "random" {}`:                                            {providers: true},
		"module \"a\" {\n source = \"./a\"\n}":                            {},
		"module \"a\" {\n source = \"acme/a/aws\"\n version = \"1.0\"\n}": {providers: true, remote: true},
		"module \"a\" {\n source = var.source\n}":                         {providers: true, remote: true},
		"module \"a\" {\n source = null\n}":                               {providers: true, remote: true},
		"terraform {\n backend \"s3\" {}\n}":                              {backend: "s3"},
		"terraform {\n cloud {}\n}":                                       {backend: "cloud"},
		"terraform {\n required_providers {\n  random = {}\n }\n}":        {providers: true},
		"resource {": {providers: true, remote: true},
	} {
		got := scanned(t, "main.tf", text)
		got.sum = ""
		if got != want {
			t.Errorf("scan(%q) = %+v, want %+v", text, got, want)
		}
	}
	for text, backend := range map[string]string{
		`{"terraform":{"backend":{"s3":{}}}}`:      "s3",
		`{"terraform":[{"backend":[{"gcs":{}}]}]}`: "gcs",
		`{"terraform":{"cloud":{}}}`:               "cloud",
		`{"terraform":[]}`:                         "",
		`{"terraform":7}`:                          "",
		`[`:                                        "",
	} {
		if got := scanned(t, "main.tf.json", text); got.backend != backend {
			t.Errorf("scan(%s): backend %q, want %q", text, got.backend, backend)
		}
	}
}

func TestScanSum(t *testing.T) {
	same := []string{
		"module \"a\" {\n source = \"./a\"\n}",
		"# comment\nmodule \"a\" {\n  x = 2\n  source = \"./a\"\n}\noutput \"y\" { value = 1 }",
	}
	if a, b := scanned(t, "a.tf", same[0]), scanned(t, "b.tf", same[1]); a.sum != b.sum {
		t.Error("what init does not read changes the sum")
	}
	seen := map[string]string{}
	for _, text := range []string{
		"",
		same[0],
		"module \"b\" {\n source = \"./a\"\n}",
		"module \"a\" {\n source = \"./b\"\n}",
		"module \"a\" {\n source = \"./a\"\n version = \"1\"\n}",
		"terraform {\n backend \"s3\" {}\n}",
		"terraform {\n backend \"s3\" {\n  key = \"x\"\n }\n}",
		"terraform {\n backend \"s3\" {\n  key = \"y\"\n }\n}",
		"terraform {\n required_providers {\n  a = { version = \"1\" }\n }\n}",
		"terraform {\n required_providers {\n  a = { version = \"2\" }\n }\n}",
		`resource "aws_x" "y" {}`,
		`resource "gcp_x" "y" {}`,
	} {
		sum := scanned(t, "main.tf", text).sum
		if other, ok := seen[sum]; ok {
			t.Errorf("one sum for %q and %q", text, other)
		}
		seen[sum] = text
	}
}

func TestScanOfDevicesAndLinks(t *testing.T) {
	dir := t.TempDir()
	if err := os.Symlink("/dev/zero", filepath.Join(dir, "main.tf")); err != nil {
		t.Fatal(err)
	}
	e := &Engines{}
	in, err := e.scan(Module{Dir: dir, Modules: []string{filepath.Join(dir, "gone")}}, engine{})
	if err != nil || !in.providers || !in.remote {
		t.Errorf("scan = %+v, %v", in, err)
	}
}

func TestOverride(t *testing.T) {
	got := string(override(`/data/a "b" ${c} %{d}\e.tfstate`))
	if !strings.Contains(got, `path          = "/data/a \"b\" $${c} %%{d}\\e.tfstate"`) {
		t.Errorf("override:\n%s", got)
	}
}

func TestPlanArgs(t *testing.T) {
	got := planArgs(Module{VarFiles: []string{"a b.tfvars"}}, "/p", PlanOptions{Destroy: true, RefreshOnly: true, LockTimeout: "5m"})
	want := []string{"plan", "-input=false", "-no-color", "-detailed-exitcode", "-out=/p", "-destroy", "-refresh-only", "-lock-timeout=5m", "-var-file=a b.tfvars"}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("planArgs = %q, want %q", got, want)
	}
}

func FuzzScan(f *testing.F) {
	for _, s := range []string{
		`terraform { backend "s3" {} }`, `module "a" { source = "${"./a"}" }`, `resource "a" {}`, `{"terraform":[{"backend":null}]}`,
		"provider {}\nresource {}\nmodule {}", `module "a" { source = ["x"] }`,
	} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, text string) {
		for _, name := range []string{"main.tf", "main.tf.json"} {
			if a, b := scanned(t, name, text), scanned(t, name, text); a != b {
				t.Errorf("two answers: %+v, %+v", a, b)
			}
		}
	})
}

func FuzzClassify(f *testing.F) {
	f.Add("Error: Error acquiring the state lock\n│   Created:   2026-11-20 22:36:06.755512005 +0000 UTC\n│ ID: x")
	f.Add("\x1b[31mError\x1b[0m")
	f.Fuzz(func(t *testing.T, text string) {
		if s := clean(text); strings.ContainsAny(s, "\x1b\x00\r") {
			t.Errorf("clean(%q) = %q", text, s)
		}
		if err := ApplyError(shim.Exit{Code: 1, Output: text}); err == nil || err.Error() == "" {
			t.Error("a failure without words")
		}
		for _, first := range []string{"a.b: Creating...\n", "a.b: Importing... [id=" + text + "]\n", "Action started: a.b.c\n"} {
			err := ApplyError(shim.Exit{Code: 1, Output: text, Printed: first + text})
			var locked *StateLockedError
			if errors.Is(err, ErrStalePlan) || errors.As(err, &locked) {
				t.Errorf("nothing was done, after %q: %v", first, err)
			}
		}
	})
}
