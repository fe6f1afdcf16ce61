package main

import (
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/hashicorp/hcl/v2"
	"github.com/hashicorp/hcl/v2/hclsyntax"
	"github.com/zclconf/go-cty/cty"
	"github.com/zclconf/go-cty/cty/function"

	"holdfast/workspaces"
)

// Bounds of the server file.
const (
	maxServerFile = 1 << 20 // bytes, also of what file() reads
	maxCount      = 10_000
	minInterval   = 100 * time.Millisecond
)

// serverFile reads the values of a server file and collects what is wrong with
// them, so that all mistakes are shown at once.
type serverFile struct {
	name string // as it was given, for people
	dir  string // where relative paths of the file start
	src  []byte
	body *hclsyntax.Body // nil without a file
	env  func(string) (string, bool)
	eval *hcl.EvalContext
	// fromFile has the settings whose value is the file's.
	fromFile map[*string]bool
	// used are the variables that env() has read since it was last emptied,
	// secretVariables those that a secret came from.
	used, secretVariables []string
	problems              workspaces.Problems
}

// openServerFile parses the file at path, or makes an empty one.
func openServerFile(path string, env func(string) (string, bool)) (*serverFile, error) {
	f := &serverFile{name: path, dir: ".", env: env, fromFile: map[*string]bool{}}
	f.eval = &hcl.EvalContext{Functions: map[string]function.Function{"env": f.envFunction(), "file": f.fileFunction()}}
	if path == "" {
		f.name = "settings"
		return f, nil
	}
	f.dir = filepath.Dir(path)
	src, err := readBounded(path)
	if err != nil {
		hint := ""
		if errors.Is(err, fs.ErrNotExist) {
			hint = "name it with --config or HOLDFAST_CONFIG; README.md shows one"
		}
		return nil, hinted{fmt.Errorf("read the server file: %w", err), hint}
	}
	f.src = src
	body, problems := workspaces.ParseHCL(path, src)
	for _, p := range problems {
		f.problems = append(f.problems, conceal(p))
	}
	if len(problems) > 0 {
		return nil, f.problems
	}
	f.body = body
	return f, nil
}

// readBounded reads a file of at most 1 MB.
func readBounded(path string) ([]byte, error) {
	info, err := os.Stat(path)
	switch {
	case err != nil:
		return nil, err
	case !info.Mode().IsRegular():
		return nil, fmt.Errorf("%s is not a file", path)
	case info.Size() > maxServerFile:
		return nil, fmt.Errorf("%s is larger than 1 MB", path)
	}
	return os.ReadFile(path)
}

// envFunction is env("NAME"): the variable's value; one that is not set is an
// error.
func (f *serverFile) envFunction() function.Function {
	return function.New(&function.Spec{
		Params: []function.Parameter{{Name: "name", Type: cty.String}},
		Type:   function.StaticReturnType(cty.String),
		Impl: func(args []cty.Value, _ cty.Type) (cty.Value, error) {
			name := args[0].AsString()
			value, ok := f.env(name)
			if !ok {
				return cty.NilVal, hinted{fmt.Errorf("the variable %s is not set", name), "set it in the server's environment"}
			}
			if !slices.Contains(f.used, name) {
				f.used = append(f.used, name)
			}
			return cty.StringVal(value), nil
		},
	})
}

// fileFunction is file("PATH"): the file's text, without the line ending after
// it, which a token does not have.
func (f *serverFile) fileFunction() function.Function {
	return function.New(&function.Spec{
		Params: []function.Parameter{{Name: "path", Type: cty.String}},
		Type:   function.StaticReturnType(cty.String),
		Impl: func(args []cty.Value, _ cty.Type) (cty.Value, error) {
			text, err := readBounded(f.beside(args[0].AsString()))
			if err != nil {
				return cty.NilVal, hinted{fmt.Errorf("file(): %w", err), "relative paths start at the server file"}
			}
			if !utf8.Valid(text) {
				return cty.NilVal, hinted{fmt.Errorf("file(): %s is not text in UTF-8", args[0].AsString()), ""}
			}
			return cty.StringVal(strings.TrimRight(string(text), "\r\n")), nil
		},
	})
}

// beside is a path that starts at the server file.
func (f *serverFile) beside(p string) string { return f.absolute(p, true) }

// absolute makes a path absolute that starts at the server file, or in the
// working directory.
func (f *serverFile) absolute(p string, atFile bool) string {
	if !filepath.IsAbs(p) && atFile {
		p = filepath.Join(f.dir, p)
	}
	abs, err := filepath.Abs(p)
	if err != nil {
		return p // there is no working directory; opening it will say so
	}
	return abs
}

