package workspaces

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

// estate is a repository with most that a change can touch.
const estate = `
live/b/shared -> ../../shared
-- holdfast.hcl --
workspace "a" {
  dir       = "live/a"
  var_files = ["../../vars/a.tfvars"]
  watch     = ["policies/**/*.json", ".ci/*"]
}
workspace "a-blue" {
  dir       = "live/a"
  workspace = "blue"
}
-- live/a/main.tf --
module "top" { source = "../../modules/top" }
-- live/a/templates/x/user.tpl --
-- live/a/.terraform.lock.hcl --
-- live/a/nested/main.tf --
provider "null" {}
-- live/b/main.tf --
module "other" { source = "../../modules/other" }
-- live/c/main.tf --
-- modules/top/main.tf --
module "deep" { source = "./deep" }
-- modules/top/deep/main.tf --
module "deeper" { source = "../../deeper" }
-- modules/top/files/x.sh --
-- modules/top/examples/e/main.tf --
module "top" { source = "../.." }
-- modules/deeper/main.tf --
-- modules/other/main.tf --
-- vars/a.tfvars --
-- policies/x/y.json --
-- shared/conf.yaml --
`

// edit changes an archive: "PATH" removes a file, "PATH: CONTENT" writes one.
func edit(archive string, edits ...string) string {
	for _, e := range edits {
		name, content, keep := strings.Cut(e, ": ")
		marker := "-- " + name + " --\n"
		if before, rest, found := strings.Cut(archive, marker); found {
			after := ""
			if i := strings.Index(rest, "-- "); i >= 0 {
				after = rest[i:]
			}
			archive = before + after
		}
		if keep {
			archive += marker + content + "\n"
		}
	}
	return archive
}

