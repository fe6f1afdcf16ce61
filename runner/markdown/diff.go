package markdown

import (
	"encoding/json"
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strings"

	"holdfast/runner/plan"
)

// The marks in the first column of a diff. Hosts colour "+" green, "-" red
// and "!" orange; terminals know "~" from the engine itself.
const (
	markAdd    = '+'
	markRemove = '-'
	markSame   = ' '
	markChange = '!'
	markTilde  = '~'
)

// Diff shows a plan as text for a ```diff block: like the engine's own, with
// the marks in the first column. Sensitive values are masked, invisible
// characters made visible; nothing is cut. A plan without changes is a
// sentence.
func Diff(p *plan.Plan) string { return diffText(p, markChange) }

// PlanText shows a plan on a terminal: as Diff does, with the engine's "~".
func PlanText(p *plan.Plan) string { return diffText(p, markTilde) }

func diffText(p *plan.Plan, change byte) string {
	d := &differ{change: change}
	if p == nil {
		p = &plan.Plan{}
	}
	for _, c := range p.Changes {
		d.resource(c)
	}
	for _, r := range p.Reads {
		d.note("%s will be read while applying", visible(r))
	}
	for _, i := range p.Invocations {
		d.invocation(i)
	}
	d.outputs(p.Outputs)
	if p.Errored {
		d.note("Planning failed half way: this is not all of it, and it cannot be applied.")
	}
	if p.Incomplete {
		d.note("The engine deferred changes: another plan and apply will be needed.")
	}
	if len(d.out) > 0 {
		d.out = append(d.out, "")
	}
	switch {
	case p.Empty() && len(d.out) == 0:
		d.out = append(d.out, "No changes.")
	case p.Errored: // the counts would be of a part
	default:
		d.out = append(d.out, "Plan: "+SummaryText(p.Summary())+".")
	}
	return strings.Join(d.out, "\n") + "\n"
}

// SummaryText says what a plan does: "2 to add, 1 to destroy".
func SummaryText(s plan.Summary) string {
	var parts []string
	for _, n := range []struct {
		count int
		what  string
	}{
		{s.Add, "to add"}, {s.Change, "to change"}, {s.Replace, "to replace"}, {s.Destroy, "to destroy"},
		{s.Forget, "to forget"}, {s.Import, "to import"}, {s.Move, "to move"},
	} {
		if n.count > 0 {
			parts = append(parts, fmt.Sprintf("%d %s", n.count, n.what))
		}
	}
	switch {
	case s.Outputs == 1:
		parts = append(parts, "1 output to change")
	case s.Outputs > 1:
		parts = append(parts, fmt.Sprintf("%d outputs to change", s.Outputs))
	}
	if len(parts) == 0 {
		return "no changes"
	}
	return strings.Join(parts, ", ")
}

// differ writes the lines of a diff.
type differ struct {
	out    []string
	change byte
	forced map[string]bool // paths that force the replacement of this resource
}

// line adds a line: the mark, a space, four spaces for each level.
func (d *differ) line(mark byte, depth int, text string) {
	if text == "" {
		d.out = append(d.out, strings.TrimRight(string(mark), " "))
		return
	}
	d.out = append(d.out, string(mark)+" "+strings.Repeat("    ", depth)+text)
}

// note adds a sentence on a line of its own.
func (d *differ) note(format string, args ...any) {
	if len(d.out) > 0 {
		d.out = append(d.out, "")
	}
	d.out = append(d.out, "# "+fmt.Sprintf(format, args...))
}

func (d *differ) resource(c plan.Change) {
	d.forced = map[string]bool{}
	for _, raw := range c.Replace {
		d.forced[plan.ParsePath(raw).String()] = true
	}
	d.note("%s", sentence(c))
	if c.Previous != "" && c.Action != plan.Move {
		d.out = append(d.out, "# (moved from "+visible(c.Previous)+")")
	}
	if c.Import != "" && c.Action != plan.Import {
		d.out = append(d.out, "# (imported: id "+quote(c.Import)+")")
	}
	before, after := c.Values()
	mark := d.change
	switch c.Action {
	case plan.Create:
		mark, before = markAdd, nil
	case plan.Delete:
		mark, after = markRemove, nil
	case plan.Move, plan.Import, plan.Forget:
		return
	}
	kind := "resource"
	if c.Mode == "data" {
		kind = "data"
	}
	d.line(mark, 0, fmt.Sprintf("%s %s %s {", kind, quote(c.Type), quote(resourceName(c))))
	b, bok := before.(map[string]any)
	a, aok := after.(map[string]any)
	switch {
	case (bok || before == nil) && (aok || after == nil):
		d.object(1, b, a, nil)
	default: // masked as a whole, or no object
		d.entry(1, "", before, after, nil, "")
	}
	d.line(mark, 0, "}")
}

