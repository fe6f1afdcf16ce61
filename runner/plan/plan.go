// Package plan decides what a plan means: what it changes, whether it is the
// change that was reviewed, and which kind of drift it shows. Everything here
// is pure; the input is the JSON that `terraform show -json` prints.
package plan

import "encoding/json"

// Plan is a plan's changes, normalised: sorted by address, without no-ops and
// pure reads, and without what differs between engines' format versions.
type Plan struct {
	Changes []Change `json:"changes,omitempty"`
	Outputs []Output `json:"outputs,omitempty"`
	// Drift is what the refresh found to differ from the state
	// ("resource_drift").
	Drift []Change `json:"drift,omitempty"`
	// Relevant are the attributes whose drift contributed to Changes, as
	// ADDRESS or ADDRESS.ATTRIBUTE ("relevant_attributes").
	Relevant []string `json:"relevant,omitempty"`
	// Reads are the addresses of data sources that are read while applying.
	Reads []string `json:"reads,omitempty"`
	// Invocations are the provider actions that run beside the changes
	// ("action_invocations", Terraform 1.14 and later).
	Invocations []Invocation `json:"invocations,omitempty"`
	// Checks are the checks of the configuration that fail ("checks").
	Checks []FailedCheck `json:"checks,omitempty"`
	// Errored is set where planning failed half way; such a plan cannot be
	// applied.
	Errored bool `json:"errored,omitempty"`
	// Incomplete is set where the engine deferred changes: another plan and
	// apply will be needed.
	Incomplete bool `json:"incomplete,omitempty"`
	// Engine is the version that made the plan.
	Engine string `json:"engine,omitempty"`
}

// Action is what happens to a resource.
type Action string

// The actions. An action that this version does not know is kept as the
// engine's words joined by "+", so that it is never taken for nothing.
const (
	Create             Action = "create"
	Update             Action = "update"
	Delete             Action = "delete"
	Replace            Action = "replace"               // delete, then create
	ReplaceCreateFirst Action = "replace_create_before" // create, then delete
	ReplaceForget      Action = "replace_forget"        // forget, and create a new one
	Forget             Action = "forget"                // leaves the state, stays in the cloud
	Move               Action = "move"                  // a new address and nothing else
	Import             Action = "import"                // enters the state and nothing else
)

// Change is what a plan does to one resource instance.
type Change struct {
	Address  string `json:"address"`            // after moves, with the deposed key where there is one
	Previous string `json:"previous,omitempty"` // the address before a move
	Mode     string `json:"mode"`               // "managed" or "data"
	Type     string `json:"type"`
	Provider string `json:"provider"`
	Action   Action `json:"action"`
	// Words are the engine's words, where Action alone does not tell them:
	// both orders of ReplaceForget, and actions of a later engine.
	Words  []string `json:"words,omitempty"`
	Reason string   `json:"reason,omitempty"` // the engine's action_reason
	Import string   `json:"import,omitempty"` // the imported id, as people see it
	// Importing is what is imported, in canonical JSON: an id, an identity, or
	// that it is unknown. An id alone, which Import has, is left out.
	Importing json.RawMessage `json:"importing,omitempty"`
	// Before and After are the values in canonical JSON (sorted keys);
	// "null" where there is none.
	Before json.RawMessage `json:"before,omitempty"`
	After  json.RawMessage `json:"after,omitempty"`
	// IdentityBefore and IdentityAfter are what the provider finds the
	// resource by, in canonical JSON; absent where there is none.
	IdentityBefore json.RawMessage `json:"identity_before,omitempty"`
	IdentityAfter  json.RawMessage `json:"identity_after,omitempty"`
	// Unknown marks what is known only after the apply, SensitiveBefore and
	// SensitiveAfter what must not be shown: true, or a tree of the value's
	// shape.
	Unknown         json.RawMessage `json:"unknown,omitempty"`
	SensitiveBefore json.RawMessage `json:"sensitive_before,omitempty"`
	SensitiveAfter  json.RawMessage `json:"sensitive_after,omitempty"`
	// MarkedBefore and MarkedAfter are the marks of sensitivity that the
	// engine itself made. They are a part of the change, since the engine
	// keeps them in the state. What Holdfast marks besides is not: it depends
	// on what else is in the plan.
	MarkedBefore json.RawMessage `json:"marked_before,omitempty"`
	MarkedAfter  json.RawMessage `json:"marked_after,omitempty"`
	// Replace are the paths that force a replacement, in canonical JSON.
	Replace []json.RawMessage `json:"replace,omitempty"`
}

// Output is a change of an output value.
type Output struct {
	Name   string          `json:"name"`
	Action Action          `json:"action"` // Create, Update or Delete
	Words  []string        `json:"words,omitempty"`
	Before json.RawMessage `json:"before,omitempty"`
	After  json.RawMessage `json:"after,omitempty"`
	// Unknown is set where any of the value is known only after the apply, and
	// Unknowns is the tree of what is, where it is not the whole.
	Unknown   bool            `json:"unknown,omitempty"`
	Unknowns  json.RawMessage `json:"unknowns,omitempty"`
	Sensitive bool            `json:"sensitive,omitempty"`
	// MarkedBefore and MarkedAfter are the engine's own marks, as Change has
	// them.
	MarkedBefore json.RawMessage `json:"marked_before,omitempty"`
	MarkedAfter  json.RawMessage `json:"marked_after,omitempty"`
}

