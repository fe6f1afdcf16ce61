package workspaces

import (
	"fmt"
	"path"
	"regexp"
	"slices"
	"strings"
	"unicode"

	"github.com/bmatcuk/doublestar/v4"
	"github.com/hashicorp/go-version"
	"github.com/hashicorp/hcl/v2"
	"github.com/hashicorp/hcl/v2/hclsyntax"
)

// file is what holdfast.hcl says.
type file struct {
	engine, version  string
	include, exclude []string
	defaults         Defaults
	automergeAt      spot // of defaults, see policies
	blocks           []block
}

// block is a workspace block. What can only be judged with the checkout at
// hand keeps its place.
type block struct {
	Workspace
	dirSet      bool
	at, dirAt   spot
	automergeAt spot   // see policies
	varFiles    []spot // of Workspace.VarFiles
	depends     []spot // of Workspace.DependsOn
}

// spot is where something stands in holdfast.hcl.
type spot struct {
	rng hcl.Range
	src []byte
}

// problem makes a problem of that place, for one workspace.
func (p spot) problem(workspace, message, hint string) Problem {
	problem := At(p.src, p.rng, clean(message), clean(hint))
	problem.Workspace = workspace
	return problem
}

var (
	engines      = []string{"terraform", "tofu"}
	requirements = []string{"approved", "mergeable", "up_to_date"}
)

// Bounds of globs: each one is matched with every changed path, and
// alternatives multiply.
const (
	maxGlob         = 512
	maxAlternatives = 3
)

// parseFile reads holdfast.hcl.
func parseFile(src []byte) (file, Problems) {
	f := file{engine: "terraform", defaults: builtIn()}
	b, problems := ParseHCL(File, src)
	if len(problems) > 0 {
		return f, problems
	}
	d := &decoder{src: src}
	d.known(b, File, []string{"engine", "version"}, []string{"discover", "defaults", "workspace"})
	d.choice(b, "engine", &f.engine, engines...)
	d.constraint(b, &f.version)
	// Defaults first: a workspace starts with them, wherever they stand.
	for _, sub := range b.Blocks {
		switch sub.Type {
		case "discover":
			d.known(sub.Body, "discover", []string{"include", "exclude"}, nil)
			d.globs(sub.Body, "include", &f.include)
			d.globs(sub.Body, "exclude", &f.exclude)
		case "defaults":
			d.known(sub.Body, "defaults", []string{"runs_on"}, []string{"apply", "drift"})
			d.labels(sub.Body, "runs_on", &f.defaults.RunsOn)
			d.policies(sub.Body, &f.defaults.Apply, &f.defaults.Drift, &f.automergeAt)
		}
	}
	names := map[string]int{}
	for _, sub := range b.Blocks {
		if sub.Type != "workspace" {
			continue
		}
		w := d.workspace(sub, f)
		if line, twice := names[w.Name]; twice && w.Name != "" {
			d.problem(w.at.rng, "names are unique: give one of them another name", "workspace %q is already at line %d", w.Name, line)
		}
		names[w.Name] = w.at.rng.Start.Line
		f.blocks = append(f.blocks, w)
	}
	d.problems.Sort()
	return f, d.problems
}

// workspace reads a workspace block.
func (d *decoder) workspace(b *hclsyntax.Block, f file) block {
	w := block{at: spot{b.TypeRange, d.src}, Workspace: Workspace{Workspace: "default", Engine: f.engine, Version: f.version}}
	w.Apply, w.Drift, w.RunsOn, w.automergeAt = f.defaults.Apply, f.defaults.Drift, f.defaults.RunsOn, f.automergeAt
	if len(b.Labels) != 1 {
		d.problem(b.TypeRange, `write workspace "NAME" { … }`, "a workspace block has one label, its name")
		return w
	}
	w.at.rng = b.LabelRanges[0]
	if !validName(b.Labels[0]) {
		d.problem(b.LabelRanges[0], "use letters, digits and . _ - / @ +, 200 at most, like a relative path", "%q cannot be a workspace's name", cut(b.Labels[0], 60))
		return w
	}
	w.Name = b.Labels[0]
	d.known(b.Body, fmt.Sprintf("workspace %q", w.Name), []string{"dir", "workspace", "var_files", "watch", "depends_on", "engine", "version", "runs_on"}, []string{"apply", "drift"})
	rng, ok := d.text(b.Body, "dir", &w.Dir)
	if w.dirSet, w.dirAt = ok, (spot{rng, d.src}); !ok {
		w.dirAt = w.at
	}
	if rng, ok := d.text(b.Body, "workspace", &w.Workspace.Workspace); ok && !validTerraformWorkspace(w.Workspace.Workspace) {
		d.problem(rng, "Terraform takes letters, digits and . _ - ~, and not - at the beginning", "%q cannot be a Terraform workspace's name", cut(w.Workspace.Workspace, 60))
	}
	w.varFiles = d.places(b.Body, "var_files", &w.VarFiles)
	w.depends = d.places(b.Body, "depends_on", &w.DependsOn)
	d.globs(b.Body, "watch", &w.Watch)
	d.choice(b.Body, "engine", &w.Engine, engines...)
	d.constraint(b.Body, &w.Version)
	d.labels(b.Body, "runs_on", &w.RunsOn)
	d.policies(b.Body, &w.Apply, &w.Drift, &w.automergeAt)
	return w
}

