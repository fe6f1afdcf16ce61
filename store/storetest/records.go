package storetest

import (
	"encoding/json"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"holdfast/store"
)

func testRuns(t *testing.T, open Open) {
	a, b := handle(t, open).Runs, handle(t, open).Runs
	full := store.Run{
		ID: "01", Key: "pr/1/abc", Kind: store.KindPlan, State: store.Queued, Repository: "host/o/r", Workspace: "prod", PullRequest: 7,
		Commit: "abc", Inputs: "in", Job: "j", Token: 3, Step: "init", Node: "n", Result: json.RawMessage(`{"add": 1}`), Error: "e",
		StartedAt: at(time.Second), EndedAt: at(time.Minute),
	}
	stored, created, err := a.Create(t.Context(), start, full)
	is(t, "Create", err, nil)
	want := full
	want.Version, want.CreatedAt = 1, start
	equal(t, "created", created, true)
	equal(t, "stored", stored, want)
	equal(t, "got", must[store.Run](t)(b.Get(t.Context(), "01")), want)

	known, created, err := b.Create(t.Context(), at(time.Hour), store.Run{ID: "02", Key: full.Key, State: store.Running})
	is(t, "Create of a known key", err, nil)
	equal(t, "the known run", known, want)
	equal(t, "not created", created, false)
	_, err = b.Get(t.Context(), "02")
	is(t, "Get of what was not created", err, store.ErrNotFound)
	if _, _, err := a.Create(t.Context(), start, store.Run{ID: "01", Key: "another"}); err == nil {
		t.Fatal("an ID was stored twice")
	}

	testRunUpdate(t, a, b, want)
	testRunList(t, a, b)
	testRunDelete(t, a, b)
	testRunRace(t, a, b)
}

func testRunUpdate(t *testing.T, a, b store.Runs, old store.Run) {
	next := old
	next.State, next.Token, next.Result, next.EndedAt = store.Failed, 5, nil, time.Time{}
	updated := must[store.Run](t)(b.Update(t.Context(), at(time.Hour), next))
	next.Version = 2
	equal(t, "updated", updated, next)
	equal(t, "got", must[store.Run](t)(a.Get(t.Context(), old.ID)), next)

	_, err := a.Update(t.Context(), start, old)
	is(t, "Update of an old version", err, store.ErrConflict)
	late := updated
	late.Token = 4
	_, err = a.Update(t.Context(), start, late)
	is(t, "Update with an old token", err, store.ErrConflict)
	equal(t, "unchanged", must[store.Run](t)(a.Get(t.Context(), old.ID)), updated)
	_, err = a.Update(t.Context(), start, store.Run{ID: "nobody", Version: 1})
	is(t, "Update of nothing", err, store.ErrNotFound)
	same := must[store.Run](t)(a.Update(t.Context(), start, updated))
	equal(t, "the same token may write", same.Version, int64(3))
}

