package plan

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
)

// record is what of a change the digest covers: what the apply will do, and
// nothing that is there for people (reasons, marks of sensitivity).
type record struct {
	Address  string            `json:"address"`
	Previous string            `json:"previous"`
	Mode     string            `json:"mode"`
	Type     string            `json:"type"`
	Provider string            `json:"provider"`
	Action   Action            `json:"action"`
	Import   string            `json:"import"`
	Before   json.RawMessage   `json:"before"`
	After    json.RawMessage   `json:"after"`
	Unknown  json.RawMessage   `json:"unknown"`
	Replace  []json.RawMessage `json:"replace"`
}

func (c Change) record() record {
	r := record{
		Address: c.Address, Previous: c.Previous, Mode: c.Mode, Type: c.Type, Provider: c.Provider,
		Action: c.Action, Import: c.Import,
		Before: encode(decode(c.Before)), After: encode(decode(c.After)), Unknown: marks(decode(c.Unknown)),
	}
	for _, path := range c.Replace {
		r.Replace = append(r.Replace, encode(decode(path)))
	}
	return r
}

func (o Output) record() Output {
	// Whether it is sensitive is recorded in the state: it is a change.
	o.Before, o.After = encode(decode(o.Before)), encode(decode(o.After))
	return o
}

func (i Invocation) record() Invocation {
	i.Config = encode(decode(i.Config))
	return i
}

// Digest returns a hash of what the plan changes, in hex: HMAC-SHA-256 under
// key, so that it reveals nothing of the values in it, sensitive ones
// included. Two plans with one digest make the same change. The order of the
// engine's JSON, its format version and what is there for people have no part
// in it. A nil plan has the digest of an empty one.
func (p *Plan) Digest(key []byte) string {
	if p == nil {
		p = &Plan{}
	}
	mac := hmac.New(sha256.New, key)
	// The version changes when what the digest covers does, so that digests
	// of two versions of Holdfast are never mistaken for one another.
	enc := json.NewEncoder(mac)
	put := func(v any) {
		if err := enc.Encode(v); err != nil {
			panic("encode a normalised plan: " + err.Error()) // cannot happen: see encode
		}
	}
	put([]any{"holdfast-plan-1", p.Errored, len(p.Changes), len(p.Outputs), len(p.Invocations)})
	for _, c := range p.Changes {
		put(c.record())
	}
	for _, o := range p.Outputs {
		put(o.record())
	}
	for _, i := range p.Invocations {
		put(i.record())
	}
	return hex.EncodeToString(mac.Sum(nil))
}
