package terraform

import (
	"bufio"
	"bytes"
	"errors"
	"strings"
	"testing"
	"time"

	"holdfast/runner/shim"
)

const (
	staleText = "\nError: Saved plan is stale\n\nThe given plan file can no longer be applied because the state was changed by\nanother operation after the plan was created.\n"
	tofuLock  = `
Error: Error acquiring the state lock

Error message: operation error DynamoDB: PutItem, https response error
StatusCode: 400, ConditionalCheckFailedException: The conditional request
failed
Lock Info:
  ID:        a8ccbc36-896e-5570-ec7a-3fd235d23d82
  Path:      states/live/app.tfstate
  Operation: OperationTypePlan
  Who:       ops@ci-7
  Version:   1.9.0
  Created:   2026-11-20 22:36:06.755512005 +0000 UTC
  Info:      by hand
  ID:        another
  Who:       nobody

OpenTofu acquires a state lock to protect the state from being written
by multiple users at the same time. Please resolve the issue above and try
again. For most commands, you can disable locking with the "-lock=false"
flag, but this is not recommended.
`
)

// TestRefusals has the engines' words for each reason not to apply a saved plan.
func TestRefusals(t *testing.T) {
	for name, text := range map[string]string{
		"stale":                                  staleText,
		"stale, in a box":                        "╷\n│ Error: Saved plan is stale\n│ \n│ The given plan file can no longer be applied because the state was changed\n│ by another operation after the plan was created.\n╵\n",
		"another lineage":                        "\nError: Saved plan does not match the given state\n\nThe given plan file can not be applied because it was created from a\ndifferent state lineage.\n",
		"another version":                        "\nError: Failed to read plan from plan file\n\nCannot read the plan from the given plan file: plan file was created by\nTerraform 1.11.3, but this is 1.11.4; plan files cannot be transferred\nbetween different Terraform versions.\n",
		"OpenTofu's":                             "\nError: Failed to read plan from plan file\n\nCannot read the plan from the given plan file: plan file was created by\nOpenTofu or Terraform 1.11.4, but this is 1.9.0; plan files cannot be\ntransferred between different versions of OpenTofu / Terraform.\n",
		"a checksum":                             "\nError: Failed to read plan from plan file\n\nCannot read the plan from the given plan file: zip: checksum error.\n",
		"no archive":                             "\nError: Failed to load \"/data/p\" as a plan file\n\nError: couldn't load the provided path as either a local plan file (zip: not\na valid zip file) or a saved cloud plan (invalid character 'P' looking for\nbeginning of value)\n",
		"encrypted":                              "\nError: Failed to load \"/data/p\" as a plan file\n\nError: the given plan file is encrypted and requires a valid encryption\nconfiguration to decrypt\n",
		"no file":                                "\nError: Failed to load \"/data/p\" as a plan file\n\nError: stat /data/p: no such file or directory\n",
		"no snapshot":                            "\nError: Invalid plan file\n\nFailed to read configuration snapshot from plan file: config snapshot does\nnot have manifest file.\n",
		"no locks":                               "\nError: Saved plan has no dependency lock information\n\nThe specified saved plan file does not include any dependency lock\ninformation. This is a bug in the previous run of OpenTofu that created this\nfile.\n",
		"incomplete":                             "\nError: Cannot apply incomplete plan\n\nOpenTofu encountered an error when generating this plan, so it cannot be\napplied.\n",
		"other locks":                            "\nError: Inconsistent dependency lock file\n\nThe following dependency selections recorded in the lock file are\ninconsistent with the configuration in the saved plan:\n  - provider registry.terraform.io/acme/empty: required by this configuration but no version is selected\n\nA saved plan can be applied only\n\nError: Inconsistent dependency lock file\n\nThe given plan file was created with a different set of external dependency\nselections than the current configuration.\n",
		"both":                                   staleText + "\nError: Inconsistent dependency lock file\n\nThe given plan file was created with a different set of external dependency\nselections than the current configuration.\n",
		"no provider":                            "\nError: registry.terraform.io/acme/empty: there is no package for registry.terraform.io/acme/empty 1.1.0 cached in .terraform/providers\n\n",
		"no providers":                           "\nError: missing or corrupted provider plugins:\n  - registry.terraform.io/acme/empty: there is no package for registry.terraform.io/acme/empty 1.1.0 cached in .terraform/providers\n  - registry.terraform.io/acme/other: x\n",
		"another provider":                       "\nError: registry.opentofu.org/acme/other: the cached package for registry.opentofu.org/acme/other 1.0.0 (in .terraform/providers) does not match any of the checksums recorded in the dependency lock file\n",
		"a workspace":                            "\nError: The plan file describes changes to the \"prod\" workspace, but the \"default\" workspace is currently in use.\n\nApplying this plan with the incorrect workspace selected could result in\n",
		"no init":                                "\nError: Backend initialization required, please run \"terraform init\"\n\nReason: Initial configuration of the requested backend \"s3\"\n",
		"another backend":                        "\nError: Backend configuration changed\n\nA change in the backend configuration has been detected, which may require\nmigrating existing state.\n",
		"a bookmark":                             "\nError: error: using a saved cloud plan when executing OpenTofu locally is not supported\n\n",
		"after a warning about the command line": "There are some problems with the CLI configuration:\n╷\n│ Warning: Unable to open CLI configuration file\n│ \n│ The CLI configuration file at \"/x\" does not exist.\n╵\n\n" + staleText,
	} {
		if err := ApplyError(shim.Exit{Code: 1, Output: text}); !errors.Is(err, ErrStalePlan) {
			t.Errorf("%s: %v", name, err)
		}
		// Once the engine has begun, the same words are somebody else's.
		if err := ApplyError(shim.Exit{Code: 1, Output: text, Printed: "terraform_data.a: Creating...\n"}); errors.Is(err, ErrStalePlan) {
			t.Errorf("%s, after the first step: %v", name, err)
		}
	}
}