// resourceName finds the NAME in MODULES.TYPE.NAME[KEY].
func resourceName(c plan.Change) string {
	i := strings.LastIndex(c.Address, c.Type+".")
	if c.Type == "" || i < 0 {
		return c.Address
	}
	name := c.Address[i+len(c.Type)+1:]
	if end := strings.IndexAny(name, "[ "); end >= 0 {
		name = name[:end]
	}
	return name
}

var reasons = map[string]string{
	"replace_because_tainted":           "it is tainted",
	"replace_by_request":                "it was asked for",
	"replace_by_triggers":               "replace_triggered_by asks for it",
	"delete_because_no_resource_config": "it is not in the configuration",
	"delete_because_no_module":          "its module is not in the configuration",
	"delete_because_wrong_repetition":   "its key does not suit count or for_each",
	"delete_because_count_index":        "its index is beyond count",
	"delete_because_each_key":           "its key is not in for_each",
	"delete_because_no_move_target":     "it was moved to an address that is not in the configuration",
}

func sentence(c plan.Change) string {
	address := visible(c.Address)
	because := ""
	if r := reasons[c.Reason]; r != "" {
		because = ", because " + r
	}
	switch c.Action {
	case plan.Create:
		return address + " will be created"
	case plan.Update:
		return address + " will be updated in place"
	case plan.Delete:
		return address + " will be destroyed" + because
	case plan.Replace:
		return address + " must be replaced: destroyed, then created" + because
	case plan.ReplaceCreateFirst:
		return address + " must be replaced: created, then destroyed" + because
	case plan.ReplaceForget:
		return address + " will be created anew, and the old one forgotten: it stays in the cloud" + because
	case plan.Forget:
		return address + " will be forgotten: it leaves the state and stays in the cloud"
	case plan.Move:
		return visible(c.Previous) + " has moved to " + address
	case plan.Import:
		return address + " will be imported (id " + quote(c.Import) + ")"
	}
	return address + ": " + visible(string(c.Action)) + " (an action that this version of Holdfast does not know)"
}

func (d *differ) invocation(i plan.Invocation) {
	if i.Trigger == "" {
		d.note("%s will be invoked", visible(i.Address))
		return
	}
	d.note("%s will be invoked by %s (%s)", visible(i.Address), visible(i.Trigger), visible(i.Event))
}

func (d *differ) outputs(list []plan.Output) {
	if len(list) == 0 {
		return
	}
	d.note("Outputs will change")
	d.forced = nil
	width := 0
	for _, o := range list {
		width = max(width, padWidth(o.Name))
	}
	for _, o := range list {
		before, after := o.Values()
		switch o.Action {
		case plan.Create:
			before = nil
		case plan.Delete:
			after = nil
		}
		if before == nil && after == nil {
			d.line(d.change, 0, prefix(o.Name, width)+"null")
			continue
		}
		d.entry(0, prefix(o.Name, width), before, after, nil, "")
	}
}

const maxPad = 32 // longer names are not aligned with

func padWidth(name string) int {
	if n := len([]rune(attributeName(name))); n <= maxPad {
		return n
	}
	return 0
}

func prefix(name string, width int) string {
	return fmt.Sprintf("%-*s = ", width, attributeName(name))
}

var bareName = regexp.MustCompile(`^[A-Za-z_][A-Za-z0-9_-]*$`)

func attributeName(name string) string {
	if bareName.MatchString(name) {
		return name
	}
	return quote(name)
}

