package plan

import (
	"bytes"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"slices"
)

// record is what of a change the digest covers, in canonical JSON: what the
// apply does and what it puts into the state, the engine's marks of
// sensitivity included. It leaves out the engine's reason, which its format
// describes as for display only, and what Holdfast itself marks as sensitive,
// which depends on the rest of the plan.
func (c Change) record() []byte {
	replace := make([]json.RawMessage, len(c.Replace))
	for i, path := range c.Replace {
		replace[i] = encode(decode(path))
	}
	slices.SortFunc(replace, func(a, b json.RawMessage) int { return bytes.Compare(a, b) })
	return encode([]any{
		"change", c.Address, c.Previous, c.Mode, c.Type, c.Provider, c.Action, c.Words, c.Import, canonical(c.Importing),
		canonical(c.Before), canonical(c.After), canonical(c.IdentityBefore), canonical(c.IdentityAfter), replace,
		marks(decode(c.Unknown)), marks(decodeMarks(c.MarkedBefore)), marks(decodeMarks(c.MarkedAfter)),
	})
}

func (o Output) record() []byte {
	return encode([]any{
		"output", o.Name, o.Action, o.Words, canonical(o.Before), canonical(o.After), o.Unknown, marks(decode(o.Unknowns)),
		marks(decodeMarks(o.MarkedBefore)), marks(decodeMarks(o.MarkedAfter)),
	})
}

func (i Invocation) record() []byte {
	return encode([]any{
		"invocation", i.Address, i.Type, i.Provider, i.Trigger, i.Event, i.Block, i.Index,
		canonical(i.Config), marks(decode(i.Unknown)), marks(decodeMarks(i.Marked)),
	})
}

// Digest returns a hash of what the plan changes, in hex: HMAC-SHA-256 under
// key, so that it reveals nothing of the values in it, sensitive ones
// included. Two plans with one digest make the same change.
//
// It covers address, previous address, type, mode, provider, actions, import,
// identity, values, what is unknown or marked as sensitive by the engine and
// the replace paths of each resource change; action, value, unknown and marks
// of each output; each invocation, with its place among those of its trigger;
// and whether planning failed half way. Two spellings of a number are one
// value; an absent value is null, but a key with null is not an absent key.
//
// The order of the engine's JSON has no part in it, nor have its versions,
// what is there for people (action_reason, generated_config), drift, pure
// reads, and what the engine deferred: none of that is applied. A nil plan has
// the digest of an empty one.
func (p *Plan) Digest(key []byte) string {
	if p == nil {
		p = &Plan{}
	}
	// Sorted hashes instead of records: no order has a part, and of a large
	// plan only one record is in memory at a time.
	sums := make([][sha256.Size]byte, 0, len(p.Changes)+len(p.Outputs)+len(p.Invocations))
	for _, c := range p.Changes {
		sums = append(sums, sha256.Sum256(c.record()))
	}
	for _, o := range p.Outputs {
		sums = append(sums, sha256.Sum256(o.record()))
	}
	for _, i := range p.Invocations {
		sums = append(sums, sha256.Sum256(i.record()))
	}
	slices.SortFunc(sums, func(a, b [sha256.Size]byte) int { return bytes.Compare(a[:], b[:]) })
	mac := hmac.New(sha256.New, key)
	// The version changes when what the digest covers does, so that digests
	// of two versions of Holdfast are never mistaken for one another.
	mac.Write(encode([]any{"holdfast-plan-2", p.Errored, len(sums)}))
	for _, sum := range sums {
		mac.Write(sum[:])
	}
	return hex.EncodeToString(mac.Sum(nil))
}

// canonical writes JSON again in its canonical form, which a plan that was
// stored or made by hand may not have; absent is null.
func canonical(raw json.RawMessage) json.RawMessage { return encode(decode(raw)) }
