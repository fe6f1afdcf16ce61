package main

import (
	"errors"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"holdfast/workspaces"
)

// page is a Markdown file in sections: what is between a heading and the next,
// by the heading's text.
type page map[string]string

func readPage(t *testing.T, path string) page {
	t.Helper()
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	p, heading := page{}, ""
	for line := range strings.Lines(string(data)) {
		if title, ok := strings.CutPrefix(line, "#"); ok {
			heading = strings.TrimSpace(strings.TrimLeft(title, "#"))
			continue
		}
		p[heading] += line
	}
	return p
}

var tableRow = regexp.MustCompile("(?m)^\\| `([^`]+)`[^|]*\\|([^|]*)\\|([^|]*)\\|")

// documented are the names in the first column of a section's table.
func (p page) documented(heading string) []string {
	var names []string
	for _, m := range tableRow.FindAllStringSubmatch(p[heading], -1) {
		names = append(names, m[1])
	}
	slices.Sort(names)
	return names
}

// defaults are the values in code type in the third column of a section's
// table; others are described in words.
func (p page) defaults(heading string) map[string]string {
	all := map[string]string{}
	for _, m := range tableRow.FindAllStringSubmatch(p[heading], -1) {
		if v := strings.TrimSpace(m[3]); strings.Count(v, "`") == 2 && strings.HasPrefix(v, "`") && strings.HasSuffix(v, "`") {
			all[m[1]] = strings.Trim(v, "`")
		}
	}
	return all
}

// blocks are the names in a section's line "Blocks: …".
func (p page) blocks(heading string) []string {
	_, line, _ := strings.Cut("\n"+p[heading], "\nBlocks: ")
	line, _, _ = strings.Cut(line, ".")
	var names []string
	for i, s := range strings.Split(line, "`") {
		if i%2 == 1 {
			names = append(names, s)
		}
	}
	slices.Sort(names)
	return names
}

// A word that is near no setting makes the hint list all that are possible.
const nonsense = "zzzzzzzzzzzzzzzzzzzzzzzz"

var possible = regexp.MustCompile(`"([^"]+)"`)

// settingsOf returns what a body may have, as the mistake about nonsense in it
// says.
func settingsOf(t *testing.T, err error) []string {
	t.Helper()
	var problems workspaces.Problems
	if !errors.As(err, &problems) {
		t.Fatalf("nonsense is no mistake: %v", err)
	}
	for _, p := range problems {
		if !strings.Contains(p.Message, nonsense) {
			continue
		}
		list, ok := strings.CutPrefix(p.Hint, "possible: ")
		if !ok {
			t.Fatalf("the hint lists nothing: %s", p)
		}
		var names []string
		for _, m := range possible.FindAllStringSubmatch(list, -1) {
			names = append(names, m[1])
		}
		slices.Sort(names)
		return names
	}
	t.Fatalf("nonsense is no mistake: %v", problems)
	return nil
}

func TestSettingsPageHasTheServerFile(t *testing.T) {
	doc := readPage(t, "../../docs/settings.md")
	for heading, src := range map[string]string{
		"server.hcl":         nonsense + " = 1",
		`host "gitea"`:       `host "gitea" "a" { ` + nonsense + ` = 1 }`,
		`host "github"`:      `host "github" "a" { ` + nonsense + ` = 1 }`,
		`host "gitlab"`:      `host "gitlab" "a" { ` + nonsense + ` = 1 }`,
		`host "bitbucket"`:   `host "bitbucket" "a" { ` + nonsense + ` = 1 }`,
		`host "azuredevops"`: `host "azuredevops" "a" { ` + nonsense + ` = 1 }`,
		`host "git"`:         `host "git" "a" { ` + nonsense + ` = 1 }`,
		"repository pattern": "host \"gitea\" \"a\" {}\nrepository \"a/b/*\" { " + nonsense + " = 1 }",
		"repository":         "host \"git\" \"a\" {}\nrepository \"a/b/c\" { " + nonsense + " = 1 }",
		"redis":              `redis { ` + nonsense + ` = 1 }`,
		"engine":             `engine { ` + nonsense + ` = 1 }`,
		"notify":             `notify "a" { ` + nonsense + ` = 1 }`,
		"cloud_event":        `cloud_event { ` + nonsense + ` = 1 }`,
		"retention":          `retention { ` + nonsense + ` = 1 }`,

		`artifacts "s3"`:          `artifacts "s3" { ` + nonsense + ` = 1 }`,
		`attributor "cloudtrail"`: `attributor "cloudtrail" { ` + nonsense + ` = 1 }`,
		`attributor "http"`:       `attributor "http" { ` + nonsense + ` = 1 }`,
	} {
		path := filepath.Join(t.TempDir(), "server.hcl")
		if err := os.WriteFile(path, []byte(src+"\n"), 0o600); err != nil {
			t.Fatal(err)
		}
		_, err := LoadSettings(path, lookup(map[string]string{"HOME": "/h"}))
		sameNames(t, doc, heading, settingsOf(t, err))
	}
	s, err := LoadSettings("", lookup(map[string]string{"HOME": "/h"}))
	if err != nil {
		t.Fatal(err)
	}
	want := map[string]string{"listen": s.Listen, "store": s.Store, "labels": "[]", "dedicated": "false", "grace": "20s", "per_repository": "4", "commands": "[]", "old_keys": "[]"}
	if s.PerRepository != 4 || len(s.Commands)+len(s.OldKeys) > 0 {
		t.Errorf("per_repository is %d, commands are %q", s.PerRepository, s.Commands)
	}
	if diff := cmp.Diff(want, doc.defaults("server.hcl")); diff != "" {
		t.Errorf("defaults (-code +page):\n%s", diff)
	}
	k := s.Retention
	want = map[string]string{"artifacts": retentionText(k.Artifacts), "checks": retentionText(k.Checks), "runs": retentionText(k.Runs)}
	if diff := cmp.Diff(want, doc.defaults("retention")); diff != "" {
		t.Errorf("defaults of retention (-code +page):\n%s", diff)
	}
}