func testRunList(t *testing.T, a, b store.Runs) {
	for i := range 6 {
		r := store.Run{ID: fmt.Sprintf("1%d", i), Key: fmt.Sprintf("list/%d", i), Kind: store.KindDrift, State: store.Applied, Repository: "host/o/list", Workspace: "w", Commit: "c"}
		switch i {
		case 1:
			r.Workspace, r.PullRequest = "other", 1
		case 2:
			r.Kind, r.PullRequest = store.KindApply, 1
		case 3:
			r.State = store.Failed
		case 4:
			r.State, r.Commit = store.Running, "d"
		case 5:
			r.Repository = "host/o/list2"
		}
		_, _, err := a.Create(t.Context(), start, r)
		is(t, "Create", err, nil)
	}
	const repository = "host/o/list"
	for _, c := range []struct {
		f    store.RunFilter
		want []string
	}{
		{store.RunFilter{Repository: repository}, []string{"14", "13", "12", "11", "10"}},
		{store.RunFilter{Repository: repository, Workspace: "other"}, []string{"11"}},
		{store.RunFilter{Repository: repository, PullRequest: 1}, []string{"12", "11"}},
		{store.RunFilter{Repository: repository, PullRequest: 1, Kind: store.KindApply}, []string{"12"}},
		{store.RunFilter{Repository: repository, Commit: "d"}, []string{"14"}},
		{store.RunFilter{Repository: repository, States: []store.State{store.Failed, store.Running}}, []string{"14", "13"}},
		{store.RunFilter{Repository: repository, Before: "13"}, []string{"12", "11", "10"}},
		{store.RunFilter{Repository: repository, Before: "13", Limit: 2}, []string{"12", "11"}},
		{store.RunFilter{Repository: repository, After: "12"}, []string{"14", "13"}},
		{store.RunFilter{Repository: repository, After: "10", Before: "14", Limit: 2}, []string{"13", "12"}},
		{store.RunFilter{After: "12", Kind: store.KindDrift, States: []store.State{store.Applied}}, []string{"15"}},
		{store.RunFilter{After: "15"}, []string{}},
		{store.RunFilter{States: []store.State{store.Superseded}}, []string{}},
		{store.RunFilter{Limit: 1}, []string{"15"}},
	} {
		got := []string{}
		for _, r := range must[[]store.Run](t)(b.List(t.Context(), c.f)) {
			got = append(got, r.ID)
		}
		equal(t, fmt.Sprintf("%+v", c.f), got, c.want)
	}
}

// testRunDelete deletes some of the runs that testRunList made.
func testRunDelete(t *testing.T, a, b store.Runs) {
	is(t, "Delete", a.Delete(t.Context(), "10", "12", "nobody"), nil)
	is(t, "Delete once more", b.Delete(t.Context(), "10"), nil)
	is(t, "Delete of none", b.Delete(t.Context()), nil)
	_, err := b.Get(t.Context(), "10")
	is(t, "Get of what was deleted", err, store.ErrNotFound)
	_, err = b.Update(t.Context(), start, store.Run{ID: "10", Version: 1})
	is(t, "Update of what was deleted", err, store.ErrNotFound)
	for _, f := range []store.RunFilter{{Repository: "host/o/list", PullRequest: 1}, {Repository: "host/o/list", Workspace: "other"}, {Before: "13", After: "10"}} {
		got := []string{}
		for _, r := range must[[]store.Run](t)(b.List(t.Context(), f)) {
			got = append(got, r.ID)
		}
		equal(t, fmt.Sprintf("%+v", f), got, []string{"11"})
	}
	r, created, err := b.Create(t.Context(), at(time.Hour), store.Run{ID: "20", Key: "list/0", State: store.Applied})
	is(t, "Create of the key of a deleted run", err, nil)
	equal(t, "a new one", []any{created, r.ID, r.Version}, []any{true, "20", int64(1)})
	_, created, err = a.Create(t.Context(), start, store.Run{ID: "12", Key: "list/2", State: store.Applied})
	is(t, "Create with the ID of a deleted run", err, nil)
	equal(t, "created", created, true)
}

// testRunRace has many create the same run and then change it.
func testRunRace(t *testing.T, a, b store.Runs) {
	var created, updated atomic.Int32
	var wg sync.WaitGroup
	for i := range 8 {
		r := a
		if i%2 == 1 {
			r = b
		}
		wg.Go(func() {
			got, mine, err := r.Create(t.Context(), start, store.Run{ID: fmt.Sprintf("race-%d", i), Key: "race", State: store.Queued})
			if err != nil {
				t.Errorf("create: %v", err)
				return
			}
			if mine {
				created.Add(1)
			}
			if _, err := r.Update(t.Context(), start, got); err == nil {
				updated.Add(1)
			}
		})
	}
	wg.Wait()
	equal(t, "created once, updated", []bool{created.Load() == 1, updated.Load() >= 1}, []bool{true, true})
	runs := must[[]store.Run](t)(a.List(t.Context(), store.RunFilter{States: []store.State{store.Queued}}))
	equal(t, "every update that was acknowledged is there", runs[0].Version, int64(1+updated.Load()))
}