// problem notes a mistake at a place.
func (f *serverFile) problem(rng hcl.Range, hint, format string, args ...any) {
	f.problems = append(f.problems, conceal(workspaces.At(f.src, rng, printable(fmt.Sprintf(format, args...)), hint)))
}

// printable replaces control characters, which names in a file may have.
func printable(s string) string {
	return strings.Map(func(r rune) rune {
		if r < ' ' || r >= 0x7f && r < 0xa0 {
			return '\ufffd'
		}
		return r
	}, s)
}

var (
	attributeLine = regexp.MustCompile(`^(\s*([A-Za-z_][A-Za-z0-9_-]*)\s*=\s*)`)
	headerLine    = regexp.MustCompile(`^\s*[A-Za-z_]+(\s+"[^"]*")*\s*\{`)
	// publicAttributes are those whose values may be shown.
	publicAttributes = []string{"url", "listen", "store", "data_dir", "workers", "per_repository", "drift_checks", "events", "workspaces", "repositories", "regions", "role_arn", "timeout", "delay", "poll", "reconcile", "mode", "interval", "app_id", "ca_file", "exclude", "default_branch", "username", "ssh_key_file", "pass", "commands", "bucket", "prefix", "region", "endpoint", "kms_key", "path_style", "state_dir", "labels", "dedicated", "grace", "allow_eviction", "allow_volatile", "cert_file", "sentinel_username", "artifacts", "checks", "runs"}
)

// conceal takes out of a quoted line what may be a secret: the values of all
// attributes that are not known to be harmless, misspelled ones included.
func conceal(p workspaces.Problem) workspaces.Problem {
	if m := attributeLine.FindStringSubmatch(p.Source); m != nil {
		if slices.Contains(publicAttributes, m[2]) && !strings.Contains(p.Source, "@") {
			return p
		}
		p.Source = m[1] + "…"
	} else {
		p.Source = headerLine.FindString(p.Source)
	}
	return p
}

// known refuses what a body does not have.
func (f *serverFile) known(body *hclsyntax.Body, where string, attributes, blocks []string) {
	all := append(slices.Clone(attributes), blocks...)
	for _, name := range slices.Sorted(maps.Keys(body.Attributes)) {
		if !slices.Contains(attributes, name) {
			f.problem(body.Attributes[name].NameRange, workspaces.Nearest(name, all), "%s has no attribute %q", where, name)
		}
	}
	for _, b := range body.Blocks {
		if !slices.Contains(blocks, b.Type) {
			f.problem(b.TypeRange, workspaces.Nearest(b.Type, all), "%s has no block %q", where, b.Type)
		}
	}
}

// value evaluates an attribute, which may be absent.
func (f *serverFile) value(body *hclsyntax.Body, name string) (cty.Value, hcl.Range, bool) {
	a, ok := body.Attributes[name]
	if !ok {
		return cty.NilVal, hcl.Range{}, false
	}
	rng := a.Expr.Range()
	f.used = nil
	v, diags := a.Expr.Value(f.eval)
	for _, d := range diags {
		if d.Severity == hcl.DiagError {
			f.failed(rng, name, d)
			return cty.NilVal, rng, false
		}
	}
	if v.IsNull() || !v.IsWhollyKnown() {
		f.problem(rng, "leave it out, or write a value", "%s has no value", name)
		return cty.NilVal, rng, false
	}
	return v, rng, true
}

// failed notes why an expression has no value.
func (f *serverFile) failed(rng hcl.Range, name string, d *hcl.Diagnostic) {
	if d.Subject != nil {
		rng = *d.Subject
	}
	if call, ok := hcl.DiagnosticExtra[hclsyntax.FunctionCallDiagExtra](d); ok && call.FunctionCallError() != nil {
		f.problem(rng, hintOf(call.FunctionCallError()), "%s: %v", name, call.FunctionCallError())
		return
	}
	hint := ""
	if strings.HasPrefix(d.Summary, "Call to unknown function") || strings.HasPrefix(d.Summary, "Variables not allowed") || d.Summary == "Unknown variable" {
		hint = `there are two functions, env("NAME") and file("PATH"), and no variables`
	}
	f.problem(rng, hint, "%s: %s", name, strings.TrimSuffix(d.Detail, "."))
}

