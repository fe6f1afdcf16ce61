package plan

import (
	"bytes"
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"

	tfjson "github.com/hashicorp/terraform-json"
)

// MaxJSON is the largest plan that Parse reads, in bytes. Some ten thousand
// resources take a tenth of it.
const MaxJSON = 256 << 20

// ParseError says why something is not a plan that can be read.
type ParseError struct {
	Problem string // what is wrong
	Advice  string // what to do
	Err     error  // the cause, where there is one
}

// Error returns what is wrong.
func (e *ParseError) Error() string { return "read plan: " + e.Problem }

// Unwrap returns the cause.
func (e *ParseError) Unwrap() error { return e.Err }

// Hint says what to do.
func (e *ParseError) Hint() string { return e.Advice }

const makePlan = "make it with: terraform plan -out=plan.bin && terraform show -json plan.bin > plan.json"

// document is the part of the engine's plan format that Holdfast decides by;
// see https://developer.hashicorp.com/terraform/internals/json-format. The
// parts are terraform-json's. Its Plan type is not used as a whole: it would
// decode configuration and states too, which may be most of the bytes, and
// refuse a plan for what it does not know in them.
type document struct {
	FormatVersion     string                          `json:"format_version"`
	TerraformVersion  string                          `json:"terraform_version"`
	ResourceChanges   []*tfjson.ResourceChange        `json:"resource_changes"`
	ResourceDrift     []*tfjson.ResourceChange        `json:"resource_drift"`
	OutputChanges     map[string]*tfjson.Change       `json:"output_changes"`
	Relevant          []tfjson.ResourceAttribute      `json:"relevant_attributes"`
	ActionInvocations []*tfjson.ActionInvocation      `json:"action_invocations"`
	DeferredChanges   []json.RawMessage               `json:"deferred_changes"`
	DeferredActions   []json.RawMessage               `json:"deferred_action_invocations"`
	Complete          *bool                           `json:"complete"`
	Errored           bool                            `json:"errored"`
	Checks            []tfjson.CheckResultStatic      `json:"checks"`
	Variables         map[string]*tfjson.PlanVariable `json:"variables"`
	Configuration     json.RawMessage                 `json:"configuration"`
	PlannedValues     json.RawMessage                 `json:"planned_values"`
}

// Parse reads what `terraform show -json PLAN` printed. Any 1.x format is
// accepted, with whatever fields it has beyond those known here. What is not
// a plan is a *ParseError that says what it is instead.
func Parse(data []byte) (*Plan, error) {
	if len(data) > MaxJSON {
		return nil, &ParseError{
			Problem: fmt.Sprintf("it has %d bytes, more than the limit of %d", len(data), MaxJSON),
			Advice:  "split the root module",
		}
	}
	data = bytes.TrimPrefix(data, []byte("\xef\xbb\xbf"))
	if err := notJSON(data); err != nil {
		return nil, err
	}
	var doc document
	if err := unmarshal(data, &doc); err != nil {
		return nil, syntax(data, err)
	}
	if err := notPlan(data, doc); err != nil {
		return nil, err
	}
	return doc.plan()
}

func unmarshal(data []byte, v any) error {
	dec := json.NewDecoder(bytes.NewReader(data))
	dec.UseNumber()
	if err := dec.Decode(v); err != nil {
		return err
	}
	if _, err := dec.Token(); !errors.Is(err, io.EOF) {
		return errTrailing
	}
	return nil
}

var errTrailing = errors.New("more text after the end of the JSON document")

// notJSON recognises the files that people mistake for a plan's JSON.
func notJSON(data []byte) error {
	start := bytes.TrimLeft(data, " \t\r\n")
	switch {
	case len(start) == 0:
		return &ParseError{Problem: "it is empty", Advice: makePlan}
	case bytes.HasPrefix(data, []byte("PK\x03\x04")):
		return &ParseError{
			Problem: "this is the plan file itself, not its JSON",
			Advice:  "convert it with: terraform show -json FILE > plan.json",
		}
	case bytes.HasPrefix(data, []byte("\xff\xfe")), bytes.HasPrefix(data, []byte("\xfe\xff")):
		return &ParseError{
			Problem: "it is UTF-16, as PowerShell's > writes",
			Advice:  "write it as UTF-8: terraform show -json FILE | Out-File -Encoding utf8 plan.json",
		}
	case start[0] != '{':
		return &ParseError{Problem: "it is not a JSON object", Advice: makePlan}
	}
	return nil
}

