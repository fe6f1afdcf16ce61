package markdown

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"holdfast/runner/plan"
)

// TestDiffOfRealPlans uses the plans that the engine made for package plan.
func TestDiffOfRealPlans(t *testing.T) {
	for _, name := range []string{"create", "mixed", "nothing", "outputs"} {
		t.Run(name, func(t *testing.T) {
			data, err := os.ReadFile(filepath.Join("..", "plan", "testdata", name+".json"))
			if err != nil {
				t.Fatal(err)
			}
			p, err := plan.Parse(data)
			if err != nil {
				t.Fatal(err)
			}
			got := Diff(p)
			if strings.Contains(got, "hunter2") {
				t.Error("a secret is shown")
			}
			golden(t, "real_"+name+".diff", got)
			golden(t, "real_"+name+".md", Single(p, name, 60_000))
		})
	}
}

func TestDiffOfValues(t *testing.T) {
	tests := []struct {
		name, before, after string
		change              func(*plan.Change)
	}{
		{"scalars", `{"a":1,"b":true,"c":"x","d":null,"e":"gone","same":1,"also":[]}`, `{"a":1.5,"b":false,"c":"y\"${z}","d":"new","e":null,"same":1,"also":[]}`, nil},
		{"types", `{"a":"1","b":[1],"c":{"x":1},"d":"a\nb"}`, `{"a":1,"b":{"x":1},"c":"x","d":[]}`, nil},
		{"nested", `{"tags":{"a":"1","b":"2","c":{"d":[1,2]}}}`, `{"tags":{"a":"1","b":"3","c":{"d":[1,2,3]}}}`, nil},
		{"lists", `{"l":["a","b","c","d","e"],"o":[{"port":80,"proto":"tcp"},{"port":443,"proto":"tcp"}]}`, `{"l":["a","x","c","e","f"],"o":[{"port":80,"proto":"tcp"},{"port":8443,"proto":"tcp"},{"port":22}]}`, nil},
		{"lists of null", `{"l":[null,1]}`, `{"l":[2,null]}`, nil},
		{"unknown", `{"id":"i","l":["a","b"],"o":{"x":1,"y":2},"all":["gone"]}`, `{"l":["a",null],"o":{"x":1}}`, func(c *plan.Change) {
			c.Unknown = json.RawMessage(`{"id":true,"l":[false,true],"o":{"y":true},"all":true}`)
		}},
		{"sensitive", `{"pw":"old","was":"secret","now":"plain","m":{"k":"old","x":1},"l":["s1","b"]}`, `{"pw":"new","was":"plain","now":"secret","m":{"k":"new","x":2},"l":["s2","b"]}`, func(c *plan.Change) {
			c.SensitiveBefore = json.RawMessage(`{"pw":true,"was":true,"m":{"k":true},"l":[true]}`)
			c.SensitiveAfter = json.RawMessage(`{"pw":true,"now":true,"m":{"k":true},"l":[true]}`)
		}},
		{"wholly sensitive", `{"pw":"old"}`, `{"pw":"new"}`, func(c *plan.Change) {
			c.SensitiveBefore, c.SensitiveAfter = json.RawMessage("true"), json.RawMessage("true")
		}},
		{"text", `{"script":"#!/bin/sh\none\ntwo\nthree\nfour\nfive\nsix\nseven\n","short":"a\n"}`, `{"script":"#!/bin/sh\none\ntwo\nthree\nfour\nfive\nsix!\nseven\n","short":"a"}`, nil},
		{"json", `{"policy":"{\"Statement\":[{\"Effect\":\"Allow\",\"Action\":[\"s3:Get*\"]}],\"Version\":\"1\"}","order":"{\"a\":1,\"b\":2}"}`,
			`{"policy":"{\"Statement\":[{\"Effect\":\"Allow\",\"Action\":[\"s3:Get*\",\"s3:Put*\"]}],\"Version\":\"1\"}","order":"{\"b\":2,\"a\":1}"}`, nil},
		{"json that says it twice", `{"policy":"{\"a\":1}"}`, `{"policy":"{\"a\":2,\"a\":1}"}`, nil},
		{"forced", `{"cidr":"a","ingress":[{"port":1}]}`, `{"cidr":"b","ingress":[{"port":2}]}`, func(c *plan.Change) {
			c.Action = plan.ReplaceCreateFirst
			c.Reason = "replace_by_triggers"
			c.Replace = []json.RawMessage{json.RawMessage(`["cidr"]`), json.RawMessage(`["ingress",0,"port"]`)}
		}},
		{"hidden characters", `{"a":"admin"}`, `{"a":"\u202enimda\u200b\u001b[31m","b":"\u00a0","c":"x\u001b[2K\ry\nz"}`, nil},
		{"moved and imported", `{"a":1}`, `{"a":2}`, func(c *plan.Change) { c.Previous, c.Import = "cloud_server.old", "i-\"1" }},
		{"of a later engine", `{"a":1}`, `{"a":1}`, func(c *plan.Change) { c.Action = "shake+stir" }},
	}
	var all strings.Builder
	for _, tc := range tests {
		c := change("cloud_server.x", plan.Update, tc.before, tc.after)
		if tc.change != nil {
			tc.change(&c)
		}
		fmt.Fprintf(&all, "== %s ==\n%s\n", tc.name, Diff(&plan.Plan{Changes: []plan.Change{c}}))
	}
	more := &plan.Plan{Errored: true, Incomplete: true, Reads: []string{"data.cloud_image.x"}, Invocations: []plan.Invocation{
		{Address: "action.mail.x", Trigger: "cloud_server.x", Event: "AfterCreate"}, {Address: "action.mail.y"}}}
	fmt.Fprintf(&all, "== besides ==\n%s\n", Diff(more))
	fmt.Fprintf(&all, "== nothing ==\n%s\n", Diff(nil))
	fmt.Fprintf(&all, "== terminal ==\n%s\n", PlanText(updated()))
	golden(t, "values.diff", all.String())
	for _, secret := range []string{`"old"`, `"new"`, "secret", "s1", "s2"} {
		if strings.Contains(all.String(), secret) && secret != `"new"` {
			t.Errorf("%s is shown", secret)
		}
	}
}