// text reads a string that passes check, and notes that it is the file's.
func (f *serverFile) text(body *hclsyntax.Body, name string, to *string, check func(string) error) {
	v, rng, ok := f.value(body, name)
	if !ok {
		return
	}
	if v.Type() != cty.String {
		f.problem(rng, fmt.Sprintf("write %s = \"…\"", name), "%s has to be a string", name)
		return
	}
	if err := check(v.AsString()); err != nil {
		f.problem(rng, hintOf(err), "%s %v", name, err)
		return
	}
	*to = v.AsString()
	f.fromFile[to] = true
}

// secret is text, with the variables that it comes from kept from engines.
func (f *serverFile) secret(body *hclsyntax.Body, name string, to *string, check func(string) error) {
	f.text(body, name, to, check)
	if _, ok := body.Attributes[name]; ok {
		f.secretVariables = append(f.secretVariables, f.used...)
	}
}

// secrets is texts, with the variables that they come from kept from engines.
func (f *serverFile) secrets(body *hclsyntax.Body, name string, to *[]string, check func(string) error) {
	f.texts(body, name, to, check)
	if _, ok := body.Attributes[name]; ok {
		f.secretVariables = append(f.secretVariables, f.used...)
	}
}

// texts reads a list of strings that pass check.
func (f *serverFile) texts(body *hclsyntax.Body, name string, to *[]string, check func(string) error) {
	v, rng, ok := f.value(body, name)
	if !ok {
		return
	}
	wrong := func() {
		f.problem(rng, fmt.Sprintf(`write %s = ["…"]`, name), "%s has to be a list of strings", name)
	}
	if !v.Type().IsTupleType() {
		wrong()
		return
	}
	var list []string
	for _, e := range v.AsValueSlice() {
		if e.IsNull() || e.Type() != cty.String {
			wrong()
			return
		}
		if err := check(e.AsString()); err != nil {
			f.problem(rng, hintOf(err), "%s: %v", name, err)
			return
		}
		list = append(list, e.AsString())
	}
	*to = list
}

// textMap reads an object of strings whose names pass check.
func (f *serverFile) textMap(body *hclsyntax.Body, name string, to *map[string]string, check func(string) error) {
	v, rng, ok := f.value(body, name)
	if !ok {
		return
	}
	if !v.Type().IsObjectType() {
		f.problem(rng, fmt.Sprintf(`write %s = { NAME = "…" }`, name), "%s has to be names with their values", name)
		return
	}
	all := map[string]string{}
	fields := v.AsValueMap()
	for _, key := range slices.Sorted(maps.Keys(fields)) {
		e := fields[key]
		if err := check(key); err != nil {
			f.problem(rng, hintOf(err), "%s: %v", name, err)
			return
		}
		if e.IsNull() || e.Type() != cty.String || strings.ContainsRune(e.AsString(), 0) {
			f.problem(rng, fmt.Sprintf(`write %s = { %s = "…" }`, name, key), "%s: the value of %s has to be a string", name, key)
			return
		}
		all[key] = e.AsString()
	}
	*to = all
}

// count reads a whole number from 1.
func (f *serverFile) count(body *hclsyntax.Body, name string, to *int) {
	f.number(body, name, to, 1)
}

// number reads a whole number that is least or more.
func (f *serverFile) number(body *hclsyntax.Body, name string, to *int, least int64) {
	v, rng, ok := f.value(body, name)
	if !ok {
		return
	}
	if v.Type() == cty.Number {
		if n, exact := v.AsBigFloat().Int64(); exact == 0 && n >= least && n <= maxCount {
			*to = int(n)
			return
		}
	}
	f.problem(rng, fmt.Sprintf("write %s = 4", name), "%s has to be a whole number from %d to %d", name, least, maxCount)
}

// boolean reads true or false.
func (f *serverFile) boolean(body *hclsyntax.Body, name string, to *bool) {
	v, rng, ok := f.value(body, name)
	if !ok {
		return
	}
	if v.Type() != cty.Bool {
		f.problem(rng, fmt.Sprintf("write %s = true", name), "%s has to be true or false", name)
		return
	}
	*to = v.True()
}

// duration reads a length of time.
func (f *serverFile) duration(body *hclsyntax.Body, name string, to *time.Duration) {
	var text string
	f.text(body, name, &text, func(v string) error {
		d, err := time.ParseDuration(v)
		switch {
		case err != nil:
			return hinted{fmt.Errorf("is %q, which is no length of time", v), `write it like "30s" or "5m"`}
		case d < minInterval:
			return hinted{fmt.Errorf("is %s, which is too short", d), fmt.Sprintf("%s is the least", minInterval)}
		}
		*to = d
		return nil
	})
}