// syntax turns a decoder's error into one for people.
func syntax(data []byte, err error) error {
	if isStream(data) {
		return streamError()
	}
	out := &ParseError{Problem: err.Error(), Advice: makePlan, Err: err}
	var syn *json.SyntaxError
	var typ *json.UnmarshalTypeError
	switch {
	case errors.Is(err, io.ErrUnexpectedEOF), errors.Is(err, io.EOF):
		out.Problem = fmt.Sprintf("it ends too early, after %d bytes", len(data))
		out.Advice = "it was cut off while being written; make it again"
	case errors.As(err, &syn):
		line := 1 + bytes.Count(data[:min(int(syn.Offset), len(data))], []byte("\n"))
		out.Problem = fmt.Sprintf("it is not JSON: line %d, byte %d: %v", line, syn.Offset, err)
	case errors.As(err, &typ):
		out.Problem = fmt.Sprintf("%s is a %s, which no known plan format has there", typ.Field, typ.Value)
		out.Advice = "make it with a released terraform or tofu of version 1.x"
	}
	return out
}

func isStream(data []byte) bool {
	line, _, _ := bytes.Cut(bytes.TrimLeft(data, " \t\r\n"), []byte("\n"))
	var message struct {
		Level string `json:"@level"`
	}
	return json.Unmarshal(line, &message) == nil && message.Level != ""
}

func streamError() error {
	return &ParseError{
		Problem: "this is the log of `terraform plan -json`, which has no values",
		Advice:  makePlan,
	}
}

// notPlan tells the other JSON documents around Terraform from a plan.
func notPlan(data []byte, doc document) error {
	if doc.FormatVersion != "" && (doc.PlannedValues != nil || doc.ResourceChanges != nil || doc.OutputChanges != nil || doc.Configuration != nil) {
		return badVersion(doc.FormatVersion)
	}
	var top map[string]json.RawMessage
	if err := json.Unmarshal(data, &top); err != nil {
		return syntax(data, err)
	}
	has := func(keys ...string) bool {
		return !slices.ContainsFunc(keys, func(k string) bool { return top[k] == nil })
	}
	switch {
	case has("@level"):
		return streamError()
	case has("lineage", "serial"):
		return &ParseError{Problem: "this is a state file, not a plan", Advice: makePlan}
	case has("format_version", "values"):
		return &ParseError{Problem: "this is the JSON of a state, not of a plan", Advice: makePlan}
	case has("provider_schemas"):
		return &ParseError{Problem: "these are provider schemas, not a plan", Advice: makePlan}
	case has("format_version", "diagnostics"):
		return &ParseError{Problem: "this is the result of `terraform validate -json`, not a plan", Advice: makePlan}
	case has("resource"), has("terraform"), has("variable"), has("module"):
		return &ParseError{Problem: "this is a configuration (.tf.json), not a plan", Advice: makePlan}
	case has("format_version"):
		// A plan of an empty configuration has next to nothing in it.
		return badVersion(doc.FormatVersion)
	}
	return &ParseError{Problem: "it has no format_version, so it is not a plan", Advice: makePlan}
}

func badVersion(v string) error {
	if major, _, _ := strings.Cut(v, "."); major == "1" || v == "0.1" || v == "0.2" {
		return nil // 0.x is what Terraform 0.12 to 1.0 wrote; same shape
	}
	return &ParseError{
		Problem: fmt.Sprintf("its format version is %q, and this version of Holdfast reads 1.x", v),
		Advice:  "update Holdfast, or make the plan with an engine of version 1.x",
	}
}

func (doc *document) plan() (*Plan, error) {
	p := &Plan{
		Errored:    doc.Errored,
		Engine:     doc.TerraformVersion,
		Incomplete: len(doc.DeferredChanges)+len(doc.DeferredActions) > 0 || doc.Complete != nil && !*doc.Complete && !doc.Errored,
	}
	doc.tidy()
	secrets := doc.secrets()
	for i, rc := range doc.ResourceChanges {
		if rc == nil || rc.Change == nil {
			return nil, &ParseError{
				Problem: fmt.Sprintf("resource_changes[%d] has no change", i),
				Advice:  "make it with a released terraform or tofu of version 1.x",
			}
		}
		if rc.Change.Actions.Read() {
			p.Reads = append(p.Reads, address(rc))
			continue
		}
		if c := normalise(rc, secrets); c.Action != noOp {
			p.Changes = append(p.Changes, c)
		}
	}
	for _, rc := range doc.ResourceDrift {
		if rc == nil || rc.Change == nil || rc.Change.Actions.NoOp() {
			continue // moved and otherwise the same: no drift
		}
		p.Drift = append(p.Drift, normalise(rc, secrets))
	}
	for name, c := range doc.OutputChanges {
		if c != nil && !c.Actions.NoOp() {
			p.Outputs = append(p.Outputs, output(name, c, secrets))
		}
	}
	for _, a := range doc.ActionInvocations {
		if a != nil {
			p.Invocations = append(p.Invocations, invocation(a))
		}
	}
	for _, r := range doc.Relevant {
		p.Relevant = append(p.Relevant, relevant(r))
	}
	for _, c := range doc.Checks {
		p.Checks = append(p.Checks, failedChecks(c)...)
	}
	p.sort()
	return p, nil
}

