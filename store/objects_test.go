package store_test

import (
	"bytes"
	"context"
	"errors"
	"maps"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"holdfast/store"
)

// objects is a store.Objects in memory.
type objects struct {
	all  map[string][]byte
	fail error // of every request
}

func newObjects() *objects { return &objects{all: map[string][]byte{}} }

func (o *objects) Put(_ context.Context, name string, data []byte) error {
	if o.fail == nil {
		o.all[name] = bytes.Clone(data)
	}
	return o.fail
}

func (o *objects) Get(_ context.Context, name string) ([]byte, error) {
	data, ok := o.all[name]
	if o.fail == nil && !ok {
		return nil, store.ErrNotFound
	}
	return data, o.fail
}

func (o *objects) Delete(_ context.Context, prefix string) error {
	if o.fail == nil {
		maps.DeleteFunc(o.all, func(name string, _ []byte) bool { return strings.HasPrefix(name, prefix) })
	}
	return o.fail
}

func (o *objects) names() []string { return slices.Sorted(maps.Keys(o.all)) }

func TestOffloadedNames(t *testing.T) {
	c, o := chunks{}, newObjects()
	a := store.Offloaded(c, o)
	for _, key := range []string{"r", "r/plan.json", "r/PLAN-1", "r/a_b", "r/\x00ü%"} {
		if err := a.Put(t.Context(), time.Now(), key, []byte(key)); err != nil {
			t.Fatal(err)
		}
	}
	var got []string
	for _, name := range o.names() {
		m := regexp.MustCompile(`^artifacts/(.*)__[A-Z2-7]{26}$`).FindStringSubmatch(name)
		if m == nil {
			t.Fatalf("%q", name)
		}
		got = append(got, m[1])
	}
	if want := []string{"r/PLAN-1", "r/_00_c3_bc_25", "r/a_5fb", "r/plan.json", "r"}; !slices.Equal(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
	// The key "r" itself does not begin with this.
	if err := a.Delete(t.Context(), "r/"); err != nil || len(o.all) != 1 || len(c) != 1 {
		t.Errorf("%v, left %q", err, o.names())
	}
}

// TestOffloadedInterrupted lets a process die, or the bucket fail, between the
// steps.
func TestOffloadedInterrupted(t *testing.T) {
	c, o := chunks{}, newObjects()
	a := store.Offloaded(c, o)
	now := time.Now()
	put := func(data string) error { return a.Put(t.Context(), now, "r/plan", []byte(data)) }
	get := func() string {
		t.Helper()
		data, err := a.Get(t.Context(), "r/plan")
		if err != nil {
			t.Fatal(err)
		}
		return string(data)
	}
	if err := put("one"); err != nil || get() != "one" {
		t.Fatalf("%v %q", err, get())
	}
	reading := slices.Clone(c["r/plan"])

	// The object is written, its reference is not.
	if err := store.Offloaded(chunks{}, o).Put(t.Context(), now, "r/plan", []byte("lost")); err != nil || get() != "one" {
		t.Errorf("%v %q", err, get())
	}
	o.fail = errors.New("the bucket does not answer")
	if err := put("two"); !errors.Is(err, o.fail) {
		t.Errorf("%v", err)
	}
	if _, err := a.Get(t.Context(), "r/plan"); !errors.Is(err, o.fail) || errors.Is(err, store.ErrNotFound) {
		t.Errorf("%v", err)
	}
	o.fail = nil
	if err := put("two"); err != nil || get() != "two" {
		t.Errorf("%v %q", err, get())
	}
	// Who has read the old reference before, reads what was there.
	if data, err := store.Offloaded(chunks{"r/plan": reading}, o).Get(t.Context(), "r/plan"); err != nil || string(data) != "one" {
		t.Errorf("%v %q", err, data)
	}

	// The references are deleted, the objects are not; then it is done again.
	o.fail = errors.New("the bucket does not answer")
	if err := a.Delete(t.Context(), "r/"); !errors.Is(err, o.fail) || len(c) > 0 {
		t.Errorf("%v %v", err, c)
	}
	o.fail = nil
	if err := a.Delete(t.Context(), "r/"); err != nil || len(o.all) > 0 {
		t.Errorf("%v, left %q", err, o.names())
	}
}

func TestOffloadedReads(t *testing.T) {
	c, o := chunks{}, newObjects()
	ctx, now := t.Context(), time.Now()
	before := store.Sealed(c, key)
	a := store.Sealed(store.Offloaded(c, o), key)
	if err := errors.Join(before.Put(ctx, now, "old", []byte("plan")), a.Put(ctx, now, "new", []byte("plan")), a.Append(ctx, now, "log", []byte("line"))); err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string]string{"old": "plan", "new": "plan", "log": "line"} {
		if data, err := a.Get(ctx, name); err != nil || string(data) != want {
			t.Errorf("%s: %q, %v", name, data, err)
		}
	}
	if len(o.all) != 1 {
		t.Errorf("in the bucket: %q", o.names())
	}
	if _, err := before.Get(ctx, "new"); !errors.Is(err, store.ErrElsewhere) {
		t.Errorf("without the bucket: %v", err)
	}
	clear(o.all) // as a rule of the bucket does
	if _, err := a.Get(ctx, "new"); !errors.Is(err, store.ErrNotFound) {
		t.Errorf("without its object: %v", err)
	}
}

// TestOffloadedTellsDataFromReferences: what was given is what comes back, also
// where it is no seal.
func TestOffloadedTellsDataFromReferences(t *testing.T) {
	c, o := chunks{}, newObjects()
	a := store.Offloaded(c, o)
	if err := a.Put(t.Context(), time.Now(), "secret", []byte("s3cr3t")); err != nil {
		t.Fatal(err)
	}
	reference := string(c["secret"][0])
	for _, f := range []func(context.Context, time.Time, string, []byte) error{a.Put, a.Append} {
		if err := f(t.Context(), time.Now(), "log", []byte(reference)); err != nil {
			t.Fatal(err)
		}
	}
	got, err := a.Chunks(t.Context(), "log", 0)
	if err != nil || len(got) != 2 || string(got[0]) != reference || string(got[1]) != reference {
		t.Errorf("%q, %v", got, err)
	}
}