// TestRefusalsOfOthers: what a provider or a provisioner says is not the
// engine's word.
func TestRefusalsOfOthers(t *testing.T) {
	for name, text := range map[string]string{
		"nothing":           "",
		"no diagnostic":     "Saved plan is stale",
		"a resource":        "\nError: Saved plan is stale\n\n  with empty_thing.a,\n  on main.tf line 3, in resource \"empty_thing\" \"a\":\n   3: resource \"empty_thing\" \"a\" {\n\nThe given plan file can no longer be applied because the state was changed\n",
		"a provider":        "\nError: Inconsistent dependency lock file\n\n  with provider[\"registry.terraform.io/acme/empty\"],\n  on <empty> line 0:\n  (source code not available)\n\nThe given plan file was created with\n",
		"a provisioner":     "\nError: local-exec provisioner error\n\n  with terraform_data.a,\n  on main.tf line 3:\n\nError running command 'x': exit status 1. Output:\n" + staleText,
		"one more error":    staleText + "\nError: Failed to save state\n\nError saving state: x\n",
		"one error before":  "\nError: Failed to save state\n\nError saving state: x\n" + staleText,
		"advice of a cloud": "\nError: no credentials\n\nRun terraform init after you have logged in.\n",
		"a file of its own": "\nError: Failed to load \"x\" as a plan file\n\nError: one\n\nError: two\n",
	} {
		if err := ApplyError(shim.Exit{Code: 1, Output: text}); err == nil || errors.Is(err, ErrStalePlan) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestBegun(t *testing.T) {
	const warning = "\nWarning: Deprecated Parameter\n\nThe parameter \"dynamodb_table\" is deprecated. Use parameter \"use_lockfile\"\ninstead.\n\n(and one more similar warning elsewhere)\n"
	for printed, want := range map[string]bool{
		"": false,
		"Acquiring state lock. This may take a few moments...\nReleasing state lock. This may take a few moments...\n": false,
		warning: false,
		"\x1b[33m╷\x1b[0m\n│ Warning: x\n│\n│ y\n╵":                                     false,
		"Warnings:\n\n- Deprecated Parameter\n":                                         false,
		"terraform_data.a: Creating...\n":                                               true,
		warning + "terraform_data.a: Creating...\n":                                     true,
		warning + "terraform_data.a (deposed object ab12cd34): Destroying... [id=x]\n":  true,
		warning + "terraform_data.a: Importing... [id=x]\n":                             true,
		warning + "ephemeral.a.b: Opening...\n":                                         true,
		warning + "data.a.b: Reading...\n":                                              true,
		warning + "data.a.b: Refreshing state... [id=x]\n":                              true,
		warning + "terraform_data.a: Provisioning with 'local-exec'...\n":               true,
		warning + "a.b: Creation complete after 0s\n":                                   true,
		warning + "ephemeral.a.b: Configuration unknown, deferring...\n":                true,
		warning + "Action started: action.a.b (triggered by terraform_data.a)\n":        true,
		"Acquiring state lock. This may take a few moments...\nsomething else\n":        true,
		"Apply complete! Resources: 0 added, 0 changed, 0 destroyed.\n":                 true,
		warning + "\n[77 bytes left out]\nterraform_data.a (local-exec): Warning: late": true,
	} {
		if got := begun(printed); got != want {
			t.Errorf("begun(%q) = %v", printed, got)
		}
	}
}

func TestLockedOut(t *testing.T) {
	for _, printed := range []string{"", "Acquiring state lock. This may take a few moments...\n"} {
		err := ApplyError(shim.Exit{Code: 1, Output: tofuLock, Printed: printed})
		var l *StateLockedError
		var failed *EngineError
		if !errors.As(err, &l) || !errors.As(err, &failed) || errors.Is(err, ErrStalePlan) {
			t.Fatalf("a locked state: %v", err)
		}
		got, want := *l, StateLockedError{
			ID: "a8ccbc36-896e-5570-ec7a-3fd235d23d82", Path: "states/live/app.tfstate", Operation: "OperationTypePlan",
			Who: "ops@ci-7", Info: "by hand", Created: time.Date(2026, 11, 20, 22, 36, 6, 755512005, time.UTC),
		}
		if got.Created = got.Created.UTC(); !got.Created.Equal(want.Created) {
			t.Errorf("created: %v", got.Created)
		}
		if got.Created, got.Err = want.Created, nil; got != want {
			t.Errorf("a locked state: %+v", got)
		}
		if err.Error() != "the state is locked by ops@ci-7 since 2026-11-20 22:36:06 UTC" {
			t.Errorf("a locked state: %v", err)
		}
	}
	// What a provisioner tells of another state is no lock of this one.
	for name, exit := range map[string]shim.Exit{
		"begun":         {Code: 1, Output: tofuLock, Printed: "terraform_data.a: Creating...\n"},
		"a provisioner": {Code: 1, Output: "\nError: local-exec provisioner error\n\n" + tofuLock},
	} {
		var l *StateLockedError
		if err := ApplyError(exit); err == nil || errors.As(err, &l) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestApplyError(t *testing.T) {
	if err := ApplyError(shim.Exit{}); err != nil {
		t.Errorf("a success: %v", err)
	}
	err := ApplyError(shim.Exit{Code: 1, Output: "\nError: x\n"})
	var failed *EngineError
	if !errors.As(err, &failed) || failed.Err.Error() != "exit code 1" || failed.Output != "Error: x" {
		t.Errorf("a failure: %v", err)
	}
	err = ApplyError(shim.Exit{Code: -1, Signal: "killed", Output: staleText})
	if !errors.Is(err, ErrKilled) || errors.Is(err, ErrStalePlan) {
		t.Errorf("a killed engine: %v", err)
	}
	if err := ApplyError(shim.Exit{Code: -1, Signal: "killed"}); err.Error() != "apply: the engine was killed: signal: killed" {
		t.Errorf("a killed engine: %v", err)
	}
}

func FuzzPlanFile(f *testing.F) {
	f.Add([]byte("\x08\x03\x6a\x14\x0a\x05local\x12\x02\x0a\x00\x1a\x07default"))
	f.Add([]byte("\x08\x03\x6a\x1e\x0a\x05local\x12\x0c\x0a\x0a\x81\xa4path\xa3/st\x1a\x07default"))
	f.Add([]byte("\x6a\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01"))
	f.Add([]byte{0x62, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x7f})
	f.Fuzz(func(t *testing.T, data []byte) {
		p, err := scanPlan(bufio.NewReader(bytes.NewReader(data)))
		if err == nil && len(p.backend)+len(p.workspace)+len(p.path) > 4*len(data) {
			t.Errorf("more than there was: %+v", p)
		}
	})
}

func TestArgumentsThatHideProgress(t *testing.T) {
	for value, refused := range map[string]bool{
		"": false, "-parallelism=3": false, "-var 'x=json'": false, "-lock-timeout=1m -compact-warnings": false,
		"-json": true, "-parallelism=3 --concise": true, `"-json-into=x"`: true, "-concise=true": true,
	} {
		for name, matters := range map[string]bool{"TF_CLI_ARGS": true, "TF_CLI_ARGS_apply": true, "TF_CLI_ARGS_output": false} {
			_, err := New(Config{DataDir: t.TempDir(), Set: map[string]string{name: value}})
			if (err != nil) != (refused && matters) || err != nil && !strings.Contains(err.Error(), name+" ") {
				t.Errorf("%s=%q: %v", name, value, err)
			}
		}
	}
}