func TestAffected(t *testing.T) {
	base := load(t, estate)
	hcl := estate[strings.Index(estate, "workspace \"a\""):strings.Index(estate, "-- live/a/main.tf")]
	for _, tc := range []struct {
		name    string
		edits   []string // from base to head
		changed string   // paths; default: the edits' paths
		want    string   // NAME (BECAUSE), deleted ones with a minus
	}{
		{name: "nothing", want: ""},
		{name: "own file", edits: []string{"live/c/main.tf: # x"}, want: "live/c (live/c/main.tf)"},
		{name: "new file", edits: []string{"live/c/new.tf: # x"}, want: "live/c (live/c/new.tf)"},
		{name: "shared directory", edits: []string{"live/a/main.tf: # x"}, want: "a (live/a/main.tf), a-blue (live/a/main.tf)"},
		{name: "lock file", changed: "live/a/.terraform.lock.hcl", want: "a (live/a/.terraform.lock.hcl), a-blue (live/a/.terraform.lock.hcl)"},
		{name: "auto tfvars", edits: []string{"live/c/x.auto.tfvars: x = 1"}, want: "live/c (live/c/x.auto.tfvars)"},
		{name: "templates below", changed: "live/a/templates/x/user.tpl", want: "a (live/a/templates/x/user.tpl), a-blue (live/a/templates/x/user.tpl)"},
		{name: "a root module below", changed: "live/a/nested/main.tf", want: "live/a/nested (live/a/nested/main.tf)"},
		{name: "module", changed: "modules/other/main.tf", want: "live/b (module modules/other: modules/other/main.tf)"},
		{name: "module of a module of a module", changed: "modules/deeper/x.json", want: "a (module modules/deeper: modules/deeper/x.json), a-blue (module modules/deeper: modules/deeper/x.json), modules/top/examples/e (module modules/deeper: modules/deeper/x.json)"},
		{name: "a file below a module", changed: "modules/top/files/x.sh", want: "a (module modules/top: modules/top/files/x.sh), a-blue (module modules/top: modules/top/files/x.sh), modules/top/examples/e (module modules/top: modules/top/files/x.sh)"},
		{name: "an example of a module", changed: "modules/top/examples/e/main.tf", want: "modules/top/examples/e (modules/top/examples/e/main.tf)"},
		{name: "var file", changed: "vars/a.tfvars", want: "a (var file vars/a.tfvars)"},
		{name: "watched", changed: "policies/x/y.json", want: "a (watched: policies/x/y.json)"},
		{name: "watched in a hidden directory", changed: ".ci/run", want: "a (watched: .ci/run)"},
		{name: "through a symbolic link", changed: "shared/conf.yaml", want: "live/b (shared/conf.yaml)"},
		{name: "the symbolic link", changed: "live/b/shared", want: "live/b (live/b/shared)"},
		{name: "nobody's", changed: "README.md vars/b.tfvars .github/workflows/x.yml policies/x.txt", want: ""},
		{name: "engine's own", changed: "live/a/.terraform/modules/modules.json", want: ""},
		{name: "not below by name only", changed: "live/ab/x modules/other2/main.tf", want: ""},
		{name: "paths that are not clean", changed: "./live/c//main.tf ../live/c/main.tf /live/c/x", want: "live/c (live/c/main.tf)"},
		{
			name: "deleted module", edits: []string{"modules/other/main.tf", "live/b/main.tf: # none"},
			changed: "modules/other/main.tf", want: "live/b (module modules/other: modules/other/main.tf)",
		},
		{
			name: "renamed module", edits: []string{"modules/other/main.tf", "modules/new/main.tf: # x", "live/b/main.tf: module \"other\" { source = \"../../modules/new\" }"},
			changed: "modules/other/main.tf modules/new/main.tf live/b/main.tf", want: "live/b (live/b/main.tf)",
		},
		{name: "deleted root module", edits: []string{"live/c/main.tf"}, want: "-live/c (live/c/main.tf)"},
		{
			name: "deleted nested root module does not concern the one above", edits: []string{"live/a/nested/main.tf"},
			want: "-live/a/nested (live/a/nested/main.tf)",
		},
		{
			name: "moved root module", edits: []string{"live/c/main.tf", "live/d/main.tf: # x"},
			want: "-live/c (live/c/main.tf), live/d (live/d/main.tf)",
		},
		{name: "new root module below another", edits: []string{"live/c/sub/main.tf: provider \"null\" {}"}, want: "live/c/sub (live/c/sub/main.tf)"},
		{name: "deleted var file", edits: []string{"vars/a.tfvars"}, want: "a (var file vars/a.tfvars)"},
		{
			name: "layout of one", edits: []string{"holdfast.hcl: " + strings.Replace(hcl, `workspace = "blue"`, "workspace = \"blue\"\n  version = \"1.2.3\"", 1)},
			want: "a-blue (holdfast.hcl: version)",
		},
		{
			name: "layout of all", edits: []string{"holdfast.hcl: " + "engine = \"tofu\"\n" + hcl},
			want: "a (holdfast.hcl: engine), a-blue (holdfast.hcl: engine), live/a/nested (holdfast.hcl: engine), live/b (holdfast.hcl: engine), live/c (holdfast.hcl: engine), modules/top/examples/e (holdfast.hcl: engine)",
		},
		{
			name: "policy concerns nobody", edits: []string{"holdfast.hcl: " + hcl + "defaults {\n  apply {\n    on = \"comment\"\n  }\n  drift {\n    correct = \"apply\"\n  }\n}\n"},
			want: "",
		},
		{
			name: "another name is a new workspace, not a deleted one", edits: []string{"holdfast.hcl: " + strings.Replace(hcl, `"a-blue"`, `"a-azure"`, 1)},
			want: "a-azure (new workspace)",
		},
		{
			name: "no longer a workspace", edits: []string{"holdfast.hcl: " + hcl + "discover {\n  exclude = [\"live/c\"]\n}\n"},
			want: "-live/c (no longer a workspace)",
		},
		{
			name: "a root module becomes a module", edits: []string{"live/b/main.tf: module \"c\" { source = \"../c\" }"},
			want: "live/b (live/b/main.tf), -live/c (no longer a workspace), modules/other (new workspace)",
		},
	} {
		t.Run(tc.name, func(t *testing.T) {
			changed := strings.Fields(tc.changed)
			if tc.changed == "" {
				for _, e := range tc.edits {
					name, _, _ := strings.Cut(e, ": ")
					changed = append(changed, name)
				}
			}
			head := base
			if len(tc.edits) > 0 {
				head = load(t, edit(estate, tc.edits...))
			}
			if got := show(head.Affected(changed, base)); got != tc.want {
				t.Errorf("changed %v:\n got %s\nwant %s", changed, got, tc.want)
			}
		})
	}
}

