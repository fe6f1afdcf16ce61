package deploy

import (
	"fmt"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/util/intstr"

	"helm.sh/helm/v4/pkg/chart/v2/lint"
	"helm.sh/helm/v4/pkg/chart/v2/lint/support"
)

// engineTime is how long an engine may take to end what it is at and to save
// its state.
const engineTime = 10 * time.Minute

// everyExample runs a test for each file in helm/examples.
func everyExample(t *testing.T, test func(t *testing.T, r *release)) {
	files, err := filepath.Glob("helm/examples/*.yaml")
	if err != nil || len(files) < 2 {
		t.Fatalf("examples: %v, %v", files, err)
	}
	for _, file := range files {
		name := strings.TrimSuffix(filepath.Base(file), ".yaml")
		t.Run(name, func(t *testing.T) { test(t, render(t, values(t, name, nil))) })
	}
}

func TestChartLints(t *testing.T) {
	for _, example := range []string{"pull", "pools"} {
		for _, m := range lint.RunAll(chartDir, values(t, example, nil), "infra").Messages {
			if m.Severity > support.InfoSev {
				t.Errorf("%s: %v", example, m)
			}
		}
	}
}

func TestPodsAreRestricted(t *testing.T) {
	everyExample(t, func(t *testing.T, r *release) {
		for _, w := range r.workloads {
			pod, c := w.pod.Spec.SecurityContext, w.container().SecurityContext
			if !*pod.RunAsNonRoot || *pod.RunAsUser == 0 || *pod.RunAsGroup == 0 || pod.SeccompProfile.Type != corev1.SeccompProfileTypeRuntimeDefault {
				t.Errorf("%s: %+v", w.name, pod)
			}
			if *c.AllowPrivilegeEscalation || !*c.ReadOnlyRootFilesystem || !slices.Equal(c.Capabilities.Drop, []corev1.Capability{"ALL"}) {
				t.Errorf("%s: %+v", w.name, c)
			}
			if *w.pod.Spec.AutomountServiceAccountToken {
				t.Errorf("%s: a plan could use the pod's token", w.name)
			}
			if r := w.container().Resources; r.Limits.Memory().IsZero() || r.Requests.Cpu().IsZero() {
				t.Errorf("%s has no bound of memory, or no share of CPU", w.name)
			}
		}
		for _, a := range r.accounts {
			if *a.AutomountServiceAccountToken {
				t.Errorf("%s hands out its token", a.Name)
			}
		}
	})
}

func TestImageAndChartAgree(t *testing.T) {
	image := readFile(t, "Dockerfile")
	everyExample(t, func(t *testing.T, r *release) {
		for _, w := range r.workloads {
			pod := w.pod.Spec.SecurityContext
			if user := fmt.Sprintf("USER %d:%d\n", *pod.RunAsUser, *pod.RunAsGroup); !strings.Contains(image, user) {
				t.Errorf("the image of %s has no %s", w.name, user)
			}
		}
	})
}

func TestProbes(t *testing.T) {
	everyExample(t, func(t *testing.T, r *release) {
		for _, w := range r.workloads {
			c := w.container()
			ports := map[string]int32{}
			for _, p := range c.Ports {
				ports[p.Name] = p.ContainerPort
			}
			for what, probe := range map[string]*corev1.Probe{"/healthz": c.LivenessProbe, "/healthz at the start": c.StartupProbe, "/readyz": c.ReadinessProbe} {
				path, _, _ := strings.Cut(what, " ")
				if probe.HTTPGet.Path != path || ports[probe.HTTPGet.Port.StrVal] == 0 {
					t.Errorf("%s: %s is asked at %s %s", w.name, what, probe.HTTPGet.Path, probe.HTTPGet.Port.StrVal)
				}
			}
			if listen, _ := w.env("HOLDFAST_LISTEN"); listen.Value != ":"+strconv.Itoa(int(ports["http"])) {
				t.Errorf("%s listens on %q, and is asked at %d", w.name, listen.Value, ports["http"])
			}
		}
	})
}

func TestPodsHaveTheirVolumes(t *testing.T) {
	everyExample(t, func(t *testing.T, r *release) {
		for _, w := range r.workloads {
			var volumes []string
			for _, v := range w.pod.Spec.Volumes {
				volumes = append(volumes, v.Name)
				if v.ConfigMap != nil && v.ConfigMap.Name != r.configs[0].Name {
					t.Errorf("%s reads the ConfigMap %s", w.name, v.ConfigMap.Name)
				}
			}
			for _, c := range w.claims {
				volumes = append(volumes, c.Name)
			}
			var paths []string
			for _, m := range w.container().VolumeMounts {
				paths = append(paths, m.MountPath)
				if !slices.Contains(volumes, m.Name) {
					t.Errorf("%s has no volume %s", w.name, m.Name)
				}
			}
			if dir, _ := w.env("HOLDFAST_DATA_DIR"); !slices.Contains(paths, filepath.Dir(dir.Value)) || !slices.Contains(paths, "/tmp") {
				t.Errorf("%s can write only below %v", w.name, paths)
			}
			if !slices.ContainsFunc(r.accounts, func(a corev1.ServiceAccount) bool { return a.Name == w.pod.Spec.ServiceAccountName }) {
				t.Errorf("%s has no account %s", w.name, w.pod.Spec.ServiceAccountName)
			}
		}
	})
}

