package smallcloud

import (
	"bytes"
	_ "embed"
	"html/template"
	"maps"
	"net/http"
	"net/url"
	"slices"
	"strings"
)

//go:embed assets/page.html
var pageSource string

//go:embed assets/style.css
var style []byte

// parsePage cannot fail but by a mistake in the program.
func parsePage() *template.Template {
	return template.Must(template.New("page").Parse(pageSource))
}

type pageData struct {
	Message   string
	Resources []pageResource
	Journal   []Entry
}

type pageResource struct {
	Resource
	Values []pageValue
}

type pageValue struct {
	Name, Value string
	Secret      bool
}

// pageJournal is how many of the latest changes the page lists.
const pageJournal = 15

func (c *Cloud) page(w http.ResponseWriter, r *http.Request) {
	data := pageData{Message: r.URL.Query().Get("message")}
	for _, resource := range c.Resources() {
		data.Resources = append(data.Resources, pageResource{Resource: resource, Values: values(resource)})
	}
	journal := c.Journal()
	for _, e := range slices.Backward(journal) {
		if e.Op != OpRead && len(data.Journal) < pageJournal {
			data.Journal = append(data.Journal, e)
		}
	}
	var b bytes.Buffer
	if err := c.template.Execute(&b, data); err != nil {
		http.Error(w, "render page: "+err.Error(), http.StatusInternalServerError)
		return
	}
	h := w.Header()
	h.Set("Content-Type", "text/html; charset=utf-8")
	h.Set("Cache-Control", "no-store")
	h.Set("Content-Security-Policy", "default-src 'none'; style-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'")
	h.Set("X-Content-Type-Options", "nosniff")
	w.Write(b.Bytes())
}

// values flattens a resource's attributes for editing, sorted by name.
func values(r Resource) []pageValue {
	out := []pageValue{{Name: "name", Value: r.Name}}
	for _, name := range slices.Sorted(maps.Keys(r.Attributes)) {
		inner, ok := r.Attributes[name].(map[string]any)
		if !ok {
			out = append(out, pageValue{Name: name, Value: shown(r.Attributes[name]), Secret: name == "password"})
			continue
		}
		for _, key := range slices.Sorted(maps.Keys(inner)) {
			out = append(out, pageValue{Name: name + "." + key, Value: shown(inner[key])})
		}
	}
	return out
}

func (c *Cloud) pageChange(w http.ResponseWriter, r *http.Request) {
	r.Body = http.MaxBytesReader(w, r.Body, maxBody)
	attribute := strings.TrimSpace(r.PostFormValue("attribute"))
	err := c.Set(r.PathValue("id"), attribute, r.PostFormValue("value"))
	c.back(w, r, "Changed "+attribute+" of "+r.PathValue("id")+".", err)
}

func (c *Cloud) pageDelete(w http.ResponseWriter, r *http.Request) {
	err := c.Delete(r.PathValue("id"))
	c.back(w, r, "Deleted "+r.PathValue("id")+".", err)
}

// back returns to the list, so that reloading it does not repeat the change.
func (c *Cloud) back(w http.ResponseWriter, r *http.Request, done string, err error) {
	if err != nil {
		http.Error(w, err.Error(), statusOf(err))
		return
	}
	http.Redirect(w, r, "/?message="+url.QueryEscape(done), http.StatusSeeOther)
}

func serveStyle(w http.ResponseWriter, _ *http.Request) {
	w.Header().Set("Content-Type", "text/css; charset=utf-8")
	w.Write(style)
}