// show is affected workspaces on one line.
func show(affected []Affected) string {
	var all []string
	for _, a := range affected {
		minus := ""
		if a.Deleted {
			minus = "-"
		}
		all = append(all, fmt.Sprintf("%s%s (%s)", minus, a.Workspace.Name, a.Because))
	}
	return strings.Join(all, ", ")
}

func TestAffectedWithoutBase(t *testing.T) {
	c := load(t, "-- a/main.tf --\n-- b/main.tf --\n")
	if got := show(c.Affected([]string{"b/main.tf"}, nil)); got != "b (b/main.tf)" {
		t.Errorf("got %s", got)
	}
	if got := show(c.Affected([]string{"holdfast.hcl"}, nil)); got != "a (holdfast.hcl), b (holdfast.hcl)" {
		t.Errorf("got %s", got)
	}
}

// The root directory owns what nobody nearer does, but not the repository's
// own settings.
func TestAffectedRoot(t *testing.T) {
	c := load(t, "-- main.tf --\n-- modules/m/main.tf --\n-- live/main.tf --\nmodule \"root\" { source = \"../\" }\n")
	for changed, want := range map[string]string{
		"README.md":            "live (module .: README.md)",
		"templates/x.tpl":      "live (module .: templates/x.tpl)",
		"live/x":               "live (live/x)",
		"modules/m/main.tf":    "modules/m (modules/m/main.tf)",
		".github/x.yml":        "",
		".terraform.lock.hcl":  "live (module .: .terraform.lock.hcl)",
		"holdfast.hcl":         "",
		".git/config":          "",
		"x/.terraform/modules": "",
	} {
		if got := show(c.Affected([]string{changed}, c)); got != want {
			t.Errorf("%s: got %q, want %q", changed, got, want)
		}
	}
}

// Configs that others put together have no trace of a checkout.
func TestAffectedOfPlainConfig(t *testing.T) {
	c := &Config{Workspaces: []Workspace{{Name: "a", Dir: "a", Modules: []string{"m"}}, {Name: "b", Dir: "b"}}}
	if got := show(c.Affected([]string{"m/x/y", "b/z"}, nil)); got != "a (module m: m/x/y), b (b/z)" {
		t.Errorf("got %s", got)
	}
}

func TestManyLinks(t *testing.T) {
	var archive strings.Builder
	for i := range 20 {
		for j := range 20 {
			fmt.Fprintf(&archive, "d%d/l%d -> ../d%d\n", i, j, j)
		}
	}
	for i := range 20 {
		fmt.Fprintf(&archive, "-- d%d/main.tf --\n", i)
	}
	c := load(t, archive.String())
	if got := c.Affected([]string{"d1/main.tf"}, nil); len(got) == 0 {
		t.Error("nothing affected")
	}
	for _, w := range c.Workspaces {
		if _, err := c.Inputs(t.TempDir(), w); err != nil {
			t.Error(err)
		}
	}
}

