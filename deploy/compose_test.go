package deploy

import (
	"context"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/compose-spec/compose-go/v2/cli"
	"github.com/compose-spec/compose-go/v2/types"
)

// loadCompose reads compose.yaml as Compose does, beside an .env in which every
// variable of example.env has a value.
func loadCompose(t *testing.T) *types.Project {
	t.Helper()
	dir := t.TempDir()
	var filled strings.Builder
	for line := range strings.Lines(readFile(t, "compose/example.env")) {
		if name, ok := strings.CutSuffix(line, "=\n"); ok {
			line = name + "=secret-" + name + "\n"
		}
		filled.WriteString(line)
	}
	for name, content := range map[string]string{"compose.yaml": readFile(t, "compose/compose.yaml"), ".env": filled.String()} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	options, err := cli.NewProjectOptions([]string{filepath.Join(dir, "compose.yaml")}, cli.WithEnvFiles(filepath.Join(dir, ".env")), cli.WithDotEnv)
	if err != nil {
		t.Fatal(err)
	}
	project, err := options.LoadProject(context.Background())
	if err != nil {
		t.Fatal(err)
	}
	return project
}

func TestComposeServicesAreConfined(t *testing.T) {
	project := loadCompose(t)
	for name, s := range project.Services {
		if !s.ReadOnly || !slices.Equal(s.CapDrop, []string{"ALL"}) || !slices.Contains(s.SecurityOpt, "no-new-privileges:true") {
			t.Errorf("%s: read_only is %t, cap_drop %v, security_opt %v", name, s.ReadOnly, s.CapDrop, s.SecurityOpt)
		}
		if s.Privileged || s.User == "root" || s.User == "0" {
			t.Errorf("%s runs as root", name)
		}
		for _, p := range s.Ports {
			if p.HostIP != "127.0.0.1" {
				t.Errorf("%s listens on %q: the pages have no login", name, p.HostIP)
			}
		}
	}
}

func TestComposeNodes(t *testing.T) {
	project := loadCompose(t)
	for name, command := range map[string][]string{"web": {"serve", "--workers", "0"}, "worker": {"worker"}} {
		s, ok := project.Services[name]
		if !ok {
			t.Fatalf("there is no %s", name)
		}
		if !slices.Equal(s.Command, command) {
			t.Errorf("%s runs %v", name, s.Command)
		}
		for _, variable := range append(variables(readFile(t, "compose/server.hcl")), "HOLDFAST_KEY") {
			if value := s.Environment[variable]; value == nil || *value == "" {
				t.Errorf("%s does not get %s", name, variable)
			}
		}
		if s.DependsOn["redis"].Condition != types.ServiceConditionHealthy {
			t.Errorf("%s does not wait for Redis", name)
		}
		data := slices.IndexFunc(s.Volumes, func(v types.ServiceVolumeConfig) bool { return v.Target == "/var/lib/holdfast" })
		if data < 0 || s.Volumes[data].Source != "" {
			t.Errorf("%s: each container needs a data directory of its own: %v", name, s.Volumes)
		}
	}
	worker := project.Services["worker"]
	if worker.GetScale() != 2 {
		t.Error("there are not two workers")
	}
	grace, err := time.ParseDuration(*worker.Environment["HOLDFAST_GRACE"])
	if err != nil {
		t.Fatal(err)
	}
	if stop := time.Duration(*worker.StopGracePeriod); stop < grace+10*time.Minute {
		t.Errorf("a worker is killed after %s, and has a grace of %s", stop, grace)
	}
}

func TestComposeKeepsWhatRedisAcknowledged(t *testing.T) {
	project := loadCompose(t)
	redis := project.Services["redis"]
	script := strings.Join(redis.Command, "\n")
	for _, line := range []string{"appendonly yes", "appendfsync always", "maxmemory-policy noeviction", "requirepass $REDIS_PASSWORD"} {
		if !strings.Contains(strings.ReplaceAll(script, "$$", "$"), line+"\n") {
			t.Errorf("Redis is not told %q:\n%s", line, script)
		}
	}
	if strings.Contains(script, "secret-") {
		t.Error("the password is among the arguments, which everybody on the machine can read")
	}
	if len(redis.Volumes) != 1 || redis.Volumes[0].Source != "redis" || redis.Volumes[0].Target != "/data" {
		t.Errorf("what Redis has does not stay: %v", redis.Volumes)
	}
	_, apart := redis.Networks["store"]
	if !apart || len(redis.Networks) != 1 || !project.Networks["store"].Internal || len(redis.Ports) > 0 {
		t.Errorf("others than nodes reach Redis: %v", redis.Networks)
	}
	if redis.HealthCheck == nil {
		t.Error("Redis has no health check, and nodes wait for it")
	}
}