// failedChecks are the instances of a check that fail, or could not be decided
// for an error.
func failedChecks(c tfjson.CheckResultStatic) (failed []FailedCheck) {
	bad := func(s tfjson.CheckStatus) bool { return s == tfjson.CheckStatusFail || s == tfjson.CheckStatusError }
	for _, i := range c.Instances {
		if !bad(i.Status) {
			continue
		}
		f := FailedCheck{Address: or(i.Address.ToDisplay, c.Address.ToDisplay)}
		var messages []string
		for _, p := range i.Problems {
			messages = append(messages, short(p.Message))
		}
		f.Message = strings.Join(messages, " ")
		failed = append(failed, f)
	}
	if len(failed) == 0 && bad(c.Status) {
		failed = append(failed, FailedCheck{Address: c.Address.ToDisplay})
	}
	return failed
}

// tidy makes the values and marks of the document canonical: numbers in one
// spelling, marks without what is false.
func (doc *document) tidy() {
	change := func(c *tfjson.Change) {
		if c == nil {
			return
		}
		c.Before, c.After, c.AfterUnknown = numbers(c.Before), numbers(c.After), prune(c.AfterUnknown)
		c.BeforeSensitive, c.AfterSensitive = prune(c.BeforeSensitive), prune(c.AfterSensitive)
		c.BeforeIdentity, c.AfterIdentity = numbers(c.BeforeIdentity), numbers(c.AfterIdentity)
		for i := range c.ReplacePaths {
			c.ReplacePaths[i] = numbers(c.ReplacePaths[i])
		}
		if c.Importing != nil {
			c.Importing.Identity = numbers(c.Importing.Identity)
		}
	}
	for _, list := range [][]*tfjson.ResourceChange{doc.ResourceChanges, doc.ResourceDrift} {
		for _, rc := range list {
			if rc != nil {
				change(rc.Change)
			}
		}
	}
	for _, c := range doc.OutputChanges {
		change(c)
	}
	for _, a := range doc.ActionInvocations {
		if a != nil {
			a.ConfigValues, a.ConfigUnknown, a.ConfigSensitive = numbers(a.ConfigValues), prune(a.ConfigUnknown), prune(a.ConfigSensitive)
		}
	}
}

// sort makes the order of everything a matter of its content.
func (p *Plan) sort() {
	changes := func(a, b Change) int {
		if d := cmp.Or(strings.Compare(a.Address, b.Address), strings.Compare(string(a.Action), string(b.Action))); d != 0 {
			return d
		}
		return bytes.Compare(a.record(), b.record())
	}
	slices.SortStableFunc(p.Changes, changes)
	slices.SortStableFunc(p.Drift, changes)
	slices.SortFunc(p.Outputs, func(a, b Output) int { return strings.Compare(a.Name, b.Name) })
	slices.SortStableFunc(p.Invocations, func(a, b Invocation) int {
		if d := cmp.Or(strings.Compare(a.Address, b.Address), strings.Compare(a.Trigger, b.Trigger), strings.Compare(a.Event, b.Event),
			cmp.Compare(a.Block, b.Block), cmp.Compare(a.Index, b.Index)); d != 0 {
			return d
		}
		return bytes.Compare(a.record(), b.record())
	})
	slices.SortStableFunc(p.Checks, func(a, b FailedCheck) int { return strings.Compare(a.Address, b.Address) })
	slices.Sort(p.Reads)
	slices.Sort(p.Relevant)
	p.Relevant = slices.Compact(p.Relevant)
}

const noOp Action = "no-op"