// Invocation is one run of a provider's action.
type Invocation struct {
	Address  string `json:"address"`
	Type     string `json:"type"`
	Provider string `json:"provider"`
	// Trigger is the resource that triggers it and Event when ("AfterCreate");
	// both empty where the action was asked for by itself. Block and Index are
	// its place among the trigger's actions, which run in this order.
	Trigger string `json:"trigger,omitempty"`
	Event   string `json:"event,omitempty"`
	Block   int    `json:"block,omitempty"`
	Index   int    `json:"index,omitempty"`
	// Config is the action's configuration, sensitive values in it. Unknown
	// marks what of it is known only while applying, Marked what the engine
	// marks as sensitive.
	Config  json.RawMessage `json:"config,omitempty"`
	Unknown json.RawMessage `json:"unknown,omitempty"`
	Marked  json.RawMessage `json:"marked,omitempty"`
}

// Summary counts a plan's changes. A resource that is moved or imported and
// also changed counts in both.
type Summary struct {
	Add     int `json:"add"`
	Change  int `json:"change"`
	Replace int `json:"replace"`
	Destroy int `json:"destroy"`
	Forget  int `json:"forget"`
	Import  int `json:"import"`
	Move    int `json:"move"`
	Outputs int `json:"outputs"`
}

// Verdict is the result of a comparison.
type Verdict string

// The verdicts.
const (
	Identical Verdict = "identical" // the same change
	Narrower  Verdict = "narrower"  // a subset of the reviewed change is left to do
	Changed   Verdict = "changed"   // something that was not reviewed
)

// Comparison is how a plan differs from the one that was reviewed.
type Comparison struct {
	Verdict     Verdict      `json:"verdict"`
	Differences []Difference `json:"differences,omitempty"`
	// More counts the differences beyond MaxDifferences.
	More int `json:"more,omitempty"`
	// SameResources is set where both plans do the same actions to the same
	// resources, whatever the values: those of one address, type and provider,
	// that come from one address or import.
	SameResources bool `json:"same_resources"`
}

// MaxDifferences bounds Comparison.Differences; a comparison is stored with
// its run and shown to people.
const MaxDifferences = 500

// Difference is one point in which two plans differ.
type Difference struct {
	Address string `json:"address"` // "output.NAME" for outputs
	// Attribute is the path ("tags.env", "ingress[0].port"); empty where the
	// whole change is on one side only or the action differs.
	Attribute string `json:"attribute,omitempty"`
	Reviewed  string `json:"reviewed"` // as shown to people; sensitive values masked
	Now       string `json:"now"`
}

// Class is a kind of drift.
type Class string

// The classes. InSync is the empty one.
const (
	InSync          Class = ""
	CloudChange     Class = "cloud_change"     // a real resource differs from state or configuration
	UnappliedCommit Class = "unapplied_commit" // Git says something that was never applied
	ProviderNoise   Class = "provider_noise"   // computed or data-source churn without consequence
	OutputOnly      Class = "output_only"      // only output values differ
	CheckError      Class = "error"            // the check itself failed
)

// DriftReport is what a drift check found.
type DriftReport struct {
	Class Class `json:"class"`
	// Resources are the addresses concerned, with the attributes that differ.
	Resources []DriftedResource `json:"resources,omitempty"`
	// More counts the resources beyond those; see First.
	More int `json:"more,omitempty"`
	// Ignored is what rules cover; see Without.
	Ignored []IgnoredDrift `json:"ignored,omitempty"`
	// Unexplained are the addresses whose change would do more than put back
	// what the refresh found changed there: a data source or a function has
	// another value, the state was changed by hand, or the resource would follow
	// another one's drift.
	Unexplained []string `json:"unexplained,omitempty"`
	// Checks are the checks of the configuration that fail.
	Checks []FailedCheck `json:"checks,omitempty"`
	// Reason says why the class is CheckError, where the engine did not fail.
	Reason string `json:"reason,omitempty"`
}

// DriftedResource is a resource that is not as it should be.
type DriftedResource struct {
	Address    string   `json:"address"`
	Change     string   `json:"change"` // "changed", "deleted" or "created" in the cloud
	Attributes []string `json:"attributes,omitempty"`
	// Values are the attributes' values, the first of them; sensitive ones
	// masked.
	Values []DriftedValue `json:"values,omitempty"`
	// Action is what the plan does to put it right; empty where it does nothing.
	Action   Action `json:"action,omitempty"`
	Type     string `json:"type,omitempty"`
	Provider string `json:"provider,omitempty"`
	// ID is the cloud's own id, and Names are others that it may go by there.
	ID    string   `json:"id,omitempty"`
	Names []string `json:"names,omitempty"`

	// Canonical is what Digest covers, secrets included: it is never stored.
	Canonical []byte `json:"-"`
}

// DriftedValue is one attribute in the cloud and in Git, as people see it.
type DriftedValue struct {
	Attribute string `json:"attribute"`
	Cloud     string `json:"cloud"`
	Git       string `json:"git"`
}

// IgnoredDrift is drift that a rule covers.
type IgnoredDrift struct {
	Address    string   `json:"address"`
	Attributes []string `json:"attributes,omitempty"`
	Reason     string   `json:"reason"`
}

// FailedCheck is a check block, a condition or a validation that does not hold.
type FailedCheck struct {
	Address string `json:"address"`
	Message string `json:"message,omitempty"`
}