func testArtifacts(t *testing.T, open Open) {
	RunArtifacts(t, handle(t, open).Artifacts, handle(t, open).Artifacts)
}

// RunArtifacts tests artifacts that are no backend's own. Both are handles on the
// same empty place; they may be one and the same.
func RunArtifacts(t *testing.T, a, b store.Artifacts) {
	ctx := t.Context()
	get := func(key string) string {
		t.Helper()
		return string(must[[]byte](t)(b.Get(ctx, key)))
	}
	chunks := func(key string, from int) []string {
		t.Helper()
		out := []string{}
		for _, c := range must[[][]byte](t)(b.Chunks(ctx, key, from)) {
			out = append(out, string(c))
		}
		return out
	}
	_, err := a.Get(ctx, "r/plan")
	is(t, "Get of nothing", err, store.ErrNotFound)
	equal(t, "chunks of nothing", chunks("r/plan", 0), []string{})

	is(t, "Put", a.Put(ctx, start, "r/plan", []byte("one\x00\xff")), nil)
	equal(t, "put", get("r/plan"), "one\x00\xff")
	is(t, "Put", b.Put(ctx, start, "r/plan", []byte("two")), nil)
	equal(t, "replaced", get("r/plan"), "two")
	is(t, "Put of nothing", a.Put(ctx, start, "r/empty", nil), nil)
	equal(t, "empty", get("r/empty"), "")

	for i, c := range []string{"a", "b\n", "", "d"} {
		d := a
		if i%2 == 1 {
			d = b
		}
		is(t, "Append", d.Append(ctx, start, "r/log", []byte(c)), nil)
	}
	equal(t, "chunks", chunks("r/log", 0), []string{"a", "b\n", "", "d"})
	equal(t, "the last ones", chunks("r/log", 3), []string{"d"})
	equal(t, "behind the end", chunks("r/log", 4), []string{})
	equal(t, "joined", get("r/log"), "ab\nd")
	is(t, "Put", a.Put(ctx, start, "r/log", []byte("new")), nil)
	is(t, "Append", a.Append(ctx, start, "r/log", []byte("er")), nil)
	equal(t, "replaced with its chunks", chunks("r/log", 0), []string{"new", "er"})

	for _, key := range []string{"r2/plan", "r%/plan", "r"} {
		is(t, "Put", a.Put(ctx, start, key, []byte("x")), nil)
	}
	is(t, "Delete", a.Delete(ctx, "r/"), nil)
	for _, key := range []string{"r/plan", "r/log", "r/empty"} {
		_, err = b.Get(ctx, key)
		is(t, "Get of what was deleted", err, store.ErrNotFound)
	}
	equal(t, "others stay", get("r2/plan")+get("r%/plan")+get("r"), "xxx")
	is(t, "Delete of nothing", a.Delete(ctx, "nothing/"), nil)

	large := make([]byte, 3<<20)
	for i := range large {
		large[i] = byte(i * 7)
	}
	is(t, "Put of 3 MiB", a.Put(ctx, start, "large", large), nil)
	equal(t, "large", get("large") == string(large), true)

	var wg sync.WaitGroup
	for i := range 40 {
		d := a
		if i%2 == 1 {
			d = b
		}
		wg.Go(func() {
			if err := d.Append(ctx, start, "many", []byte{byte(i)}); err != nil {
				t.Errorf("append: %v", err)
			}
		})
	}
	wg.Wait()
	equal(t, "every concurrent chunk", len(chunks("many", 0)), 40)
}

func testSealed(t *testing.T, open Open) {
	s := handle(t, open)
	key := store.DeriveKey([]byte("secret"), "artifacts")
	RunArtifacts(t, store.Sealed(s.Artifacts, key), store.Sealed(handle(t, open).Artifacts, key))
}

