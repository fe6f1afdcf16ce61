package smallcloud

import (
	"cmp"
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"time"
)

// Spec is what a client asks a resource to be.
type Spec struct {
	Kind       string         `json:"kind"`
	Name       string         `json:"name"`
	Attributes map[string]any `json:"attributes"`
}

// Resources returns all resources, oldest first.
func (c *Cloud) Resources() []Resource {
	c.mu.Lock()
	defer c.mu.Unlock()
	all := make([]Resource, 0, len(c.resources))
	for _, r := range c.resources {
		all = append(all, r.clone())
	}
	slices.SortFunc(all, func(a, b Resource) int {
		return cmp.Or(a.CreatedAt.Compare(b.CreatedAt), cmp.Compare(a.Name, b.Name), cmp.Compare(a.ID, b.ID))
	})
	return all
}

// Find returns the oldest resource of that kind and name, or ErrNotFound.
func (c *Cloud) Find(kind, name string) (Resource, error) {
	for _, r := range c.Resources() {
		if r.Kind == kind && r.Name == name {
			return r, nil
		}
	}
	return Resource{}, ErrNotFound
}

// Journal returns the entries in the order in which they happened.
func (c *Cloud) Journal() []Entry {
	c.mu.Lock()
	defer c.mu.Unlock()
	return slices.Clone(c.journal)
}

// Set changes one attribute by hand. A dot leads into a map: "tags.env". The
// attribute "name" is the resource's name. Returns ErrNotFound or ErrInvalid.
func (c *Cloud) Set(id, attribute, value string) error {
	_, err := c.change(id, true, func(r *Resource) error {
		if attribute == "name" {
			r.Name = value
			return nil
		}
		first, rest, nested := strings.Cut(attribute, ".")
		if first == "" || nested && rest == "" {
			return fmt.Errorf("%w: attribute %q has no name", ErrInvalid, attribute)
		}
		if !nested {
			r.Attributes[first] = value
			return nil
		}
		inner, ok := r.Attributes[first].(map[string]any)
		if !ok && r.Attributes[first] != nil {
			return fmt.Errorf("%w: attribute %q is not a map", ErrInvalid, first)
		}
		if inner == nil {
			inner = map[string]any{}
		}
		inner[rest] = value
		r.Attributes[first] = inner
		return nil
	})
	return err
}

// Delete removes a resource by hand. Returns ErrNotFound.
func (c *Cloud) Delete(id string) error { return c.remove(id, true) }

// create makes a resource. Once begun it ends in a resource, whatever becomes
// of ctx: that only ends the waiting for it.
func (c *Cloud) create(ctx context.Context, spec Spec) (Resource, error) {
	if err := checkSpec(spec.Kind, spec.Name, spec.Attributes); err != nil {
		return Resource{}, c.refuse(Entry{Op: OpCreate, Kind: spec.Kind, Name: spec.Name}, err)
	}
	if spec.Attributes["fail"] == string(OpCreate) {
		return Resource{}, c.refuse(Entry{Op: OpCreate, Kind: spec.Kind, Name: spec.Name}, ErrRefused)
	}
	delay, err := delayOf(spec.Attributes, c.options.Delay)
	if err != nil {
		return Resource{}, err
	}
	if delay > 0 {
		if err := c.note(Entry{Op: OpCreating, Kind: spec.Kind, Name: spec.Name}); err != nil {
			return Resource{}, err
		}
	}
	return later(ctx, delay, func() (Resource, error) { return c.commit(spec) })
}

// commit puts a new resource into the cloud.
func (c *Cloud) commit(spec Spec) (Resource, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	now := c.options.Now().UTC()
	r := Resource{Kind: spec.Kind, Name: spec.Name, Attributes: cloneAttributes(spec.Attributes), CreatedAt: now, UpdatedAt: now}
	for r.ID == "" || c.resources[r.ID].ID != "" {
		r.ID = newID(spec.Kind)
	}
	r.Address = addressOf(r.ID)
	r.ETag = etagOf(r, 0)
	if err := c.record(Entry{At: now, Op: OpCreate, Kind: r.Kind, ID: r.ID, Name: r.Name, Resource: &r}); err != nil {
		return Resource{}, err
	}
	c.resources[r.ID] = r
	return r.clone(), nil
}

// read returns a resource, with a new etag where that churns.
func (c *Cloud) read(id string) (Resource, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	r, ok := c.resources[id]
	entry := Entry{At: c.options.Now().UTC(), Op: OpRead, Kind: r.Kind, ID: id, Name: r.Name}
	var err error
	switch {
	case !ok:
		err = ErrNotFound
	case r.Attributes["fail"] == string(OpRead):
		err = ErrRefused
	case c.options.Churn || r.Attributes["churn"] == "true":
		c.reads++
		r.ETag = etagOf(r, c.reads)
		c.resources[id] = r
	}
	if err != nil {
		entry.Error = err.Error()
	}
	if noted := c.record(entry); noted != nil {
		return Resource{}, noted
	}
	return r.clone(), err
}