func TestOrder(t *testing.T) {
	// "a:b,c" is a, which depends on b and c.
	config := func(spec string) *Config {
		c := &Config{}
		for s := range strings.FieldsSeq(spec) {
			name, deps, _ := strings.Cut(s, ":")
			w := Workspace{Name: name}
			if deps != "" {
				w.DependsOn = strings.Split(deps, ",")
			}
			c.Workspaces = append(c.Workspaces, w)
		}
		return c
	}
	for _, tc := range []struct{ spec, names, want, err string }{
		{"a b c", "c b a", "[[a b c]]", ""},
		{"a:b b:c c", "a b c", "[[c] [b] [a]]", ""},
		{"a:b,c b:d c:d d", "a b c d", "[[d] [b c] [a]]", ""},
		{"a:b b:c c", "a c", "[[c] [a]]", ""},
		{"a:b b:c c", "a", "[[a]]", ""},
		{"a:nobody b", "a b", "[[a b]]", ""},
		{"a b:a c:a,b d", "b c d", "[[b d] [c]]", ""},
		{"a", "", "[]", ""},
		{"a", "x", "", `there is no workspace "x"`},
		{"a:a", "a", "", "workspaces depend on each other: a → a"},
		{"a:b b:c c:a", "b", "", "workspaces depend on each other: b → c → a → b"},
		{"a:b b:c c:b", "a", "[[a]]", ""},
		{"a:b b:c,d c:b d", "a d", "[[d] [a]]", ""},
	} {
		got, err := config(tc.spec).Order(strings.Fields(tc.names))
		if text := fmt.Sprint(err); tc.err != "" && text != tc.err || tc.err == "" && err != nil {
			t.Errorf("%s: error %v, want %q", tc.spec, err, tc.err)
		}
		if tc.err == "" && fmt.Sprint(got) != tc.want {
			t.Errorf("%s of %s: got %v, want %s", tc.spec, tc.names, got, tc.want)
		}
	}
	var cycle *CycleError
	if _, err := config("a:b b:a").Order([]string{"b"}); !errors.As(err, &cycle) || !cmp.Equal(cycle.Names, []string{"b", "a"}) {
		t.Errorf("cycle is %v", err)
	}
}

func TestLongChain(t *testing.T) {
	const n = 40_000
	c := &Config{}
	for i := range n {
		c.Workspaces = append(c.Workspaces, Workspace{Name: fmt.Sprint(i), DependsOn: []string{fmt.Sprint(i + 1)}})
	}
	levels, err := c.Order([]string{"0", "20000", fmt.Sprint(n - 1)})
	if err != nil || len(levels) != 3 {
		t.Errorf("levels %v, %v", levels, err)
	}
	c.Workspaces[n-1].DependsOn = []string{"0"}
	if _, err := c.Order([]string{"7"}); err == nil || len(err.Error()) > 200 {
		t.Errorf("error is %.300v", err)
	}
}

