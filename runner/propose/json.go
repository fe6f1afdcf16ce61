package propose

import (
	"bytes"
	"encoding/json"
	"slices"
	"strings"
)

// prettyJSON writes a JSON document like another one that it replaces: on
// lines, with the keys in that one's order. Providers return it on one line.
func prettyJSON(old, now string) (string, bool) {
	if _, ok := decodeJSON(old); !ok {
		return "", false
	}
	v, ok := decodeJSON(now)
	if !ok {
		return "", false
	}
	w := jsonWriter{order: map[string][]string{}, unit: "  "}
	dec := json.NewDecoder(strings.NewReader(old))
	dec.UseNumber()
	w.learn(dec, "")
	for line := range strings.Lines(old) {
		if n := len(line) - len(strings.TrimLeft(line, " \t")); n > 0 {
			w.unit = line[:n]
			break
		}
	}
	w.write(v, "", "")
	return w.out.String() + "\n", true
}

type jsonWriter struct {
	order map[string][]string // the keys of the objects at a path
	unit  string
	out   strings.Builder
}

// learn reads one value, and notes its keys.
func (w *jsonWriter) learn(dec *json.Decoder, path string) {
	t, err := dec.Token()
	delim, isDelim := t.(json.Delim)
	if err != nil || !isDelim {
		return
	}
	for dec.More() {
		sub := path + "[]"
		if delim == '{' {
			t, err := dec.Token()
			key, ok := t.(string)
			if err != nil || !ok {
				return
			}
			if !slices.Contains(w.order[path], key) {
				w.order[path] = append(w.order[path], key)
			}
			sub = path + "." + key
		}
		w.learn(dec, sub)
	}
	_, _ = dec.Token() // the closing one; the document was decoded before
}

func (w *jsonWriter) write(v any, path, indent string) {
	in := indent + w.unit
	switch v := v.(type) {
	case map[string]any:
		keys := unionKeys(v, nil)
		slices.SortStableFunc(keys, func(a, b string) int { return w.rank(path, a) - w.rank(path, b) })
		for i, k := range keys {
			w.out.WriteString(separator("{", i) + in)
			w.scalar(k)
			w.out.WriteString(": ")
			w.write(v[k], path+"."+k, in)
		}
		w.end("{", "}", len(v), indent)
	case []any:
		if line, ok := oneLineJSON(v); ok {
			w.out.WriteString(line)
			return
		}
		for i, e := range v {
			w.out.WriteString(separator("[", i) + in)
			w.write(e, path+"[]", in)
		}
		w.end("[", "]", len(v), indent)
	default:
		w.scalar(v)
	}
}

func separator(open string, i int) string {
	if i == 0 {
		return open + "\n"
	}
	return ",\n"
}

func (w *jsonWriter) end(open, shut string, n int, indent string) {
	if n == 0 {
		w.out.WriteString(open + shut)
		return
	}
	w.out.WriteString("\n" + indent + shut)
}

// rank is a key's place in the old document; new ones come last.
func (w *jsonWriter) rank(path, key string) int {
	if i := slices.Index(w.order[path], key); i >= 0 {
		return i
	}
	return len(w.order[path])
}

func (w *jsonWriter) scalar(v any) { w.out.WriteString(scalarJSON(v)) }

func scalarJSON(v any) string {
	var b bytes.Buffer
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(false)
	if enc.Encode(v) != nil {
		return "null" // a decoded scalar can be encoded
	}
	return strings.TrimSuffix(b.String(), "\n")
}

// oneLineJSON writes a short list of scalars.
func oneLineJSON(v []any) (string, bool) {
	parts := make([]string, len(v))
	for i, e := range v {
		if isComposite(e) {
			return "", false
		}
		parts[i] = scalarJSON(e)
	}
	line := "[" + strings.Join(parts, ", ") + "]"
	return line, len(line) <= wide
}