// update replaces name and attributes; the kind stays.
func (c *Cloud) update(ctx context.Context, id string, spec Spec) (Resource, error) {
	delay, err := delayOf(spec.Attributes, 0)
	if err != nil {
		return Resource{}, err
	}
	return later(ctx, delay, func() (Resource, error) {
		return c.change(id, false, func(r *Resource) error {
			if spec.Attributes["fail"] == string(OpUpdate) {
				return ErrRefused
			}
			r.Name, r.Attributes = spec.Name, cloneAttributes(spec.Attributes)
			return nil
		})
	})
}

// change lets f change a resource, and records it.
func (c *Cloud) change(id string, byHand bool, f func(*Resource) error) (Resource, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	stored, ok := c.resources[id]
	entry := Entry{At: c.options.Now().UTC(), Op: OpUpdate, Kind: stored.Kind, ID: id, Name: stored.Name, ByHand: byHand}
	r := stored.clone()
	err := ErrNotFound
	if ok {
		if err = f(&r); err == nil {
			err = checkSpec(r.Kind, r.Name, r.Attributes)
		}
	}
	if err != nil {
		entry.Error = err.Error()
		if noted := c.record(entry); noted != nil {
			return Resource{}, noted
		}
		return Resource{}, err
	}
	r.UpdatedAt = entry.At
	r.ETag = etagOf(r, 0)
	entry.Name, entry.Resource = r.Name, &r
	if err := c.record(entry); err != nil {
		return Resource{}, err
	}
	c.resources[id] = r
	return r.clone(), nil
}

func (c *Cloud) remove(id string, byHand bool) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	r, ok := c.resources[id]
	entry := Entry{At: c.options.Now().UTC(), Op: OpDelete, Kind: r.Kind, ID: id, Name: r.Name, ByHand: byHand}
	var err error
	switch {
	case !ok:
		err = ErrNotFound
	case !byHand && r.Attributes["fail"] == string(OpDelete):
		err = ErrRefused
	}
	if err != nil {
		entry.Error = err.Error()
	}
	if noted := c.record(entry); noted != nil {
		return noted
	}
	if err == nil {
		delete(c.resources, id)
	}
	return err
}

// refuse notes an operation that came to nothing and returns why.
func (c *Cloud) refuse(e Entry, err error) error {
	e.Error = err.Error()
	if noted := c.note(e); noted != nil {
		return noted
	}
	return err
}

func (c *Cloud) note(e Entry) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	e.At = c.options.Now().UTC()
	return c.record(e)
}

// later calls f after d and waits for its answer as long as ctx lasts.
func later(ctx context.Context, d time.Duration, f func() (Resource, error)) (Resource, error) {
	if d <= 0 {
		return f()
	}
	type answer struct {
		r   Resource
		err error
	}
	done := make(chan answer, 1)
	time.AfterFunc(d, func() {
		r, err := f()
		done <- answer{r, err}
	})
	select {
	case a := <-done:
		return a.r, a.err
	case <-ctx.Done():
		return Resource{}, ctx.Err()
	}
}

// newID returns an ID that was never given out before, so that a resource
// which was made twice shows twice.
func newID(kind string) string {
	var b [5]byte
	rand.Read(b[:])
	return kind + "-" + hex.EncodeToString(b[:])
}

func addressOf(id string) string {
	sum := sha256.Sum256([]byte(id))
	return fmt.Sprintf("10.%d.%d.%d", sum[0], sum[1], 1+sum[2]%254)
}

// etagOf hashes what a client can change, and the turn of the churn.
func etagOf(r Resource, turn int) string {
	// Attributes came out of JSON or are strings: this cannot fail.
	content, _ := json.Marshal([]any{r.ID, r.Name, r.Attributes, r.UpdatedAt, turn})
	sum := sha256.Sum256(content)
	return hex.EncodeToString(sum[:6])
}

func (r Resource) clone() Resource {
	r.Attributes = cloneAttributes(r.Attributes)
	return r
}

// cloneAttributes copies maps as deep as they go and drops nulls.
func cloneAttributes(in map[string]any) map[string]any {
	out := make(map[string]any, len(in))
	for k, v := range in {
		switch v := v.(type) {
		case nil:
		case map[string]any:
			out[k] = cloneAttributes(v)
		default:
			out[k] = v
		}
	}
	return out
}