func normalise(rc *tfjson.ResourceChange, secrets *secrets) Change {
	ch := rc.Change
	c := Change{
		Address:         address(rc),
		Mode:            string(rc.Mode),
		Type:            rc.Type,
		Provider:        rc.ProviderName,
		Reason:          string(rc.ActionReason),
		Import:          importID(ch.Importing),
		Importing:       importing(ch.Importing),
		Before:          encode(ch.Before),
		After:           encode(ch.After),
		IdentityBefore:  present(ch.BeforeIdentity),
		IdentityAfter:   present(ch.AfterIdentity),
		Unknown:         present(ch.AfterUnknown),
		SensitiveBefore: marks(secrets.mark(ch.Before, ch.BeforeSensitive)),
		SensitiveAfter:  marks(secrets.mark(ch.After, ch.AfterSensitive)),
		MarkedBefore:    present(ch.BeforeSensitive),
		MarkedAfter:     present(ch.AfterSensitive),
	}
	if rc.PreviousAddress != rc.Address {
		c.Previous = rc.PreviousAddress
	}
	for _, path := range ch.ReplacePaths {
		c.Replace = append(c.Replace, encode(path))
	}
	slices.SortFunc(c.Replace, func(a, b json.RawMessage) int { return bytes.Compare(a, b) })
	c.Action, c.Words = action(ch.Actions)
	if c.Action == noOp {
		switch {
		case c.Import != "":
			c.Action = Import
		case c.Previous != "":
			c.Action = Move
		}
	}
	return c
}

func address(rc *tfjson.ResourceChange) string {
	if rc.DeposedKey != "" {
		return rc.Address + " (deposed " + rc.DeposedKey + ")"
	}
	return rc.Address
}

// action returns the action, and the engine's words where it does not tell
// them. A word of a later engine never becomes one of the actions here.
func action(actions tfjson.Actions) (Action, []string) {
	words := make([]string, len(actions))
	for i, a := range actions {
		words[i] = string(a)
	}
	is := func(expected ...string) bool { return slices.Equal(words, expected) }
	joined := Action(strings.Join(words, "+"))
	switch {
	case len(words) == 0, is("no-op"):
		return noOp, nil
	case is("create"), is("update"), is("delete"), is("forget"):
		return joined, nil
	case is("delete", "create"):
		return Replace, nil
	case is("create", "delete"):
		return ReplaceCreateFirst, nil
	case is("forget", "create"), is("create", "forget"):
		return ReplaceForget, words
	}
	switch joined {
	case Replace, ReplaceCreateFirst, ReplaceForget, Move, Import, noOp:
		return "engine's " + joined, words
	}
	return joined, words
}

func importID(i *tfjson.Importing) string {
	switch {
	case i == nil:
		return ""
	case i.Unknown:
		return Unknown{}.String()
	case i.ID != "":
		return i.ID
	case i.Identity != nil:
		return string(encode(i.Identity))
	}
	return "(no id)"
}

// importing returns what Import does not tell.
func importing(i *tfjson.Importing) json.RawMessage {
	if i == nil || i.ID != "" && !i.Unknown && i.Identity == nil {
		return nil
	}
	return encode(map[string]any{"id": i.ID, "unknown": i.Unknown, "identity": i.Identity})
}

func output(name string, c *tfjson.Change, secrets *secrets) Output {
	o := Output{
		Name:    name,
		Before:  encode(c.Before),
		After:   encode(c.After),
		Unknown: anyTrue(c.AfterUnknown),
		Sensitive: anyTrue(c.BeforeSensitive) || anyTrue(c.AfterSensitive) ||
			anyTrue(secrets.mark(c.Before, nil)) || anyTrue(secrets.mark(c.After, nil)),
		MarkedBefore: present(c.BeforeSensitive),
		MarkedAfter:  present(c.AfterSensitive),
	}
	o.Action, o.Words = action(c.Actions)
	if o.Unknown && c.AfterUnknown != true {
		o.Unknowns = encode(c.AfterUnknown)
	}
	return o
}

func invocation(a *tfjson.ActionInvocation) Invocation {
	out := Invocation{
		Address: a.Address, Type: a.Type, Provider: a.ProviderName,
		Config: encode(a.ConfigValues), Unknown: present(a.ConfigUnknown), Marked: present(a.ConfigSensitive),
	}
	if t := a.LifecycleActionTrigger; t != nil {
		out.Trigger, out.Event = t.TriggeringResourceAddress, t.ActionTriggerEvent
		out.Block, out.Index = t.ActionTriggerBlockIndex, t.ActionsListIndex
	}
	return out
}

func relevant(r tfjson.ResourceAttribute) string {
	var path Path
	for _, raw := range r.Attribute {
		switch step := decode(raw).(type) {
		case string:
			path = append(path, step)
		case json.Number:
			if n, err := step.Int64(); err == nil {
				path = append(path, int(n))
			}
		}
	}
	switch s := path.String(); {
	case s == "":
		return r.Resource
	case strings.HasPrefix(s, "["):
		return r.Resource + s
	default:
		return r.Resource + "." + s
	}
}
