package plan

import (
	"encoding/json"
	"fmt"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// FuzzCompareTellsSubsets holds that a verdict is right, by what the plans'
// entries are one by one.
func FuzzCompareTellsSubsets(f *testing.F) {
	for i, seed := range seeds(200) {
		f.Add(seed, uint64(i))
	}
	f.Fuzz(func(t *testing.T, data []byte, choices uint64) {
		doc := genDocument(newChooser(data))
		c := newStyle(data, choices)
		other := doc
		for range c.n(3) {
			other = oneMutation(c, other)
		}
		if c.oneIn(2) {
			other = fewer(c, other)
		}
		other = cosmetic(c, other)
		reviewed, now := mustParse(t, write(nil, doc)), mustParse(t, write(c, other))
		left, added := entries(t, doc), 0
		for e, n := range entries(t, other) {
			left[e] -= n
		}
		remain := 0
		for _, n := range left {
			remain += max(n, 0)
			added += max(-n, 0)
		}
		want := Changed
		switch {
		case doc["errored"] == true || other["errored"] == true || added > 0:
		case remain > 0:
			want = Narrower
		default:
			want = Identical
		}
		if got := Compare(reviewed, now); got.Verdict != want {
			t.Fatalf("got %s, want %s: %+v\n%s\n%s", got.Verdict, want, got.Differences, write(nil, doc), write(nil, other))
		}
		agree(t, reviewed, now)
	})
}

// entries counts the digests of the document's changes, each by itself.
func entries(t *testing.T, doc object) map[string]int {
	t.Helper()
	none := object{"format_version": "1.2", "resource_changes": []any{}}
	out := map[string]int{}
	count := func(doc object) {
		if p := mustParse(t, write(nil, doc)); !p.Empty() {
			out[p.Digest(testKey)]++
		}
	}
	for _, field := range []string{"resource_changes", "action_invocations"} {
		for _, e := range doc[field].([]any) {
			count(with(none, field, []any{e}))
		}
	}
	for name, o := range doc["output_changes"].(object) {
		count(with(none, "output_changes", object{name: o}))
	}
	return out
}

func oneMutation(c *chooser, doc object) object {
	all := slices.Collect(mutations(doc))
	return all[(c.n(256)<<8|c.n(256))%len(all)].doc
}

// fewer leaves some of the document's entries out.
func fewer(c *chooser, doc object) object {
	doc = with(doc, "output_changes", doc["output_changes"])
	for _, field := range []string{"resource_changes", "action_invocations"} {
		kept := []any{}
		for _, e := range doc[field].([]any) {
			if !c.oneIn(3) {
				kept = append(kept, e)
			}
		}
		doc[field] = kept
	}
	outputs := object{}
	for _, name := range sortedKeys(doc["output_changes"].(object)) {
		if !c.oneIn(3) {
			outputs[name] = doc["output_changes"].(object)[name]
		}
	}
	doc["output_changes"] = outputs
	return doc
}

// FuzzComparePlans compares whatever two documents can be read.
func FuzzComparePlans(f *testing.F) {
	var docs [][]byte
	for _, tc := range realCases {
		data, err := os.ReadFile("testdata/" + tc.name + ".json")
		if err != nil {
			f.Fatal(err)
		}
		docs = append(docs, data)
	}
	for _, seed := range seeds(12) {
		doc := genDocument(newChooser(seed))
		docs = append(docs, write(nil, doc))
		f.Add(write(nil, doc), write(nil, oneMutation(newChooser(seed), doc)))
	}
	for i := range docs {
		f.Add(docs[i], docs[(i+1)%len(docs)])
	}
	f.Fuzz(func(t *testing.T, a, b []byte) {
		p, err := Parse(a)
		if err != nil {
			return
		}
		q, err := Parse(b)
		if err != nil {
			return
		}
		agree(t, p, q)
		agree(t, q, p)
		there, back := Compare(p, q), Compare(q, p)
		if (there.Verdict == Identical) != (back.Verdict == Identical) || there.Verdict == Narrower && back.Verdict != Changed {
			t.Fatalf("there %+v\nback %+v", there, back)
		}
		if there.SameResources != back.SameResources || len(there.Differences) > MaxDifferences {
			t.Fatalf("there %+v\nback %+v", there, back)
		}
	})
}

// FuzzCompareShowsNoSecret puts secrets into a plan and holds that no
// comparison with it shows one, whatever became of them and of their marks in
// the other plan.
func FuzzCompareShowsNoSecret(f *testing.F) {
	for i, seed := range seeds(400) {
		f.Add(seed, uint64(i))
	}
	f.Fuzz(func(t *testing.T, data []byte, choices uint64) {
		c := newStyle(data, choices)
		p := &planter{c: c}
		doc := p.plant(with(genDocument(newChooser(data)), "errored", false))
		if len(p.spots) == 0 {
			return
		}
		other := p.disturb(doc)
		a, b := mustParse(t, write(nil, doc)), mustParse(t, write(nil, other))
		for _, cmp := range []Comparison{Compare(a, b), Compare(b, a), Compare(stored(t, a), b), Compare(nil, a), Compare(a, nil)} {
			raw, err := json.Marshal(cmp)
			if err != nil {
				t.Fatal(err)
			}
			if leaked := p.pattern().Find(raw); leaked != nil {
				t.Fatalf("%s is in %s\n%s\n%s", leaked, raw, write(nil, doc), write(nil, other))
			}
		}
	})
}

func stored(t *testing.T, p *Plan) *Plan {
	t.Helper()
	data, err := json.Marshal(p)
	if err != nil {
		t.Fatal(err)
	}
	back := &Plan{}
	if err := json.Unmarshal(data, back); err != nil {
		t.Fatal(err)
	}
	return back
}

// planter puts secrets into a document.
type planter struct {
	c     *chooser
	spots []spot
	texts []string // the secrets that are texts
	count int
}

// spot is where a secret is: in a field of a change of one resource or output.
type spot struct {
	resource int    // in resource_changes, or -1
	output   string // in output_changes
	field    string // "before" or "after"
	path     Path   // of the value that is marked
	unknown  bool   // marked, and not known yet
}

// secret returns a text, a number or a tree with some, none there by chance.
func (p *planter) secret(depth int) any {
	p.count++
	text := fmt.Sprintf("Zq7k%05dZq", p.count)
	switch k := p.c.n(6); {
	case k == 0:
		return num(fmt.Sprintf("7391%05d", p.count))
	case k == 1:
		text = "<\"&" + text + "\u2028"
	case k == 2 && depth > 0:
		return []any{p.secret(depth - 1), "a", p.secret(depth - 1)}
	case k == 3 && depth > 0:
		return object{"pw": p.secret(depth - 1), text: num("1")}
	}
	p.texts = append(p.texts, text)
	return text
}

func (p *planter) pattern() *regexp.Regexp { return regexp.MustCompile(`Zq7k\d{5}Zq|\b7391\d{5}\b`) }

func (p *planter) plant(doc object) object {
	doc = with(doc, "resource_changes", slices.Clone(doc["resource_changes"].([]any)))
	for i, e := range doc["resource_changes"].([]any) {
		rc := e.(object)
		if !counted(rc) || p.c.oneIn(4) {
			continue
		}
		ch := rc["change"].(object)
		for _, field := range []string{"before", "after"} {
			if _, ok := ch[field].(object); !ok || p.c.oneIn(3) {
				continue
			}
			s := spot{resource: i, field: field, unknown: field == "after" && p.c.oneIn(4)}
			ch, s.path = p.hide(ch, s)
			p.spots = append(p.spots, s)
		}
		doc["resource_changes"].([]any)[i] = with(rc, "change", ch)
	}
	outputs := object{}
	for _, name := range sortedKeys(doc["output_changes"].(object)) {
		o := doc["output_changes"].(object)[name].(object)
		if outputCounted(o) && p.c.oneIn(2) {
			o = with(with(with(o, "after", p.secret(2)), "before_sensitive", true), "after_sensitive", true)
			p.spots = append(p.spots, spot{resource: -1, output: name, field: "after"})
		}
		outputs[name] = o
	}
	return with(doc, "output_changes", outputs)
}

// hide puts a secret at a random place of the field and marks it. Keys of what
// is marked as a whole are secret too.
func (p *planter) hide(ch object, s spot) (object, Path) {
	path := Path{"secret"}
	v := ch[s.field].(object)
	for m := v; len(m) > 0 && p.c.oneIn(2); {
		k := pick(p.c, sortedKeys(m))
		child, ok := m[k].(object)
		if !ok {
			path = append(path[:len(path)-1], k)
			break
		}
		path = append(path[:len(path)-1], k, "secret")
		m = child
	}
	sensitive := put(ch[s.field+"_sensitive"], path, true)
	if s.unknown {
		ch = with(ch, "after_unknown", put(ch["after_unknown"], path, true))
	} else {
		ch = with(ch, s.field, put(v, path, p.secret(2)))
		if s.field == "after" {
			ch = with(ch, "after_unknown", put(ch["after_unknown"], path, false))
		}
	}
	return with(ch, s.field+"_sensitive", sensitive), path
}

// put returns a copy of a tree of objects with a value at the path; a true on
// the way, a mark of the whole, stays.
func put(v any, path Path, leaf any) any {
	if len(path) == 0 || v == true && leaf == true {
		return leaf
	}
	m, _ := v.(object)
	k := path[0].(string)
	return with(m, k, put(m[k], path[1:], leaf))
}

// disturb makes another plan of it: marks get lost, values become known, move,
// and are copied.
func (p *planter) disturb(doc object) object {
	s := pick(p.c, p.spots)
	if s.unknown { // a value that nobody has seen is only known by its place
		return p.edit(doc, s, func(ch object) object {
			ch = with(ch, "after_unknown", put(ch["after_unknown"], s.path, false))
			ch = with(ch, "after", put(ch["after"], s.path, p.secret(2)))
			return with(ch, "after_sensitive", pick(p.c, []any{false, object{}, ch["after_sensitive"], true}))
		})
	}
	for range p.c.n(4) {
		s = pick(p.c, p.spots)
		switch p.c.n(5) {
		case 0: // marks are lost, at their place
			doc = p.edit(doc, s, func(ch object) object { return with(with(ch, "before_sensitive", false), "after_sensitive", object{}) })
		case 1: // and the value is another one
			doc = p.edit(doc, s, func(ch object) object {
				return with(ch, s.field+"_sensitive", put(ch[s.field+"_sensitive"], s.path, false))
			})
		case 2: // a copy without a mark
			doc = p.copied(doc)
		default:
			if next := oneMutation(p.c, doc); !p.keysMoved(next) {
				doc = next
			}
		}
	}
	return doc
}

// keysMoved reports whether a secret key stands where its map is not marked
// in the original: keys are only known by their place.
func (p *planter) keysMoved(doc object) bool {
	return regexp.MustCompile(`"Zq7k\d{5}Zqx?":`).Match(write(nil, doc))
}

func (p *planter) edit(doc object, s spot, f func(object) object) object {
	if s.resource < 0 {
		outputs := doc["output_changes"].(object)
		if o, ok := outputs[s.output].(object); ok {
			return with(doc, "output_changes", with(outputs, s.output, f(o)))
		}
		return doc
	}
	entries := slices.Clone(doc["resource_changes"].([]any))
	if s.resource >= len(entries) {
		return doc
	}
	rc := entries[s.resource].(object)
	if ch := rc["change"].(object); isObject(ch["before"]) && isObject(ch["after"]) {
		entries[s.resource] = with(rc, "change", f(ch))
	}
	return with(doc, "resource_changes", entries)
}

func isObject(v any) bool {
	_, ok := v.(object)
	return ok || v == nil
}

// copied puts a secret text somewhere else too, without a mark.
func (p *planter) copied(doc object) object {
	if len(p.texts) == 0 {
		return doc
	}
	text := pick(p.c, p.texts)
	copies := []any{text, "https://u:" + text + "@h/", []any{text}, object{"k-" + text: "a"}, strings.Repeat("a", 195) + text}
	return p.edit(doc, pick(p.c, p.spots), func(ch object) object {
		switch p.c.n(4) {
		case 0:
			return with(ch, "importing", object{"id": text})
		case 1:
			return with(ch, "before_identity", object{"id": text})
		case 2:
			return with(ch, "before", put(ch["before"], Path{"copy"}, pick(p.c, copies)))
		}
		return with(ch, "after", put(ch["after"], Path{"copy"}, pick(p.c, copies)))
	})
}
