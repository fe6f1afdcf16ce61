package deploy

import (
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/coreos/go-systemd/v22/unit"
)

const unitFile = "systemd/holdfast@.service"

// readUnit returns the values of each option, by "Section.Name".
func readUnit(t *testing.T) map[string][]string {
	t.Helper()
	options, err := unit.DeserializeOptions(strings.NewReader(readFile(t, unitFile)))
	if err != nil {
		t.Fatal(err)
	}
	all := map[string][]string{}
	for _, o := range options {
		all[o.Section+"."+o.Name] = append(all[o.Section+"."+o.Name], o.Value)
	}
	return all
}

func TestUnitIsConfined(t *testing.T) {
	all := readUnit(t)
	for name, want := range map[string]string{
		"User": "holdfast", "NoNewPrivileges": "yes", "CapabilityBoundingSet": "", "ProtectSystem": "strict", "ProtectHome": "yes",
		"PrivateDevices": "yes", "StateDirectory": "holdfast", "StateDirectoryMode": "0700", "UMask": "0077", "RestrictNamespaces": "yes",
	} {
		if got := all["Service."+name]; !slices.Equal(got, []string{want}) {
			t.Errorf("%s is %q, not %q", name, got, want)
		}
	}
}

// TestUnitLetsAnApplyOutliveACrash holds what systemd.kill(5) says: "mixed"
// kills all that remains once the main process has exited, however it did.
func TestUnitLetsAnApplyOutliveACrash(t *testing.T) {
	all := readUnit(t)
	for name, want := range map[string]string{"KillMode": "process", "OOMPolicy": "continue", "Restart": "always"} {
		if got := all["Service."+name]; !slices.Equal(got, []string{want}) {
			t.Errorf("%s is %q, not %q", name, got, want)
		}
	}
	if all["Service.PrivateTmp"] != nil || all["Service.DynamicUser"] != nil {
		t.Error("systemd empties a private /tmp while an engine still works in it")
	}
	if !slices.Equal(all["Unit.StartLimitIntervalSec"], []string{"0"}) {
		t.Error("after some crashes nobody would follow the engine")
	}
	i := slices.IndexFunc(all["Service.Environment"], func(v string) bool { return strings.HasPrefix(v, "HOLDFAST_GRACE=") })
	if i < 0 {
		t.Fatal("HOLDFAST_GRACE is not set")
	}
	grace, err := time.ParseDuration(strings.TrimPrefix(all["Service.Environment"][i], "HOLDFAST_GRACE="))
	if err != nil {
		t.Fatal(err)
	}
	stop, err := strconv.Atoi(all["Service.TimeoutStopSec"][0])
	if err != nil {
		t.Fatal(err)
	}
	if stop := time.Duration(stop) * time.Second; stop < grace+10*time.Minute {
		t.Errorf("it is killed after %s, and has a grace of %s", stop, grace)
	}
}

// TestUnitIsSystemds has systemd itself read the unit, where there is one: it
// knows which options there are.
func TestUnitIsSystemds(t *testing.T) {
	analyze, err := exec.LookPath("systemd-analyze")
	if err != nil {
		t.Log("systemd-analyze is not on PATH: only the unit's syntax is tested")
		return
	}
	for _, instance := range []string{"serve", "worker"} {
		// It looks for the program that is started.
		text := strings.ReplaceAll(readFile(t, unitFile), "/usr/local/bin/holdfast", "/bin/sh")
		path := filepath.Join(t.TempDir(), "holdfast@"+instance+".service")
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		out, err := exec.Command(analyze, "verify", "--man=no", path).CombinedOutput()
		if err != nil || strings.Contains(string(out), filepath.Base(path)) {
			t.Errorf("%v\n%s", err, out)
		}
	}
}

func TestEveryVariableOfTheUnitsServerFileIsProvided(t *testing.T) {
	env := readFile(t, "systemd/example.env")
	for _, name := range append(variables(readFile(t, "systemd/server.hcl")), "HOLDFAST_KEY") {
		if !strings.Contains(env, "\n"+name+"=") {
			t.Errorf("example.env has no %s", name)
		}
	}
}
