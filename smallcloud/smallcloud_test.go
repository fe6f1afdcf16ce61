package smallcloud

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

func open(t testing.TB, o Options) *Cloud {
	t.Helper()
	c, err := New(o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return c
}

// call sends one request without a network.
func call(c *Cloud, method, target, body string) *httptest.ResponseRecorder {
	w := httptest.NewRecorder()
	c.ServeHTTP(w, httptest.NewRequest(method, target, strings.NewReader(body)))
	return w
}

func create(t testing.TB, c *Cloud, body string) Resource {
	t.Helper()
	w := call(c, "POST", "/api/resources", body)
	var r Resource
	if err := json.Unmarshal(w.Body.Bytes(), &r); err != nil || w.Code != http.StatusCreated {
		t.Fatalf("create: %d %s (%v)", w.Code, w.Body, err)
	}
	return r
}

func TestAPI(t *testing.T) {
	c := open(t, Options{})
	first := create(t, c, `{"kind":"server","name":"web","attributes":{"size":"small","tags":{"env":"prod"},"none":null}}`)
	second := create(t, c, `{"kind":"server","name":"web","attributes":{}}`)
	if first.ID == second.ID || first.Address == second.Address {
		t.Errorf("a second creation gave the same resource: %+v", second)
	}
	if _, ok := first.Attributes["none"]; ok {
		t.Error("null was kept")
	}
	w := call(c, "PUT", "/api/resources/"+first.ID, `{"kind":"ignored","name":"web2","attributes":{"size":"large"}}`)
	var r Resource
	if err := json.Unmarshal(w.Body.Bytes(), &r); err != nil {
		t.Fatal(err)
	}
	if r.Name != "web2" || r.Kind != "server" || r.Attributes["size"] != "large" || r.Attributes["tags"] != nil || r.ETag == first.ETag {
		t.Errorf("updated to %+v", r)
	}
	w = call(c, "PATCH", "/api/resources/"+first.ID, `{"tags.env":"x","size":"tiny"}`)
	if w.Code != http.StatusOK || !strings.Contains(w.Body.String(), `"tags":{"env":"x"}`) {
		t.Errorf("patched: %d %s", w.Code, w.Body)
	}
	if w := call(c, "DELETE", "/api/resources/"+second.ID, ""); w.Code != http.StatusNoContent {
		t.Errorf("delete: %d", w.Code)
	}
	for _, method := range []string{"GET", "DELETE", "PUT", "PATCH"} {
		if w := call(c, method, "/api/resources/"+second.ID, `{"name":"x"}`); w.Code != http.StatusNotFound {
			t.Errorf("%s of a deleted resource: %d %s", method, w.Code, w.Body)
		}
	}
	if w := call(c, "GET", "/api/resources?kind=server", ""); !strings.Contains(w.Body.String(), first.ID) {
		t.Errorf("list: %s", w.Body)
	}
	if w := call(c, "GET", "/api/resources?kind=network", ""); strings.TrimSpace(w.Body.String()) != "[]" {
		t.Errorf("list of another kind: %s", w.Body)
	}
	var hand int
	for _, e := range c.Journal() {
		if e.ByHand && e.Error == "" {
			hand++
		}
	}
	if hand != 2 {
		t.Errorf("%d changes by hand in the journal, want the 2 of PATCH", hand)
	}
}

func TestBadInput(t *testing.T) {
	c := open(t, Options{})
	id := create(t, c, `{"kind":"server","name":"web","attributes":{"size":"small"}}`).ID
	for name, tc := range map[string]struct {
		method, target, body string
		want                 int
	}{
		"no JSON":             {"POST", "/api/resources", "{", http.StatusBadRequest},
		"wrong type":          {"POST", "/api/resources", `{"name":3}`, http.StatusBadRequest},
		"no name":             {"POST", "/api/resources", `{"kind":"server"}`, http.StatusBadRequest},
		"control character":   {"POST", "/api/resources", `{"kind":"server","name":"a\u0000"}`, http.StatusBadRequest},
		"too large":           {"POST", "/api/resources", `{"name":"` + strings.Repeat("a", maxBody) + `"}`, http.StatusRequestEntityTooLarge},
		"delay":               {"POST", "/api/resources", `{"kind":"s","name":"a","attributes":{"delay":"soon"}}`, http.StatusBadRequest},
		"negative delay":      {"POST", "/api/resources", `{"kind":"s","name":"a","attributes":{"delay":"-1s"}}`, http.StatusBadRequest},
		"delay of a lifetime": {"POST", "/api/resources", `{"kind":"s","name":"a","attributes":{"delay":"1000h"}}`, http.StatusBadRequest},
		"refused creation":    {"POST", "/api/resources", `{"kind":"s","name":"a","attributes":{"fail":"create"}}`, http.StatusConflict},
		"refused update":      {"PUT", "/api/resources/" + id, `{"name":"a","attributes":{"fail":"update"}}`, http.StatusConflict},
		"no name on update":   {"PUT", "/api/resources/" + id, `{"attributes":{}}`, http.StatusBadRequest},
		"not a map":           {"PATCH", "/api/resources/" + id, `{"size.inner":"x"}`, http.StatusBadRequest},
		"empty attribute":     {"PATCH", "/api/resources/" + id, `{"":"x"}`, http.StatusBadRequest},
		"empty inner name":    {"PATCH", "/api/resources/" + id, `{"tags.":"x"}`, http.StatusBadRequest},
		"image's delay":       {"GET", "/api/images/x?delay=soon", "", http.StatusBadRequest},
		"unknown path":        {"GET", "/nothing", "", http.StatusNotFound},
	} {
		t.Run(name, func(t *testing.T) {
			if w := call(c, tc.method, tc.target, tc.body); w.Code != tc.want {
				t.Errorf("%d %s, want %d", w.Code, w.Body, tc.want)
			}
		})
	}
	if all := c.Resources(); len(all) != 1 || all[0].Attributes["size"] != "small" {
		t.Errorf("bad input changed the cloud: %+v", all)
	}
}

func TestFailOfReadAndDelete(t *testing.T) {
	c := open(t, Options{})
	r := create(t, c, `{"kind":"s","name":"a","attributes":{"fail":"read"}}`)
	d := create(t, c, `{"kind":"s","name":"b","attributes":{"fail":"delete"}}`)
	if w := call(c, "GET", "/api/resources/"+r.ID, ""); w.Code != http.StatusConflict {
		t.Errorf("read: %d", w.Code)
	}
	if w := call(c, "DELETE", "/api/resources/"+d.ID, ""); w.Code != http.StatusConflict {
		t.Errorf("delete: %d", w.Code)
	}
	if w := call(c, "DELETE", "/api/resources/"+d.ID+"?by=hand", ""); w.Code != http.StatusNoContent {
		t.Errorf("delete by hand: %d", w.Code)
	}
}

func TestCreationGoesOnWhenTheClientIsGone(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := open(t, Options{Delay: time.Second})
		ctx, cancel := context.WithTimeout(t.Context(), 2*time.Second)
		defer cancel()
		_, err := c.create(ctx, Spec{Kind: "server", Name: "a", Attributes: map[string]any{"delay": "3s"}})
		if !errors.Is(err, context.DeadlineExceeded) {
			t.Fatalf("create: %v", err)
		}
		if len(c.Resources()) != 0 {
			t.Fatal("made too early")
		}
		time.Sleep(time.Second)
		synctest.Wait()
		if got := c.Resources(); len(got) != 1 || got[0].Name != "a" {
			t.Fatalf("resources after the delay: %v", got)
		}
		start := time.Now()
		if _, err := c.create(t.Context(), Spec{Kind: "server", Name: "b"}); err != nil {
			t.Fatal(err)
		}
		if took := time.Since(start); took != time.Second {
			t.Errorf("creation without a delay of its own took %s", took)
		}
	})
}