// TestServerFileHasItsVariables holds the examples to what their pods get, and
// the chart to keeping secrets out of what it renders.
func TestServerFileHasItsVariables(t *testing.T) {
	everyExample(t, func(t *testing.T, r *release) {
		needed := append(variables(r.configs[0].Data["server.hcl"]), "HOLDFAST_KEY")
		for _, w := range r.workloads {
			for _, name := range needed {
				v, ok := w.env(name)
				if !ok || v.Value != "" || v.ValueFrom == nil || v.ValueFrom.SecretKeyRef == nil {
					t.Errorf("%s: %s does not come from a Secret: %+v", w.name, name, v)
				}
			}
			seen := map[string]bool{}
			for _, v := range w.container().Env {
				if seen[v.Name] {
					t.Errorf("%s has %s twice", w.name, v.Name)
				}
				seen[v.Name] = true
			}
		}
	})
}

func TestSelectorsFindTheirPods(t *testing.T) {
	everyExample(t, func(t *testing.T, r *release) {
		found := func(selector map[string]string) (names []string) {
			for _, w := range r.workloads {
				if selects(selector, w.pod.Labels) {
					names = append(names, w.name)
				}
			}
			return names
		}
		for _, w := range r.workloads {
			if got := found(w.selector); !slices.Equal(got, []string{w.name}) {
				t.Errorf("%s has the pods of %v", w.name, got)
			}
			budgets := 0
			for _, b := range r.budgets {
				if selects(b.Spec.Selector.MatchLabels, w.pod.Labels) {
					budgets++
					if *b.Spec.MaxUnavailable != intstr.FromInt32(1) {
						t.Errorf("%s may lose %s pods at once", w.name, b.Spec.MaxUnavailable)
					}
				}
			}
			if budgets != 1 {
				t.Errorf("%s has %d budgets; with more than one no pod can be evicted", w.name, budgets)
			}
			if w.claims != nil && !slices.ContainsFunc(r.services, func(s corev1.Service) bool { return s.Name == w.service && s.Spec.ClusterIP == "None" }) {
				t.Errorf("%s has no service %s", w.name, w.service)
			}
		}
		for _, s := range r.services {
			names := found(s.Spec.Selector)
			if s.Spec.ClusterIP == "None" {
				if len(names) != len(r.workloads)-1 || slices.Contains(names, "holdfast-web") {
					t.Errorf("%s names the pods of %v", s.Name, names)
				}
			} else if !slices.Equal(names, []string{"holdfast-web"}) {
				t.Errorf("%s leads to %v: only web nodes take webhooks", s.Name, names)
			}
			for _, p := range s.Spec.Ports {
				if p.TargetPort.StrVal != "http" {
					t.Errorf("%s leads to the port %s", s.Name, p.TargetPort.String())
				}
			}
		}
		for _, p := range r.policies {
			if len(found(p.Spec.PodSelector.MatchLabels)) == 0 {
				t.Errorf("%s is for no pod", p.Name)
			}
		}
	})
}

func TestWorkersAreGivenTime(t *testing.T) {
	everyExample(t, func(t *testing.T, r *release) {
		for _, w := range r.workloads {
			if w.name == "holdfast-web" {
				continue
			}
			v, _ := w.env("HOLDFAST_GRACE")
			grace, err := time.ParseDuration(v.Value)
			if err != nil {
				t.Fatal(err)
			}
			if kill := time.Duration(*w.pod.Spec.TerminationGracePeriodSeconds) * time.Second; kill < grace+engineTime {
				t.Errorf("%s is killed after %s, and has a grace of %s", w.name, kill, grace)
			}
		}
	})
	r := render(t, values(t, "pull", map[string]any{"shutdown": map[string]any{"graceSeconds": 900}}))
	if got := *r.workload(t, "holdfast-worker-default").pod.Spec.TerminationGracePeriodSeconds; got != 900+640 {
		t.Errorf("a longer grace leaves %d s until the kill", got)
	}
}

func TestWebNodes(t *testing.T) {
	everyExample(t, func(t *testing.T, r *release) {
		web := r.workload(t, "holdfast-web")
		if web.replicas < 2 || !slices.Equal(web.container().Args, []string{"serve", "--workers", "0"}) {
			t.Errorf("%d times %v", web.replicas, web.container().Args)
		}
	})
}