func TestTrustOnly(t *testing.T) {
	strict := Apply{On: "merge", Requires: []string{"approved"}, WhenPlanChanged: "hold", MaxPlanAge: time.Hour, Lock: "plan", MergeMethod: "merge"}
	lax := Apply{On: "comment", WhenPlanChanged: "always", MaxPlanAge: time.Hour, Lock: "none", Automerge: true, MergeMethod: "squash", OnPush: true}
	middle := Apply{On: "merge", WhenPlanChanged: "same_resources", MaxPlanAge: time.Hour, Lock: "apply", MergeMethod: "rebase"}
	w := func(name, dir, workspace string, a Apply, vars ...string) Workspace {
		return Workspace{Name: name, Dir: dir, Workspace: workspace, Apply: a, VarFiles: vars}
	}
	base := &Config{
		Defaults: Defaults{Apply: middle, Drift: Drift{Correct: "off", MaxChanges: 1}},
		Workspaces: []Workspace{
			w("dev", "dev", "default", lax), w("prod", "prod", "default", strict), w("prod-blue", "prod", "blue", lax),
			w("v1", "v", "default", strict, "1"), w("v2", "v", "default", lax, "2"),
		},
	}
	for _, tc := range []struct {
		head Workspace
		want Apply
	}{
		{w("prod", "prod", "default", lax), strict},
		{w("dev", "prod", "default", lax), strict}, // a lenient name for a strict place
		{w("other", "prod", "default", lax), strict},
		{w("prod", "moved", "default", lax), strict},
		{w("prod", "prod", "blue", lax), lax},
		{w("new", "new", "default", lax), middle},
		{w("v2", "v", "default", middle, "1"), lax},
		{w("v3", "v", "default", middle, "2"), lax},
		{w("v3", "v", "default", lax, "3"), strict},
	} {
		head := &Config{Defaults: Defaults{Apply: lax}, Workspaces: []Workspace{tc.head}}
		head.TrustOnly(base)
		if diff := cmp.Diff(tc.want, head.Workspaces[0].Apply); diff != "" {
			t.Errorf("%s in %s@%s (-want +got):\n%s", tc.head.Name, tc.head.Dir, tc.head.Workspace, diff)
		}
		if diff := cmp.Diff(base.Defaults, head.Defaults); diff != "" {
			t.Errorf("defaults (-want +got):\n%s", diff)
		}
	}
	head := &Config{Workspaces: []Workspace{w("a", "a", "default", lax)}}
	head.TrustOnly(nil)
	if diff := cmp.Diff(builtIn().Apply, head.Workspaces[0].Apply); diff != "" {
		t.Errorf("without a base (-want +got):\n%s", diff)
	}
}

// Where an engine runs is no pull request's to choose.
func TestTrustOnlyRunsOn(t *testing.T) {
	base := &Config{
		Defaults:   Defaults{RunsOn: []string{"any"}},
		Workspaces: []Workspace{{Name: "prod", Dir: "prod", Workspace: "default", RunsOn: []string{"prod"}}, {Name: "dev", Dir: "dev", Workspace: "default"}},
	}
	head := &Config{Workspaces: []Workspace{
		{Name: "prod", Dir: "prod", Workspace: "default"},
		{Name: "dev", Dir: "dev", Workspace: "default", RunsOn: []string{"prod"}},
		{Name: "new", Dir: "new", Workspace: "default", RunsOn: []string{"prod"}},
	}}
	head.TrustOnly(base)
	for i, want := range [][]string{{"prod"}, nil, {"any"}} {
		if w := head.Workspaces[i]; !slices.Equal(w.RunsOn, want) {
			t.Errorf("%s runs on %v instead of %v", w.Name, w.RunsOn, want)
		}
	}
}