// quote writes a string as the configuration would, on one line.
func quote(s string) string {
	s = strings.NewReplacer(`\`, `\\`, `"`, `\"`, "${", "$${", "%{", "%%{").Replace(s)
	return `"` + visible(s) + `"`
}

func literal(v any) string {
	switch v := v.(type) {
	case nil:
		return "null"
	case string:
		return quote(v)
	case json.Number:
		return visible(v.String())
	case map[string]any:
		return "{}"
	case []any:
		return "[]"
	}
	return fmt.Sprint(v) // bool, plan.Unknown, plan.Sensitive
}

// object writes the attributes of an object that differ and counts the others.
func (d *differ) object(depth int, before, after map[string]any, path plan.Path) {
	keys := map[string]bool{}
	maps.Copy(keys, has(before))
	maps.Copy(keys, has(after))
	var show []string
	width, same := 0, 0
	for _, k := range slices.Sorted(maps.Keys(keys)) {
		b, a := before[k], after[k]
		unchanged := plan.Equal(b, a)
		switch {
		case b == nil && a == nil:
			continue
		case unchanged && !(len(path) == 0 && depth == 1 && (k == "id" || k == "name") && scalar(a)):
			same++
			continue
		}
		show = append(show, k)
		width = max(width, padWidth(k))
	}
	for _, k := range show {
		d.entry(depth, prefix(k, width), before[k], after[k], append(slices.Clone(path), k), "")
	}
	if same > 0 {
		d.line(markSame, depth, fmt.Sprintf("# (%s hidden)", count(same, "unchanged attribute")))
	}
}

func has(m map[string]any) map[string]bool {
	out := make(map[string]bool, len(m))
	for k := range m {
		out[k] = true
	}
	return out
}

func count(n int, what string) string {
	if n == 1 {
		return "1 " + what
	}
	return fmt.Sprintf("%d %ss", n, what)
}

func scalar(v any) bool {
	switch v := v.(type) {
	case map[string]any:
		return len(v) == 0
	case []any:
		return len(v) == 0
	case string:
		return !strings.Contains(v, "\n")
	}
	return true
}

// entry writes one attribute or element that may differ.
func (d *differ) entry(depth int, prefix string, before, after any, path plan.Path, end string) {
	if len(d.forced) > 0 && len(path) > 0 && d.forced[path.String()] {
		end += "  # forces replacement"
	}
	_, unknown := after.(plan.Unknown)
	_, hideB := before.(plan.Sensitive)
	_, hideA := after.(plan.Sensitive)
	switch {
	case plan.Equal(before, after):
		d.whole(markSame, depth, prefix, after, end)
	case before == nil:
		d.whole(markAdd, depth, prefix, after, end)
	case after == nil:
		d.whole(markRemove, depth, prefix, before, end)
	case unknown && !scalar(before):
		d.whole(markRemove, depth, prefix, before, "")
		d.line(d.change, depth, prefix+literal(after)+end)
	case unknown:
		d.line(d.change, depth, prefix+literal(before)+" -> "+literal(after)+end)
	case hideB || hideA:
		// A mark on one side hides the other's value too: it may be the same
		// secret.
		d.line(d.change, depth, prefix+literal(plan.Sensitive{})+end)
	default:
		d.values(depth, prefix, before, after, path, end)
	}
}

// values writes two values that differ and are neither null, unknown nor
// masked.
func (d *differ) values(depth int, prefix string, before, after any, path plan.Path, end string) {
	switch b := before.(type) {
	case map[string]any:
		if a, ok := after.(map[string]any); ok {
			d.line(d.change, depth, prefix+"{"+comment(end))
			d.object(depth+1, b, a, path)
			d.line(markSame, depth, "}"+punctuation(end))
			return
		}
	case []any:
		if a, ok := after.([]any); ok {
			d.line(d.change, depth, prefix+"["+comment(end))
			d.list(depth+1, b, a, path)
			d.line(markSame, depth, "]"+punctuation(end))
			return
		}
	case string:
		if a, ok := after.(string); ok {
			d.strings(depth, prefix, b, a, end)
			return
		}
	}
	if scalar(before) && scalar(after) {
		d.line(d.change, depth, prefix+literal(before)+" -> "+literal(after)+end)
		return
	}
	d.whole(markRemove, depth, prefix, before, punctuation(end))
	d.whole(markAdd, depth, prefix, after, end)
}

// comment and punctuation are the parts of what follows a value: on the line
// that opens it, and on the one that closes it.
func comment(end string) string { return strings.TrimPrefix(end, ",") }

func punctuation(end string) string {
	if strings.HasPrefix(end, ",") {
		return ","
	}
	return ""
}

// whole writes a value of which every line has the same mark. Null attributes
// are left out.
func (d *differ) whole(mark byte, depth int, head string, v any, end string) {
	switch v := v.(type) {
	case map[string]any:
		if len(v) == 0 {
			break
		}
		d.line(mark, depth, head+"{"+comment(end))
		width := 0
		for k, child := range v {
			if child != nil {
				width = max(width, padWidth(k))
			}
		}
		for _, k := range slices.Sorted(maps.Keys(v)) {
			if v[k] != nil {
				d.whole(mark, depth+1, prefix(k, width), v[k], "")
			}
		}
		d.line(mark, depth, "}"+punctuation(end))
		return
	case []any:
		if len(v) == 0 {
			break
		}
		d.line(mark, depth, head+"["+comment(end))
		for _, child := range v {
			d.whole(mark, depth+1, "", child, ",")
		}
		d.line(mark, depth, "]"+punctuation(end))
		return
	case string:
		if parsed := jsonInside(v); parsed != nil {
			d.line(mark, depth, head+"jsonencode("+comment(end))
			d.whole(mark, depth+1, "", parsed, "")
			d.line(mark, depth, ")"+punctuation(end))
			return
		}
		if strings.Contains(strings.TrimSuffix(v, "\n"), "\n") {
			d.line(mark, depth, head+"<<-EOT"+comment(end))
			for _, l := range textLines(v) {
				d.line(mark, depth+1, l)
			}
			d.line(mark, depth, "EOT"+punctuation(end))
			return
		}
	}
	d.line(mark, depth, head+literal(v)+end)
}