func TestChurn(t *testing.T) {
	c := open(t, Options{})
	still := create(t, c, `{"kind":"s","name":"a"}`)
	churns := create(t, c, `{"kind":"s","name":"b","attributes":{"churn":"true"}}`)
	etag := func(id string) string {
		r, err := c.read(id)
		if err != nil {
			t.Fatal(err)
		}
		return r.ETag
	}
	for range 2 { // neither the first read nor a second one changes it
		if etag(still.ID) != still.ETag {
			t.Error("an etag changed by itself")
		}
	}
	if a, b := etag(churns.ID), etag(churns.ID); a == b || a == churns.ETag {
		t.Errorf("etags %s, %s, %s do not churn", churns.ETag, a, b)
	}
}

func TestFileKeepsTheCloud(t *testing.T) {
	file := filepath.Join(t.TempDir(), "cloud.jsonl")
	c := open(t, Options{File: file})
	kept := create(t, c, `{"kind":"server","name":"kept","attributes":{"tags":{"a":"b"}}}`)
	gone := create(t, c, `{"kind":"server","name":"gone"}`)
	if err := c.Set(kept.ID, "tags.a", "c"); err != nil {
		t.Fatal(err)
	}
	if err := c.Delete(gone.ID); err != nil {
		t.Fatal(err)
	}
	if err := c.Delete(gone.ID); !errors.Is(err, ErrNotFound) {
		t.Errorf("second deletion: %v", err)
	}
	before := len(c.Journal())
	c.Close()
	if err := c.Set(kept.ID, "size", "x"); !errors.Is(err, ErrClosed) {
		t.Errorf("a closed cloud changed: %v", err)
	}

	// As a killed process leaves it: the last line is cut off.
	f, err := os.OpenFile(file, os.O_APPEND|os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	f.WriteString(`{"op":"delete","id":"` + kept.ID)
	f.Close()

	c = open(t, Options{File: file})
	all := c.Resources()
	if len(all) != 1 || all[0].ID != kept.ID || all[0].Attributes["tags"].(map[string]any)["a"] != "c" {
		t.Errorf("after the restart: %+v", all)
	}
	if got := len(c.Journal()); got != before {
		t.Errorf("journal has %d entries, want %d", got, before)
	}
	create(t, c, `{"kind":"server","name":"later"}`)
	c.Close()
	if c = open(t, Options{File: file}); len(c.Resources()) != 2 {
		t.Errorf("after the second restart: %+v", c.Resources())
	}
}

func TestFileThatIsNotACloud(t *testing.T) {
	file := filepath.Join(t.TempDir(), "x")
	if err := os.WriteFile(file, []byte("{}\nnot JSON\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := New(Options{File: file}); err == nil || !strings.Contains(err.Error(), "line 2") || !strings.Contains(err.Error(), file) {
		t.Errorf("error %v names neither file nor line", err)
	}
}

func TestJournalIsBounded(t *testing.T) {
	c := open(t, Options{MaxJournal: 20})
	r := create(t, c, `{"kind":"s","name":"a"}`)
	for range 100 {
		if _, err := c.read(r.ID); err != nil {
			t.Fatal(err)
		}
	}
	if n := len(c.Journal()); n < 20 || n > 22 {
		t.Errorf("%d entries", n)
	}
}

func TestPage(t *testing.T) {
	c := open(t, Options{})
	if body := call(c, "GET", "/", "").Body.String(); !strings.Contains(body, "Nothing here yet") {
		t.Errorf("empty page:\n%s", body)
	}
	r := create(t, c, `{"kind":"server","name":"<script>alert(1)</script>","attributes":{"password":"swordfish","tags":{"env":"prod"}}}`)
	w := call(c, "GET", "/", "")
	body := w.Body.String()
	for _, want := range []string{"tags.env", `value="prod"`, r.ID, "&lt;script&gt;"} {
		if !strings.Contains(body, want) {
			t.Errorf("the page lacks %q", want)
		}
	}
	for _, bad := range []string{"<script", "swordfish"} {
		if strings.Contains(body, bad) {
			t.Errorf("the page shows %q", bad)
		}
	}
	if csp := w.Header().Get("Content-Security-Policy"); !strings.Contains(csp, "default-src 'none'") {
		t.Errorf("policy %q", csp)
	}
	if w := call(c, "GET", "/style.css", ""); w.Code != http.StatusOK || !strings.Contains(w.Body.String(), "color-scheme") {
		t.Errorf("style: %d", w.Code)
	}
}

func TestForms(t *testing.T) {
	c := open(t, Options{})
	r := create(t, c, `{"kind":"server","name":"web","attributes":{"size":"small"}}`)
	post := func(target string, header http.Header, form url.Values) int {
		req := httptest.NewRequest("POST", target, strings.NewReader(form.Encode()))
		req.Header = header.Clone()
		req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
		w := httptest.NewRecorder()
		c.ServeHTTP(w, req)
		return w.Code
	}
	own, foreign := http.Header{"Sec-Fetch-Site": {"same-origin"}}, http.Header{"Sec-Fetch-Site": {"cross-site"}}
	change := url.Values{"attribute": {"size"}, "value": {"large"}}
	target := "/resources/" + r.ID
	if code := post(target, foreign, change); code != http.StatusForbidden {
		t.Errorf("a foreign page's form: %d", code)
	}
	if code := post(target, http.Header{"Origin": {"http://evil.example"}}, change); code != http.StatusForbidden {
		t.Errorf("a foreign origin's form: %d", code)
	}
	if code := post(target+"/delete", foreign, nil); code != http.StatusForbidden {
		t.Errorf("a foreign page's deletion: %d", code)
	}
	if got := c.Resources()[0].Attributes["size"]; got != "small" {
		t.Fatalf("a foreign page changed the size to %v", got)
	}
	if code := post(target, own, change); code != http.StatusSeeOther {
		t.Errorf("own form: %d", code)
	}
	if got := c.Resources()[0].Attributes["size"]; got != "large" {
		t.Errorf("size is %v", got)
	}
	if code := post(target, own, url.Values{"attribute": {""}}); code != http.StatusBadRequest {
		t.Errorf("no attribute: %d", code)
	}
	if code := post(target+"/delete", own, nil); code != http.StatusSeeOther || len(c.Resources()) != 0 {
		t.Errorf("own deletion: %d", code)
	}
	if code := post(target+"/delete", own, nil); code != http.StatusNotFound {
		t.Errorf("second deletion: %d", code)
	}
}

func FuzzReplay(f *testing.F) {
	f.Add([]byte(`{"op":"create","id":"s-1","resource":{"id":"s-1","attributes":{"a":{"b":"c"}}}}` + "\n"))
	f.Add([]byte("{}\nnull\n[]\n"))
	f.Add([]byte(`{"op":"delete","id":"s-1"}` + "\n{"))
	f.Fuzz(func(t *testing.T, data []byte) {
		c := open(t, Options{})
		good, err := c.replay(strings.NewReader(string(data)))
		if err == nil && (good < 0 || good > int64(len(data))) {
			t.Errorf("understood %d of %d bytes", good, len(data))
		}
		if w := call(c, "GET", "/", ""); w.Code != http.StatusOK {
			t.Errorf("page: %d", w.Code)
		}
	})
}
