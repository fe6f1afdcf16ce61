package plan

import (
	"bytes"
	"slices"
)

// delta is an attribute that a change gives another value.
type delta struct {
	steps         Path
	path          string
	before, after any
}

// changed returns the paths of deltas, sorted.
func (c Change) changed() []string {
	deltas := c.deltas()
	paths := make([]string, len(deltas))
	for i, d := range deltas {
		paths[i] = d.path
	}
	slices.Sort(paths)
	return paths
}

// deltas returns the deepest paths that the change gives another value that is
// known. What is only known after the apply follows from the rest.
func (c Change) deltas() []delta {
	before, after := c.Values()
	var out []delta
	changedPaths(nil, before, after, &out)
	for _, raw := range c.Replace {
		steps := ParsePath(raw)
		if path := steps.String(); !bytes.Equal(raw, []byte("null")) && path != "" {
			if !slices.ContainsFunc(out, func(d delta) bool { return within(d.path, path) }) {
				out = append(out, delta{steps, path, nil, Unknown{}})
			}
		}
	}
	return out
}

func changedPaths(path Path, before, after any, out *[]delta) {
	if _, unknown := after.(Unknown); unknown || equal(before, after) {
		return
	}
	if b, ok := before.(map[string]any); ok {
		if a, ok := after.(map[string]any); ok {
			keys := map[string]bool{}
			for k := range b {
				keys[k] = true
			}
			for k := range a {
				keys[k] = true
			}
			for k := range keys {
				changedPaths(path.with(k), b[k], a[k], out)
			}
			return
		}
	}
	if b, ok := before.([]any); ok {
		if a, ok := after.([]any); ok && len(a) == len(b) {
			for i := range a {
				changedPaths(path.with(i), b[i], a[i], out)
			}
			return
		}
	}
	if len(path) > 0 {
		*out = append(*out, delta{path, path.String(), before, after})
	}
}