// label is what a worker's label looks like, and how many a workspace may want.
var label = regexp.MustCompile(`^[a-z0-9]([a-z0-9._-]{0,61}[a-z0-9])?$`)

const maxLabels = 16

// labels reads labels of workers, into order.
func (d *decoder) labels(body *hclsyntax.Body, name string, to *[]string) {
	var list []string
	ranges, ok := d.texts(body, name, &list)
	if !ok {
		return
	}
	for i, l := range list {
		if i == maxLabels || !label.MatchString(l) {
			d.problem(ranges[i], fmt.Sprintf(`write labels of workers, such as "prod": lower-case letters, digits and . _ - between them, %d of them at most`, maxLabels), "%s has %q, which cannot be a label", name, cut(l, 60))
		}
	}
	*to = slices.Compact(slices.Sorted(slices.Values(list)))
}

// places reads a list of strings and where they stand.
func (d *decoder) places(body *hclsyntax.Body, name string, to *[]string) []spot {
	ranges, _ := d.texts(body, name, to)
	places := make([]spot, len(ranges))
	for i, rng := range ranges {
		places[i] = spot{rng, d.src}
	}
	return places
}

// policies reads the apply and drift blocks of a body over what is there. Where
// the body has automerge, else on, is put into automergeAt: whether the two go
// together shows in the workspace, which may have one of them from defaults.
func (d *decoder) policies(body *hclsyntax.Body, apply *Apply, drift *Drift, automergeAt *spot) {
	for _, b := range body.Blocks {
		switch b.Type {
		case "apply":
			d.known(b.Body, "apply", []string{"on", "requires", "when_plan_changed", "max_plan_age", "lock", "automerge", "merge_method", "on_push"}, nil)
			d.choice(b.Body, "on", &apply.On, "merge", "comment")
			d.choice(b.Body, "when_plan_changed", &apply.WhenPlanChanged, "hold", "same_resources", "always")
			d.duration(b.Body, "max_plan_age", &apply.MaxPlanAge)
			d.requires(b.Body, &apply.Requires)
			d.choice(b.Body, "lock", &apply.Lock, "apply", "plan", "none")
			d.boolean(b.Body, "automerge", &apply.Automerge)
			d.choice(b.Body, "merge_method", &apply.MergeMethod, "merge", "squash", "rebase")
			d.boolean(b.Body, "on_push", &apply.OnPush)
			for _, name := range []string{"on", "automerge"} {
				if a, ok := b.Body.Attributes[name]; ok {
					*automergeAt = spot{a.Expr.Range(), d.src}
				}
			}
		case "drift":
			d.drift(b.Body, drift)
		}
	}
}

// requires reads what has to be so before an apply.
func (d *decoder) requires(body *hclsyntax.Body, to *[]string) {
	var list []string
	ranges, ok := d.texts(body, "requires", &list)
	if !ok {
		return
	}
	for i, r := range list {
		if !slices.Contains(requirements, r) {
			d.problem(ranges[i], Nearest(r, requirements), "requires has %q, which is none of %s", cut(r, 60), quoted(requirements))
		}
	}
	*to = list
}

// constraint reads version.
func (d *decoder) constraint(body *hclsyntax.Body, to *string) {
	var s string
	rng, ok := d.text(body, "version", &s)
	if !ok {
		return
	}
	if _, err := version.NewConstraint(s); err != nil {
		d.problem(rng, `write it like "~> 1.11" or ">= 1.5, < 2.0"`, "version %q is not a version constraint", cut(s, 60))
		return
	}
	*to = s
}

// globs reads patterns of paths in the repository.
func (d *decoder) globs(body *hclsyntax.Body, name string, to *[]string) {
	var list []string
	ranges, ok := d.texts(body, name, &list)
	if !ok {
		return
	}
	*to = list
	for i, g := range list {
		switch {
		case strings.HasPrefix(g, "/") || escapes(g) || strings.Contains(g, "/../") || strings.HasSuffix(g, "/.."):
			d.problem(ranges[i], "globs are relative to the repository", "%s has %q, which leaves the repository", name, cut(g, 60))
		case g == "" || len(g) > maxGlob || strings.Count(g, "{") > maxAlternatives || !doublestar.ValidatePattern(g):
			d.problem(ranges[i], `write it like "live/**" or "policies/*.json"`, "%s has %q, which is no glob", name, cut(g, 60))
		}
	}
}

// validName reports whether a workspace may be called that. Names are in
// comments, statuses, URLs, paths and globs, so they have none of their characters.
func validName(s string) bool {
	if s == "" || len(s) > 200 || s[0] == '-' || s[0] == '/' || escapes(s) || path.Clean(s) != s {
		return false
	}
	return !strings.ContainsFunc(s, func(r rune) bool {
		return !unicode.IsLetter(r) && !unicode.IsDigit(r) && !strings.ContainsRune("._-/@+", r)
	})
}

// validTerraformWorkspace is Terraform's own rule, and that it is not taken
// for an option.
func validTerraformWorkspace(s string) bool {
	if s == "" || len(s) > 90 || s[0] == '-' {
		return false
	}
	return !strings.ContainsFunc(s, func(r rune) bool {
		return r > unicode.MaxASCII || !unicode.IsLetter(r) && !unicode.IsDigit(r) && !strings.ContainsRune("._-~", r)
	})
}
