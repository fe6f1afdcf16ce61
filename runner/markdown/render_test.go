package markdown

import (
	"encoding/json"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/google/go-cmp/cmp"

	"holdfast/runner/plan"
	"holdfast/workspaces"
)

var update = flag.Bool("update", false, "write the golden files again")

func golden(t *testing.T, name, got string) {
	t.Helper()
	file := filepath.Join("testdata", name)
	if *update {
		if err := os.WriteFile(file, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(string(want), got); diff != "" {
		t.Errorf("%s (go test -update writes it again):\n%s", file, diff)
	}
}

func change(address string, action plan.Action, before, after string, more ...func(*plan.Change)) plan.Change {
	kind, _, _ := strings.Cut(address[strings.LastIndex(address, "cloud_"):], ".")
	c := plan.Change{Address: address, Mode: "managed", Type: kind, Provider: "registry.example/acme/cloud", Action: action,
		Before: json.RawMessage(before), After: json.RawMessage(after)}
	for _, m := range more {
		m(&c)
	}
	return c
}

func created() *plan.Plan {
	return &plan.Plan{Engine: "1.11.4", Changes: []plan.Change{
		change("cloud_server.web", plan.Create, "null", `{"name":"web","size":"small","tags":{"env":"prod","a.b/c":"x"},"password":"geheim","note":null}`,
			func(c *plan.Change) {
				c.Unknown = json.RawMessage(`{"id":true,"address":true}`)
				c.SensitiveAfter = json.RawMessage(`{"password":true}`)
			}),
	}, Outputs: []plan.Output{{Name: "url", Action: plan.Create, Before: json.RawMessage("null"), After: json.RawMessage("null"), Unknown: true}}}
}

func dangerous() *plan.Plan {
	return &plan.Plan{Changes: []plan.Change{
		change(`module.net["a"].cloud_network.main`, plan.Replace, `{"id":"n-1","cidr":"10.0.0.0/16","name":"main","zone":"a"}`, `{"cidr":"10.1.0.0/16","name":"main","zone":"a"}`,
			func(c *plan.Change) {
				c.Unknown = json.RawMessage(`{"id":true}`)
				c.Replace = []json.RawMessage{json.RawMessage(`["cidr"]`)}
				c.Reason = "replace_because_cannot_update"
			}),
		change("cloud_server.old", plan.Delete, `{"id":"s-1","name":"old","tags":{}}`, "null", func(c *plan.Change) { c.Reason = "delete_because_no_resource_config" }),
		change("cloud_server.kept", plan.Forget, `{"id":"s-2"}`, "null"),
	}}
}

func updated() *plan.Plan {
	return &plan.Plan{Changes: []plan.Change{
		change("cloud_server.web", plan.Update, `{"id":"s-1","size":"small","image":"x"}`, `{"id":"s-1","size":"large","image":"x"}`),
	}}
}

const base = "https://holdfast.example.com"

func TestRender(t *testing.T) {
	reviewed, now := updated(), created()
	comparison := plan.Compare(reviewed, now)
	tests := []struct {
		name string
		r    Report
	}{
		{"one", Report{Commit: "0123456789abcdef0123", Base: base, Workspaces: []Workspace{
			{Name: "live/prod/web", Kind: "plan", State: "planned", RunID: "01A", Plan: created(),
				Notes: []string{"The state is kept in Holdfast's data directory, because `live/prod/web` has no backend."},
				Next:  "Merging applies this plan."}}}},
		{"no_changes", Report{Commit: "0123456789abcdef0123", Base: base, Workspaces: []Workspace{
			{Name: "live/prod/web", Kind: "plan", State: "no_changes", RunID: "01A"}}}},
		{"destroy", Report{Commit: "0123456789abcdef0123", Base: base, Workspaces: []Workspace{
			{Name: "web", Kind: "plan", State: "planned", RunID: "01A", Plan: created()},
			{Name: "net", Kind: "plan", State: "planned", RunID: "01B", Plan: dangerous()},
			{Name: "dns", Kind: "plan", State: "no_changes", RunID: "01C"}}}},
		{"failed", Report{Commit: "0123456789abcdef0123", Base: base, Workspaces: []Workspace{
			{Name: "web", Kind: "plan", State: "failed", RunID: "01A", Error: "╷\n│ \x1b[31mError: \x1b[0mInvalid reference\n│ \n│   on main.tf line 3, in resource \"cloud_server\" \"web\":\n│    3:   size = var.sise\n╵\n"},
			{Name: "dns", Kind: "plan", State: "running", Step: "init", RunID: "01C"},
			{Name: "db", Kind: "plan", State: "queued", Waiting: "waits for pull request 12, which holds the lock; second in line", RunID: "01D"}}}},
		{"held", Report{Merged: true, Commit: "0123456789abcdef0123", Base: base, Workspaces: []Workspace{
			{Name: "web", Kind: "apply", State: "held", RunID: "01A", Plan: now, Reviewed: reviewed, Comparison: &comparison,
				Next: "Comment `holdfast apply -w web` to apply today's plan, or push a fix."},
			{Name: "dns", Kind: "apply", State: "applied", RunID: "01B", Plan: updated(), Next: "Nothing is left to do."}}}},
		{"applied", Report{Merged: true, Commit: "0123456789abcdef0123", Base: base, Workspaces: []Workspace{
			{Name: "net", Kind: "apply", State: "applied", RunID: "01A", Plan: dangerous()}}}},
		{"problems", Report{Commit: "0123456789abcdef0123", Problems: []workspaces.Problem{
			{File: "holdfast.hcl", Line: 3, Column: 5, Source: `    dri = "x"`, Message: "there is no argument \"dri\" here", Hint: `did you mean "dir"?`},
			{File: "live/a/main.tf", Workspace: "a", Message: "no such directory"}}}},
		{"nothing", Report{Commit: "0123456789abcdef0123", Notice: "This comes from a fork by @mallory: nothing is planned until somebody with write permission comments `holdfast plan`."}},
		{"hostile", Report{Commit: "<script>`x`", Base: "javascript:alert(1)", Notice: "[click](https://evil.example) www.evil.example ![x](y) <b> @here `unpaired", Workspaces: []Workspace{
			{Name: "a|b`c\n| x | y |</summary></details><script>alert(1)</script> @everyone", Kind: "plan", State: "failed", RunID: "../../x y",
				Error: "```\n</details>\n@team ~~~ <!-- holdfast -->\n````` and \x1b[2J\u202egnp.exe\u200b"},
			{Name: "", Kind: "plan", State: "exploded|", Notes: []string{"# heading\n- list | *bold* _x_ <img src=x> &amp; #1 !5 me@example.com"}, Plan: &plan.Plan{
				Changes: []plan.Change{change("cloud_server.x[\"\n```\n# y\"]", plan.Create, "null", `{"a":"`+"```"+`\n</details>\n@team","`+"`\\n"+`":"\u202e","b":"${x}"}`)}}}}}},
	}
	for _, tc := range tests {
		t.Run(tc.name, func(t *testing.T) {
			got := Render(tc.r, 60_000)
			golden(t, tc.name+".md", got)
			check(t, got, 60_000)
			for _, limit := range []int{400, 700, 1000, 1500, 2500} {
				check(t, Render(tc.r, limit), limit)
			}
		})
	}
}

// check holds what is true of every comment.
func check(t *testing.T, out string, limit int) {
	t.Helper()
	fail := func(why string) {
		t.Helper()
		t.Errorf("%s, with a limit of %d:\n%s", why, limit, out)
	}
	if limit >= len(Marker) && len(out) > limit {
		fail(fmt.Sprintf("%d bytes", len(out)))
	}
	if !utf8.ValidString(out) {
		fail("not UTF-8")
	}
	if !strings.HasPrefix(out, Marker) || strings.Count(out, Marker) != 1 {
		fail("the marker is not there once")
	}
	if line, _, _ := strings.Cut(out, "\n"); line != Marker {
		fail("the marker is not the first line")
	}
	// Outside code, everything is as written here.
	open, details := "", 0
	for _, line := range strings.Split(out, "\n") {
		ticks := line[:len(line)-len(strings.TrimLeft(line, "`"))]
		switch {
		case open != "":
			if len(ticks) >= len(open) && strings.TrimSpace(line) == ticks {
				open = ""
			}
			continue
		case len(ticks) >= 3 && (line == ticks || line == ticks+"diff"):
			open = ticks
			continue
		}
		bare := outsideCode(line)
		details += strings.Count(bare, "<details") - strings.Count(bare, "</details>")
		if strings.ContainsAny(bare, "@\x1b\u202e\u200b") || strings.Contains(bare, "<script") || strings.Contains(bare, "<img") || strings.Contains(bare, "](http") && !strings.Contains(bare, "]("+base) {
			fail("unsafe line " + line)
		}
	}
	if open != "" || details != 0 {
		fail(fmt.Sprintf("fence %q, %d details left open", open, details))
	}
}

// outsideCode removes code spans: a run of backticks up to the next one of the
// same length.
func outsideCode(line string) string {
	if strings.HasPrefix(line, "<details") {
		before, rest, _ := strings.Cut(line, "<code>")
		_, after, _ := strings.Cut(rest, "</code>")
		return before + after
	}
	var out strings.Builder
	for line != "" {
		i := strings.IndexByte(line, '`')
		if i < 0 {
			break
		}
		out.WriteString(line[:i])
		rest := strings.TrimLeft(line[i:], "`")
		ticks := line[i : len(line)-len(rest)]
		end := -1
		for j := 0; j < len(rest); j++ {
			if rest[j] != '`' {
				continue
			}
			k := j
			for k < len(rest) && rest[k] == '`' {
				k++
			}
			if k-j == len(ticks) {
				end = k
				break
			}
			j = k
		}
		if end < 0 {
			out.WriteString(ticks)
			line = rest
			continue
		}
		line = rest[end:]
	}
	return out.String() + line
}

func TestRenderTwoHundred(t *testing.T) {
	r := Report{Commit: "0123456789abcdef0123", Base: base, Page: base + "/pulls/1"}
	large := &plan.Plan{}
	for i := range 300 {
		large.Changes = append(large.Changes, change(fmt.Sprintf("cloud_server.web[%d]", i), plan.Create, "null", `{"name":"a name","size":"small"}`))
	}
	for i := range 200 {
		w := Workspace{Name: fmt.Sprintf("live/region-%d/service-%03d", i%7, i), Kind: "plan", State: "planned", RunID: fmt.Sprintf("01ARZ3NDEKTSV4RRFFQ69G5%03d", i), Plan: updated()}
		switch {
		case i%50 == 7:
			w.State, w.Plan, w.Error = "failed", nil, strings.Repeat("Error: something\n", 400)
		case i%40 == 9:
			w.Plan = dangerous()
		case i%3 == 0:
			w.State, w.Plan = "no_changes", nil
		case i%25 == 1:
			w.Plan = large
		}
		r.Workspaces = append(r.Workspaces, w)
	}
	got := Render(r, 60_000)
	check(t, got, 60_000)
	golden(t, "two_hundred.md", got)
	for _, w := range r.Workspaces {
		if !strings.Contains(got, "| `"+w.Name+"` |") {
			t.Errorf("%s is lost", w.Name)
		}
	}
	t.Logf("%d bytes", len(got))
	// With names as long as they get, the rows that do not fit are counted.
	for i := range r.Workspaces {
		r.Workspaces[i].Name = strings.Repeat("ä|", 500) + r.Workspaces[i].Name
	}
	for _, limit := range []int{60_000, 20_000, 5_000, 1_000} {
		got = Render(r, limit)
		check(t, got, limit)
		rows := strings.Count(got, "\n| `")
		if !strings.Contains(got, fmt.Sprintf("the rows of %d more workspaces", 200-rows)) {
			t.Errorf("%d rows within %d bytes, and the others are not counted:\n%s", rows, limit, got)
		}
		t.Logf("limit %d: %d bytes, %d rows", limit, len(got), rows)
	}
}

func TestRenderSmallest(t *testing.T) {
	r := Report{Page: base, Workspaces: []Workspace{{Name: "a", State: "planned", Plan: created()}}}
	for limit := 1; limit < 1200; limit++ {
		check(t, Render(r, limit), limit)
	}
	if got := Render(r, 0); !strings.Contains(got, "geheim") && !strings.Contains(got, "(sensitive value)") {
		t.Error(got)
	}
}

func FuzzRender(f *testing.F) {
	f.Add("name", "error", "note", `{"a":"x"}`, `{"a":"y"}`, 2000)
	f.Add("a`|\n", "```\n</details>", "@me `x", `["`+"````"+`\n"]`, `{"a":"{\"b\":1}"}`, 900)
	f.Add("<!-- holdfast -->", "<!-- holdfast -->", "<!<!---- holdfast -->", `{"<!-- holdfast -->":"<!-- holdfast -->"}`, `null`, 60000)
	f.Fuzz(func(t *testing.T, name, failure, note, before, after string, limit int) {
		if !json.Valid([]byte(before)) || !json.Valid([]byte(after)) {
			before, after = "null", "null"
		}
		p := &plan.Plan{Changes: []plan.Change{
			{Address: name, Type: note, Mode: "managed", Action: plan.Update, Before: json.RawMessage(before), After: json.RawMessage(after)},
			{Address: failure, Type: name, Action: plan.Delete, Before: json.RawMessage(before), SensitiveBefore: json.RawMessage(after)},
			{Address: note, Type: name, Action: plan.Action(name), After: json.RawMessage(before), Unknown: json.RawMessage(after)},
		}, Outputs: []plan.Output{{Name: name, Action: plan.Update, Before: json.RawMessage(before), After: json.RawMessage(after)}}}
		comparison := plan.Compare(p, &plan.Plan{})
		r := Report{Commit: name, Base: base, Page: base + "/" + "p", Notice: note,
			Problems: []workspaces.Problem{{File: name, Message: failure, Source: note, Hint: name, Line: 1, Column: limit}},
			Workspaces: []Workspace{
				{Name: name, State: "failed", RunID: note, Error: failure, Notes: []string{note, name}, Next: note},
				{Name: failure, State: "planned", RunID: name, Plan: p, Next: name},
				{Name: note, State: "held", Plan: p, Reviewed: p, Comparison: &comparison},
				{Name: name, State: note, Waiting: failure, Step: name},
				{Name: name, State: "queued", Waiting: failure, Step: name},
				{Name: name, State: "running", Step: name},
			}}
		if limit < 0 {
			limit = -(limit + 1)
		}
		limit = limit%70_000 + 1
		check(t, Render(r, limit), limit)
		for _, line := range strings.Split(Diff(p), "\n") {
			if line != "" && !strings.ContainsRune("+-! #P", rune(line[0])) {
				t.Errorf("a line without a mark: %q", line)
			}
		}
		for _, w := range r.Workspaces {
			if _, d := WorkspaceStatus(w); len([]rune(d)) > maxStatus || !utf8.ValidString(d) {
				t.Errorf("status %q", d)
			}
		}
	})
}
