package main

import (
	"bytes"
	"strings"
	"testing"

	"holdfast/runner/plan"
)

func TestNamesMatch(t *testing.T) {
	known := []string{"live/prod/vpc", "prod-iam", "dev"}
	for _, names := range [][]string{{"**"}, {"prod-*", "dev"}, {"live/prod/vpc"}, {"live/**"}} {
		if err := namesMatch(names, known); err != nil {
			t.Errorf("%q: %v", names, err)
		}
	}
	err := namesMatch([]string{"dev", "prod-imm"}, known)
	if err == nil || !strings.Contains(err.Error(), `"prod-imm"`) || !strings.Contains(hintOf(err), `"prod-iam"`) {
		t.Errorf("%v, hint %q", err, hintOf(err))
	}
}

func TestExplain(t *testing.T) {
	var out bytes.Buffer
	err := explain(&out, plan.DriftReport{Class: plan.CheckError, Reason: "Deferred.", Unexplained: []string{"x.a"}, Checks: []plan.FailedCheck{{Address: "check.web", Message: "It is down."}}})
	for _, want := range []string{"Deferred.", "x.a: its change would do more", "check.web does not hold. It is down."} {
		if !strings.Contains(out.String(), want) || err != nil {
			t.Errorf("%v: no %q in\n%s", err, want, out.String())
		}
	}
}