func testRecords(t *testing.T, open Open) {
	a, b := handle(t, open).Records, handle(t, open).Records
	ctx := t.Context()
	_, err := a.Get(ctx, "w/a")
	is(t, "Get of nothing", err, store.ErrNotFound)
	_, err = a.Put(ctx, start, store.Record{Key: "w/a", Version: 3, Value: []byte(`1`)})
	is(t, "Put with the version of nothing", err, store.ErrConflict)
	r := must[store.Record](t)(a.Put(ctx, start, store.Record{Key: "w/a", Value: []byte(`{"n": 1}`)}))
	equal(t, "put", r, store.Record{Key: "w/a", Version: 1, Value: []byte(`{"n": 1}`)})
	_, err = b.Put(ctx, start, store.Record{Key: "w/a", Value: []byte(`2`)})
	is(t, "Put of what is there already", err, store.ErrConflict)
	r.Value = []byte(`3`)
	r = must[store.Record](t)(b.Put(ctx, start, r))
	equal(t, "got", must[store.Record](t)(a.Get(ctx, "w/a")), store.Record{Key: "w/a", Version: 2, Value: []byte(`3`)})
	r.Version = 1
	_, err = a.Put(ctx, start, r)
	is(t, "Put with an old version", err, store.ErrConflict)

	for _, key := range []string{"w/c", "w/b", "v/a", "w0", "w%"} {
		must[store.Record](t)(a.Put(ctx, start, store.Record{Key: key, Value: []byte(`null`)}))
	}
	keys := []string{}
	for _, r := range must[[]store.Record](t)(b.List(ctx, "w/")) {
		keys = append(keys, r.Key)
	}
	equal(t, "listed", keys, []string{"w/a", "w/b", "w/c"})
	is(t, "Delete", a.Delete(ctx, "w/a"), nil)
	is(t, "Delete of nothing", a.Delete(ctx, "w/a"), nil)
	_, err = b.Get(ctx, "w/a")
	is(t, "Get of what was deleted", err, store.ErrNotFound)
	equal(t, "left", len(must[[]store.Record](t)(b.List(ctx, ""))), 5)

	var won atomic.Int32
	var wg sync.WaitGroup
	for i := range 8 {
		d := a
		if i%2 == 1 {
			d = b
		}
		wg.Go(func() {
			if _, err := d.Put(ctx, start, store.Record{Key: "race", Value: []byte(`1`)}); err == nil {
				won.Add(1)
			}
		})
	}
	wg.Wait()
	equal(t, "one created it", won.Load(), int32(1))
}

func testAudit(t *testing.T, open Open) {
	a, b := handle(t, open).Audit, handle(t, open).Audit
	ctx := t.Context()
	e := store.Entry{ID: "01", At: start, Who: "alice", Action: "apply", Repository: "r", Workspace: "w", Run: "run", Why: "because"}
	is(t, "Append", a.Append(ctx, e), nil)
	changed := e
	changed.Who = "mallory"
	is(t, "Append of a known ID", b.Append(ctx, changed), nil)
	equal(t, "never changed", must[[]store.Entry](t)(b.List(ctx, "", 10)), []store.Entry{e})
	for i := range 4 {
		is(t, "Append", a.Append(ctx, store.Entry{ID: fmt.Sprintf("1%d", i), At: start, Who: "bob", Action: "plan", Repository: fmt.Sprint("r", i%2)}), nil)
	}
	list := func(repository string, limit int) []string {
		out := []string{}
		for _, e := range must[[]store.Entry](t)(b.List(ctx, repository, limit)) {
			out = append(out, e.ID)
		}
		return out
	}
	equal(t, "newest first", list("", 10), []string{"13", "12", "11", "10", "01"})
	equal(t, "of one repository", list("r1", 10), []string{"13", "11"})
	equal(t, "at most", list("", 2), []string{"13", "12"})
	equal(t, "of none", list("elsewhere", 10), []string{})
}