// sameNames compares what a body may have with what a section lists.
func sameNames(t *testing.T, doc page, heading string, code []string) {
	t.Helper()
	listed := append(doc.documented(heading), doc.blocks(heading)...)
	slices.Sort(listed)
	if diff := cmp.Diff(code, listed); diff != "" {
		t.Errorf("%s (-code +page):\n%s", heading, diff)
	}
}

func TestSettingsPageHasTheRepositorysFile(t *testing.T) {
	doc := readPage(t, "../../docs/settings.md")
	for heading, src := range map[string]string{
		"holdfast.hcl": nonsense + " = 1",
		"discover":     "discover {\n" + nonsense + " = 1\n}",
		"defaults":     "defaults {\n" + nonsense + " = 1\n}",
		"workspace":    "workspace \"a\" {\n" + nonsense + " = 1\n}",
		"apply":        "defaults {\n  apply {\n" + nonsense + " = 1\n}\n}",
		"drift":        "defaults {\n  drift {\n" + nonsense + " = 1\n}\n}",
		"ignore":       "defaults {\n  drift {\n ignore \"a.b\" {\n" + nonsense + " = 1\n reason = \"x\"\n}\n}\n}",
	} {
		dir := t.TempDir()
		if err := os.WriteFile(filepath.Join(dir, workspaces.File), []byte(src+"\n"), 0o600); err != nil {
			t.Fatal(err)
		}
		_, err := workspaces.Load(dir)
		sameNames(t, doc, heading, settingsOf(t, err))
	}
	c, err := workspaces.Load(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	a, d := c.Defaults.Apply, c.Defaults.Drift
	want := map[string]string{
		"on": a.On, "requires": "[]", "when_plan_changed": a.WhenPlanChanged, "max_plan_age": shortDuration(a.MaxPlanAge),
		"lock": a.Lock, "automerge": strconv.FormatBool(a.Automerge), "merge_method": a.MergeMethod, "on_push": strconv.FormatBool(a.OnPush),
	}
	if diff := cmp.Diff(want, doc.defaults("apply")); diff != "" || len(a.Requires) > 0 {
		t.Errorf("defaults of apply (-code +page):\n%s", diff)
	}
	want = map[string]string{"correct": d.Correct, "allow_destroy": "false", "max_changes": "10", "flap_limit": strconv.Itoa(d.FlapLimit)}
	if diff := cmp.Diff(want, doc.defaults("drift")); diff != "" || d.MaxChanges != 10 || d.AllowDestroy || d.Schedule != "" {
		t.Errorf("defaults of drift (-code +page):\n%s", diff)
	}
}

// TestSettingsPageHasTheVariables compares with the names in this package's
// source.
func TestSettingsPageHasTheVariables(t *testing.T) {
	files, err := filepath.Glob("*.go")
	if err != nil {
		t.Fatal(err)
	}
	found := map[string]bool{}
	for _, file := range files {
		src, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		if strings.HasSuffix(file, "_test.go") {
			continue
		}
		for _, name := range regexp.MustCompile(`HOLDFAST_[A-Z_]*[A-Z]`).FindAllString(string(src), -1) {
			found[name] = true
		}
	}
	doc := readPage(t, "../../docs/settings.md")
	if diff := cmp.Diff(slices.Sorted(maps.Keys(found)), doc.documented("Variables")); diff != "" {
		t.Errorf("variables (-code +page):\n%s", diff)
	}
}

func TestSettingsPageHasTheFlags(t *testing.T) {
	doc := readPage(t, "../../docs/settings.md")
	var all []*cobra.Command
	for _, cmd := range newRoot().Commands() {
		all = append(append(all, cmd), cmd.Commands()...)
	}
	for _, cmd := range all {
		var flags []string
		cmd.Flags().VisitAll(func(f *pflag.Flag) {
			flags = append(flags, "--"+f.Name)
			if def := doc.defaults(cmd.CommandPath())["--"+f.Name]; def != "" && f.DefValue != "" && def != f.DefValue {
				t.Errorf("%s --%s: the default is %q, and on the page %q", cmd.CommandPath(), f.Name, f.DefValue, def)
			}
			if f.Shorthand != "" && !strings.Contains(doc[cmd.CommandPath()], "| `--"+f.Name+"`, `-"+f.Shorthand+"` |") {
				t.Errorf("%s: the page has no -%s for --%s", cmd.CommandPath(), f.Shorthand, f.Name)
			}
		})
		slices.Sort(flags)
		if _, ok := doc[cmd.CommandPath()]; !ok {
			t.Errorf("the page has no %s", cmd.CommandPath())
		}
		if diff := cmp.Diff(flags, doc.documented(cmd.CommandPath()), cmpopts.EquateEmpty()); diff != "" {
			t.Errorf("%s (-code +page):\n%s", cmd.CommandPath(), diff)
		}
	}
	for heading := range doc {
		if name, ok := strings.CutPrefix(heading, "holdfast "); ok && !slices.ContainsFunc(all, func(c *cobra.Command) bool { return c.CommandPath() == "holdfast "+name }) {
			t.Errorf("the page has %s, which there is not", heading)
		}
	}
}

var (
	fence    = regexp.MustCompile("(?ms)^```hcl\n(.*?)^```$")
	variable = regexp.MustCompile(`env\("([^"]+)"\)`)
	absolute = regexp.MustCompile(`"(/etc/holdfast/[^"]+)"`)
	dirLine  = regexp.MustCompile(`(?m)^\s*dir\s*=\s*"([^"]+)"`)
	listLine = regexp.MustCompile(`(?m)^\s*(var_files|depends_on)\s*=\s*\[([^\]]*)\]`)
)

// TestSnippetsLoad loads every piece of HCL in the pages as the file that it is.
func TestSnippetsLoad(t *testing.T) {
	for _, file := range []string{"../../README.md", "../../docs/settings.md"} {
		data, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		servers, repositories := 0, 0
		for _, m := range fence.FindAllStringSubmatch(string(data), -1) {
			if strings.Contains(m[1], "repository \"") || strings.Contains(m[1], "store = ") {
				servers++
				loadServerSnippet(t, file, m[1])
			} else {
				repositories++
				loadRepositorySnippet(t, file, m[1])
			}
		}
		if servers == 0 || repositories == 0 {
			t.Errorf("%s has %d snippets of server.hcl and %d of holdfast.hcl", file, servers, repositories)
		}
	}
}

func loadServerSnippet(t *testing.T, file, src string) {
	t.Helper()
	dir, env := t.TempDir(), map[string]string{"HOME": "/h"}
	for _, m := range variable.FindAllStringSubmatch(src, -1) {
		env[m[1]] = strings.Repeat("x", 32)
		if strings.HasSuffix(m[1], "_URL") {
			env[m[1]] = "https://team.example.com/hook"
		}
	}
	for _, m := range absolute.FindAllStringSubmatch(src, -1) {
		there := filepath.Join(dir, filepath.Base(m[1]))
		if err := os.WriteFile(there, []byte(strings.Repeat("k", 32)), 0o600); err != nil {
			t.Fatal(err)
		}
		src = strings.ReplaceAll(src, m[1], there)
	}
	path := filepath.Join(dir, "server.hcl")
	if err := os.WriteFile(path, []byte(src), 0o600); err != nil {
		t.Fatal(err)
	}
	s, err := LoadSettings(path, lookup(env))
	if err != nil || len(s.Repositories) == 0 && !s.Shared() {
		t.Errorf("%s: a server file with %d repositories: %v\n%s", file, len(s.Repositories), err, src)
	}
}

func loadRepositorySnippet(t *testing.T, file, src string) {
	t.Helper()
	root := t.TempDir()
	write := func(path, content string) {
		full := filepath.Join(root, path)
		if err := os.MkdirAll(filepath.Dir(full), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(full, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	write(workspaces.File, src)
	// What it names has to be there: directories, their variable files, and
	// what is depended upon, which a snippet need not show.
	var dirs []string
	for _, m := range dirLine.FindAllStringSubmatch(src, -1) {
		dirs = append(dirs, m[1])
		write(m[1]+"/main.tf", "terraform {\n  backend \"s3\" {}\n}\n")
	}
	for _, m := range listLine.FindAllStringSubmatch(src, -1) {
		for _, name := range possible.FindAllStringSubmatch(m[2], -1) {
			switch {
			case m[1] == "var_files":
				for _, dir := range dirs {
					write(dir+"/"+name[1], "")
				}
			case !strings.Contains(src, "workspace \""+name[1]+"\""):
				write(name[1]+"/main.tf", "terraform {\n  backend \"s3\" {}\n}\n")
			}
		}
	}
	c, err := workspaces.Load(root)
	if err != nil {
		t.Errorf("%s: %v\n%s", file, err, src)
		return
	}
	if len(c.Problems) > 0 || len(c.Workspaces) == 0 {
		t.Errorf("%s: %d workspaces, %v\n%s", file, len(c.Workspaces), c.Problems, src)
	}
}