// TestDiffIsQuick holds that work stays in proportion for hostile values.
func TestDiffIsQuick(t *testing.T) {
	list := func(n int, item string) string {
		items := make([]string, n)
		for i := range items {
			items[i] = fmt.Sprintf(item, i)
		}
		return "[" + strings.Join(items, ",") + "]"
	}
	marks := "[true" + strings.Repeat(",true", 19_999) + "]"
	secrets := `{"l":` + list(20_000, `"s%d"`) + `}`
	c := change("cloud_server.x", plan.Update, secrets, `{"l":`+list(20_000, `"t%d"`)+`}`, func(c *plan.Change) {
		c.SensitiveBefore, c.SensitiveAfter = json.RawMessage(`{"l":`+marks+`}`), json.RawMessage(`{"l":`+marks+`}`)
	})
	if got := Diff(&plan.Plan{Changes: []plan.Change{c}}); strings.Contains(got, "s1") || strings.Contains(got, "t1") {
		t.Error("a secret is shown")
	}
	deep := strings.Repeat(`{"a":`, 2000) + "1" + strings.Repeat("}", 2000)
	Diff(&plan.Plan{Changes: []plan.Change{change("cloud_server.x", plan.Update, deep, strings.Replace(deep, "1", "2", 1))}})
}

func TestCompareText(t *testing.T) {
	tests := []struct {
		name          string
		reviewed, now *plan.Plan
		want          []string
	}{
		{"identical", updated(), updated(), []string{"Identical", "Now:      1 to change"}},
		{"narrower", dangerous(), &plan.Plan{}, []string{"Narrower", "cloud_server.old\n  reviewed: destroyed\n  now:      (no change)", "Now:      no changes"}},
		{"changed", created(), updated(), []string{"Changed", "output.url"}},
		{"absent", nil, updated(), []string{"Changed", "Reviewed: no changes"}},
	}
	for _, tc := range tests {
		t.Run(tc.name, func(t *testing.T) {
			got := CompareText(plan.Compare(tc.reviewed, tc.now), tc.reviewed, tc.now)
			for _, want := range tc.want {
				if !strings.Contains(got, want) {
					t.Errorf("no %q in\n%s", want, got)
				}
			}
		})
	}
}

// BenchmarkDiff shows a plan of 10,000 resources.
func BenchmarkDiff(b *testing.B) {
	p := &plan.Plan{}
	for range 10_000 {
		p.Changes = append(p.Changes, updated().Changes...)
	}
	for b.Loop() {
		Diff(p)
	}
}