func TestStricter(t *testing.T) {
	ours := Apply{On: "merge", WhenPlanChanged: "hold", MaxPlanAge: time.Hour, Lock: "apply", MergeMethod: "merge"}
	for _, tc := range []struct {
		name   string
		a, b   func(*Apply) // what differs from ours
		want   func(*Apply)
		oneWay bool // where the order of the two matters
	}{
		{name: "the same"},
		{name: "on", b: func(p *Apply) { p.On = "comment" }, want: func(p *Apply) { p.On = "comment" }},
		{name: "requires", b: func(p *Apply) { p.Requires = []string{"approved"} }, want: func(p *Apply) { p.Requires = []string{"approved"} }},
		{
			name: "requires of both", oneWay: true,
			a: func(p *Apply) { p.Requires = []string{"mergeable", "approved"} }, b: func(p *Apply) { p.Requires = []string{"approved", "up_to_date"} },
			want: func(p *Apply) { p.Requires = []string{"mergeable", "approved", "up_to_date"} },
		},
		{name: "when_plan_changed", b: func(p *Apply) { p.WhenPlanChanged = "same_resources" }},
		{
			name: "when_plan_changed, more lenient", a: func(p *Apply) { p.WhenPlanChanged = "always" }, b: func(p *Apply) { p.WhenPlanChanged = "same_resources" },
			want: func(p *Apply) { p.WhenPlanChanged = "same_resources" },
		},
		{name: "max_plan_age", b: func(p *Apply) { p.MaxPlanAge = time.Minute }, want: func(p *Apply) { p.MaxPlanAge = time.Minute }},
		{name: "lock from the plan on", b: func(p *Apply) { p.Lock = "plan" }, want: func(p *Apply) { p.Lock = "plan" }},
		{name: "no lock", b: func(p *Apply) { p.Lock = "none" }},
		{name: "the least and the most", a: func(p *Apply) { p.Lock = "none" }, b: func(p *Apply) { p.Lock = "plan" }, want: func(p *Apply) { p.Lock = "plan" }},
		{name: "an unknown lock", a: func(p *Apply) { p.Lock = "" }, b: func(p *Apply) { p.Lock = "none" }, want: func(p *Apply) { p.Lock = "none" }},
		{
			name: "automerge of one", b: func(p *Apply) { p.On, p.Automerge = "comment", true },
			want: func(p *Apply) { p.On = "comment" },
		},
		{
			name: "automerge of both", a: func(p *Apply) { p.On, p.Automerge = "comment", true }, b: func(p *Apply) { p.On, p.Automerge = "comment", true },
			want: func(p *Apply) { p.On, p.Automerge = "comment", true },
		},
		{name: "on_push of one", b: func(p *Apply) { p.OnPush = true }},
		{name: "on_push of both", a: func(p *Apply) { p.OnPush = true }, b: func(p *Apply) { p.OnPush = true }, want: func(p *Apply) { p.OnPush = true }},
		{name: "merge_method is a's", oneWay: true, b: func(p *Apply) { p.MergeMethod = "squash" }},
		{
			name: "merge_method is a's, whatever it is", oneWay: true, a: func(p *Apply) { p.MergeMethod = "rebase" },
			want: func(p *Apply) { p.MergeMethod = "rebase" },
		},
	} {
		with := func(change func(*Apply)) Apply {
			p := ours
			if change != nil {
				change(&p)
			}
			return p
		}
		a, b, want := with(tc.a), with(tc.b), with(tc.want)
		if diff := cmp.Diff(want, a.Stricter(b)); diff != "" {
			t.Errorf("%s (-want +got):\n%s", tc.name, diff)
		}
		if diff := cmp.Diff(want, b.Stricter(a)); diff != "" && !tc.oneWay {
			t.Errorf("%s, the other way round (-want +got):\n%s", tc.name, diff)
		}
	}
}

func TestParseCron(t *testing.T) {
	from := time.Date(2026, 3, 28, 12, 0, 0, 0, time.FixedZone("x", 3600))
	for expr, want := range map[string]string{
		"0 6 * * *":                       "2026-03-29T06:00:00Z",
		"CRON_TZ=Europe/Berlin 0 6 * * *": "2026-03-29T04:00:00Z",
		"TZ=America/New_York  @daily":     "2026-03-29T04:00:00Z",
		"@every 90m":                      "2026-03-28T12:30:00Z",
		" @hourly ":                       "2026-03-28T12:00:00Z",
		"0 0 29 2 *":                      "2028-02-29T00:00:00Z",
	} {
		s, err := ParseCron(expr)
		if err != nil {
			t.Errorf("%q: %v", expr, err)
			continue
		}
		if got := s.Next(from).UTC().Format(time.RFC3339); got != want {
			t.Errorf("%q: next is %s, want %s", expr, got, want)
		}
	}
	for _, expr := range []string{"", " ", "* * * *", "* * * * * *", "TZ=", "CRON_TZ=UTC", "TZ=Nowhere/At 0 6 * * *", "0 0 31 2 *", "@yesterday", "@every -1h", "@every x", "\x00", strings.Repeat("*", 300)} {
		if _, err := ParseCron(expr); err == nil {
			t.Errorf("%q is taken", expr)
		}
	}
}
