package propose

import (
	"bytes"
	"encoding/json"
	"flag"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/rogpeppe/go-internal/txtar"

	"holdfast/runner/plan"
)

var update = flag.Bool("update", false, "rewrite what the golden files want")

// driftJSON is a drift in a golden file. Sensitive are top-level attributes; a
// string "(known after apply)" is what it says.
type driftJSON struct {
	Address          string
	Before, After    any
	Deleted, Created bool
	Sensitive        []string
}

// golden is one file: a configuration, what drifted, and what comes out.
type golden struct {
	config Config
	drift  []Drift
	skip   []string
	wants  map[string]string
}

func readGolden(t *testing.T, a *txtar.Archive) golden {
	t.Helper()
	g := golden{config: Config{Files: map[string][]byte{}, Dir: "."}, wants: map[string]string{}}
	for _, f := range a.Files {
		switch {
		case f.Name == "drift.json":
			g.drift = readDrift(t, f.Data)
		case f.Name == "shared.json":
			var shared map[string]string
			read(t, f.Data, &shared)
			g.config.Shared = func(path string) string { return shared[path] }
		case f.Name == "config.json":
			var c struct {
				Dir        string
				VarFiles   []string
				Skip, CRLF []string
			}
			read(t, f.Data, &c)
			g.config.VarFiles, g.skip = c.VarFiles, c.Skip
			if c.Dir != "" {
				g.config.Dir = c.Dir
			}
		case strings.HasPrefix(f.Name, "want"):
			g.wants[f.Name] = string(f.Data)
		default:
			g.config.Files[f.Name] = f.Data
		}
	}
	return g
}

func read(t *testing.T, data []byte, into any) {
	t.Helper()
	dec := json.NewDecoder(bytes.NewReader(data))
	dec.UseNumber()
	if err := dec.Decode(into); err != nil {
		t.Fatal(err)
	}
}

func readDrift(t *testing.T, data []byte) (out []Drift) {
	t.Helper()
	var list []driftJSON
	read(t, data, &list)
	for _, d := range list {
		if len(d.Sensitive) > 0 {
			d.Before, d.After = sensitive(t, d)
		}
		out = append(out, Drift{Address: d.Address, Before: d.Before, After: unknowns(d.After), Deleted: d.Deleted, Created: d.Created})
	}
	return out
}

func unknowns(v any) any {
	switch v := v.(type) {
	case map[string]any:
		for k := range v {
			v[k] = unknowns(v[k])
		}
	case []any:
		for i := range v {
			v[i] = unknowns(v[i])
		}
	case string:
		if v == (plan.Unknown{}).String() {
			return plan.Unknown{}
		}
	}
	return v
}

// sensitive hides attributes like a plan does.
func sensitive(t *testing.T, d driftJSON) (before, after any) {
	marks := map[string]bool{}
	for _, k := range d.Sensitive {
		marks[k] = true
	}
	var raw [3]json.RawMessage
	for i, v := range []any{d.Before, d.After, marks} {
		var err error
		if raw[i], err = json.Marshal(v); err != nil {
			t.Fatal(err)
		}
	}
	return plan.Change{Before: raw[0], After: raw[1], SensitiveBefore: raw[2], SensitiveAfter: raw[2]}.Values()
}

func (g golden) run() Result {
	return Propose(g.config, g.drift, func(address, attribute string) bool {
		return slices.Contains(g.skip, address+" "+attribute)
	})
}

// results renders a result like the golden files have it.
func results(r Result) map[string]string {
	out := map[string]string{}
	for name, data := range r.Files {
		out["want/"+name] = string(data)
	}
	var b strings.Builder
	for _, e := range r.Edits {
		fmt.Fprintf(&b, "%s %s: %q -> %q at %s:%d", e.Address, e.Attribute, e.From, e.To, e.Path, e.Line)
		if e.Via != "" {
			fmt.Fprintf(&b, " via %s", e.Via)
		}
		b.WriteString("\n")
	}
	for _, r := range r.Refused {
		fmt.Fprintf(&b, "REFUSED %s %s: %s\n", r.Address, r.Attribute, r.Reason)
	}
	out["want.edits"] = b.String()
	return out
}

func TestGolden(t *testing.T) {
	paths, err := filepath.Glob("testdata/*.txtar")
	if err != nil || len(paths) == 0 {
		t.Fatal("no golden files", err)
	}
	for _, path := range paths {
		t.Run(strings.TrimSuffix(filepath.Base(path), ".txtar"), func(t *testing.T) {
			a, err := txtar.ParseFile(path)
			if err != nil {
				t.Fatal(err)
			}
			g := readGolden(t, a)
			r := g.run()
			got := results(r)
			if *update {
				a.Files = slices.DeleteFunc(a.Files, func(f txtar.File) bool { return strings.HasPrefix(f.Name, "want") })
				for _, name := range slices.Sorted(maps.Keys(got)) {
					a.Files = append(a.Files, txtar.File{Name: name, Data: []byte(got[name])})
				}
				if err := os.WriteFile(path, txtar.Format(a), 0o666); err != nil {
					t.Fatal(err)
				}
				return
			}
			if diff := cmp.Diff(g.wants, got); diff != "" {
				t.Errorf("-want +got:\n%s", diff)
			}
			again(t, g, r)
		})
	}
}

// again checks that the edited configuration needs no edit.
func again(t *testing.T, g golden, r Result) {
	t.Helper()
	files := maps.Clone(g.config.Files)
	maps.Copy(files, r.Files)
	g.config.Files = files
	refused := map[string]bool{}
	for _, x := range r.Refused {
		refused[x.Address+" "+x.Attribute] = true
	}
	for _, e := range g.run().Edits {
		if !refused[e.Address+" "+e.Attribute] {
			t.Errorf("again: %+v", e)
		}
	}
}