func TestPools(t *testing.T) {
	r := render(t, values(t, "pools", nil))
	prod, other := r.workload(t, "holdfast-worker-prod"), r.workload(t, "holdfast-worker-default")
	if labels, _ := prod.env("HOLDFAST_LABELS"); labels.Value != "prod,eu" {
		t.Errorf("prod has the labels %q", labels.Value)
	}
	if labels, ok := other.env("HOLDFAST_LABELS"); ok {
		t.Errorf("the other pool has the labels %q", labels.Value)
	}
	if dedicated, _ := prod.env("HOLDFAST_DEDICATED"); dedicated.Value != "true" {
		t.Error("prod takes jobs that do not ask for it: others' code has its role")
	}
	if _, ok := other.env("HOLDFAST_DEDICATED"); ok {
		t.Error("nobody does the jobs that ask for nothing")
	}
	if jobs, _ := prod.env("HOLDFAST_WORKERS"); jobs.Value != "2" || prod.replicas != 2 || other.replicas != 4 {
		t.Errorf("prod: %s jobs in %d pods; the other pool has %d", jobs.Value, prod.replicas, other.replicas)
	}
	if prod.pod.Spec.NodeSelector["workload"] != "prod" || len(prod.pod.Spec.Tolerations) != 1 || len(other.pod.Spec.NodeSelector) > 0 {
		t.Errorf("prod is on %v, the other pool on %v", prod.pod.Spec.NodeSelector, other.pod.Spec.NodeSelector)
	}
	roles := map[string]string{}
	for _, a := range r.accounts {
		roles[a.Name] = a.Annotations["eks.amazonaws.com/role-arn"]
	}
	if !strings.HasSuffix(roles[prod.pod.Spec.ServiceAccountName], "/holdfast-prod") || !strings.HasSuffix(roles[other.pod.Spec.ServiceAccountName], "/holdfast-staging") {
		t.Errorf("roles: %v", roles)
	}
	r = render(t, values(t, "pull", map[string]any{"workers": map[string]any{"default": nil, "7": map[string]any{}}}))
	if r.workload(t, "holdfast-worker-7"); len(r.workloads) != 2 {
		t.Errorf("default: null leaves %d workloads", len(r.workloads))
	}
}

func TestIngressIsOffUnlessAskedFor(t *testing.T) {
	if r := render(t, values(t, "pull", nil)); len(r.ingresses)+len(r.policies)+len(r.monitors) > 0 {
		t.Error("the example for pull mode lets somebody in")
	}
	r := render(t, values(t, "pools", nil))
	if len(r.ingresses) != 1 || len(r.policies) != 2 || len(r.monitors) != 1 {
		t.Fatalf("%d ingresses, %d policies, %d monitors", len(r.ingresses), len(r.policies), len(r.monitors))
	}
	for _, p := range r.ingresses[0].Spec.Rules[0].HTTP.Paths {
		if p.Path != "/webhooks" && p.Path != "/hooks" {
			t.Errorf("%s is open, and has no login", p.Path)
		}
		if p.Backend.Service.Name != "holdfast" || p.Backend.Service.Port.Name != "http" {
			t.Errorf("%s leads to %+v", p.Path, p.Backend.Service)
		}
	}
	for _, p := range r.policies {
		if !slices.Contains(p.Spec.Egress[0].To[1].IPBlock.Except, "169.254.169.254/32") {
			t.Errorf("%s: a plan could take the machine's role", p.Name)
		}
	}
	for _, s := range r.services {
		if !selects(r.monitors[0].Spec.Selector.MatchLabels, s.Labels) {
			t.Errorf("nobody reads the metrics of %s", s.Name)
		}
	}
}

func TestAChangedServerFileMakesNewPods(t *testing.T) {
	sum := func(config string) string {
		r := render(t, values(t, "pull", map[string]any{"config": config}))
		if got := r.configs[0].Data["server.hcl"]; got != config {
			t.Errorf("nodes read %q, not %q", got, config)
		}
		return r.workload(t, "holdfast-web").pod.Annotations["checksum/config"] + r.workload(t, "holdfast-worker-default").pod.Annotations["checksum/config"]
	}
	const config = "url = \"http://a\"\n\nengine {\n  pass = []\n}\n"
	if first := sum(config); first == "" || first != sum(config) || first == sum(strings.Replace(config, "//a", "//b", 1)) {
		t.Error("pods do not change with the server file")
	}
}

func TestMistakesInValuesAreRefused(t *testing.T) {
	for name, more := range map[string]map[string]any{
		"config is empty":        {"config": ""},
		"ingress.host is needed": {"ingress": map[string]any{"enabled": true}},
		"relpicas":               {"worker": map[string]any{"relpicas": 3}},
		"engineSeconds":          {"shutdown": map[string]any{"engineSeconds": 5}},
		"has no labels":          {"worker": map[string]any{"dedicated": true}},
		"secrets":                {"secrets": map[string]any{"holdfast": "the-token-itself"}},
		"Holdfast":               {"secrets": map[string]any{"Holdfast": []any{"KEY"}}},
	} {
		if _, err := renderTexts(values(t, "pull", more)); err == nil || !strings.Contains(err.Error(), name) {
			t.Errorf("%s: %v", name, err)
		}
	}
}
