package deploy

import (
	"bytes"
	"encoding/json"
	"fmt"
	"maps"
	"path"
	"slices"
	"strings"
	"testing"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	policyv1 "k8s.io/api/policy/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/yaml"

	"helm.sh/helm/v4/pkg/chart/common"
	"helm.sh/helm/v4/pkg/chart/common/util"
	"helm.sh/helm/v4/pkg/chart/v2/loader"
	"helm.sh/helm/v4/pkg/engine"
)

const chartDir = "helm/holdfast"

// release is what the chart makes of values, each object decoded strictly: a
// field that Kubernetes does not know is an error.
type release struct {
	configs   []corev1.ConfigMap
	accounts  []corev1.ServiceAccount
	services  []corev1.Service
	budgets   []policyv1.PodDisruptionBudget
	policies  []networkingv1.NetworkPolicy
	ingresses []networkingv1.Ingress
	monitors  []serviceMonitor
	workloads []workload
}

// workload is a Deployment or a StatefulSet.
type workload struct {
	name     string
	replicas int32
	selector map[string]string
	pod      corev1.PodTemplateSpec
	claims   []corev1.PersistentVolumeClaim
	service  string // the governing one of a StatefulSet
}

// serviceMonitor is what the chart uses of the Prometheus operator's type.
type serviceMonitor struct {
	metav1.TypeMeta   `json:",inline"`
	metav1.ObjectMeta `json:"metadata"`
	Spec              struct {
		Selector  metav1.LabelSelector `json:"selector"`
		Endpoints []struct {
			Port     string `json:"port"`
			Path     string `json:"path"`
			Interval string `json:"interval"`
		} `json:"endpoints"`
	} `json:"spec"`
}

// values reads one of the examples, with more on top of it.
func values(t *testing.T, example string, more map[string]any) map[string]any {
	t.Helper()
	all := map[string]any{}
	if err := yaml.UnmarshalStrict([]byte(readFile(t, "helm/examples/"+example+".yaml")), &all); err != nil {
		t.Fatal(err)
	}
	maps.Copy(all, more)
	return all
}

// renderTexts returns what the templates make of values, by file.
func renderTexts(values map[string]any) (map[string]string, error) {
	chart, err := loader.LoadDir(chartDir)
	if err != nil {
		return nil, err
	}
	all, err := util.ToRenderValues(chart, values, common.ReleaseOptions{Name: "holdfast", Namespace: "infra", Revision: 1, IsInstall: true}, nil)
	if err != nil {
		return nil, err
	}
	return engine.Render(chart, all)
}

func render(t *testing.T, values map[string]any) *release {
	t.Helper()
	texts, err := renderTexts(values)
	if err != nil {
		t.Fatal(err)
	}
	r := &release{}
	for _, file := range slices.Sorted(maps.Keys(texts)) {
		if path.Ext(file) != ".yaml" {
			continue
		}
		for document := range strings.SplitSeq("\n"+texts[file], "\n---\n") {
			if err := r.add(document); err != nil {
				t.Fatalf("%s: %v\n%s", file, err, document)
			}
		}
	}
	return r
}

// add decodes an object.
func (r *release) add(document string) error {
	var kind metav1.TypeMeta
	if err := yaml.Unmarshal([]byte(document), &kind); err != nil {
		return err
	}
	switch kind.APIVersion + " " + kind.Kind {
	case " ": // nothing but comments
		return nil
	case "v1 ConfigMap":
		return decode(document, &r.configs)
	case "v1 ServiceAccount":
		return decode(document, &r.accounts)
	case "v1 Service":
		return decode(document, &r.services)
	case "policy/v1 PodDisruptionBudget":
		return decode(document, &r.budgets)
	case "networking.k8s.io/v1 NetworkPolicy":
		return decode(document, &r.policies)
	case "networking.k8s.io/v1 Ingress":
		return decode(document, &r.ingresses)
	case "monitoring.coreos.com/v1 ServiceMonitor":
		return decode(document, &r.monitors)
	case "apps/v1 Deployment":
		var all []appsv1.Deployment
		if err := decode(document, &all); err != nil {
			return err
		}
		d := all[0]
		r.workloads = append(r.workloads, workload{d.Name, *d.Spec.Replicas, d.Spec.Selector.MatchLabels, d.Spec.Template, nil, ""})
		return nil
	case "apps/v1 StatefulSet":
		var all []appsv1.StatefulSet
		if err := decode(document, &all); err != nil {
			return err
		}
		s := all[0]
		r.workloads = append(r.workloads, workload{s.Name, *s.Spec.Replicas, s.Spec.Selector.MatchLabels, s.Spec.Template, s.Spec.VolumeClaimTemplates, s.Spec.ServiceName})
		return nil
	}
	return fmt.Errorf("%s %s is nothing that the chart should make", kind.APIVersion, kind.Kind)
}

// decode is as strict as Kubernetes: a number is no string, other than for
// yaml.UnmarshalStrict.
func decode[T any](document string, to *[]T) error {
	text, err := yaml.YAMLToJSONStrict([]byte(document))
	if err != nil {
		return err
	}
	var object T
	d := json.NewDecoder(bytes.NewReader(text))
	d.DisallowUnknownFields()
	if err := d.Decode(&object); err != nil {
		return err
	}
	*to = append(*to, object)
	return nil
}

// workload returns the one of this name.
func (r *release) workload(t *testing.T, name string) workload {
	t.Helper()
	i := slices.IndexFunc(r.workloads, func(w workload) bool { return w.name == name })
	if i < 0 {
		t.Fatalf("there is no %s", name)
	}
	return r.workloads[i]
}

// container is the only one of the pod.
func (w workload) container() corev1.Container { return w.pod.Spec.Containers[0] }

// env returns a variable of the container.
func (w workload) env(name string) (corev1.EnvVar, bool) {
	all := w.container().Env
	i := slices.IndexFunc(all, func(v corev1.EnvVar) bool { return v.Name == name })
	if i < 0 {
		return corev1.EnvVar{}, false
	}
	return all[i], true
}

// selects says whether labels have all that a selector wants.
func selects(selector, labels map[string]string) bool {
	for name, value := range selector {
		if labels[name] != value {
			return false
		}
	}
	return len(selector) > 0
}
