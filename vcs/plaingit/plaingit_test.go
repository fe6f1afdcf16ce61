package plaingit_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	gogit "github.com/go-git/go-git/v5"
	"github.com/go-git/go-git/v5/plumbing"
	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"holdfast/vcs"
	"holdfast/vcs/git"
	"holdfast/vcs/plaingit"
	"holdfast/vcs/vcstest"
	"holdfast/vcs/vcstest/gittest"
)

var repo = vcs.Repository{Host: "plain.example.com", Owner: "team", Name: "live"}

// world is a bare repository, and a host that looks at it.
type world struct {
	*gittest.Must
	t     *testing.T
	host  *plaingit.Host
	data  string
	now   time.Time
	first string // main's first commit
}

func newWorld(t *testing.T) *world {
	t.Helper()
	w := &world{Must: gittest.New(t), t: t, data: t.TempDir(), now: time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)}
	w.Author = "Ada"
	w.first = w.Commit("main", files("main", "1"), "first")
	w.restart()
	return w
}

// restart makes a new host on the same data.
func (w *world) restart() {
	w.t.Helper()
	mirrors, err := git.New(git.Config{Dir: w.data})
	if err != nil {
		w.t.Fatal(err)
	}
	w.host, err = plaingit.New(plaingit.Config{
		Name:         repo.Host,
		Git:          mirrors,
		Repositories: map[vcs.Repository]vcs.Remote{repo: {URL: w.Dir}},
		State:        plaingit.Dir(filepath.Join(w.data, "pulls")),
		Clock:        func() time.Time { return w.now },
	})
	if err != nil {
		w.t.Fatal(err)
	}
}

// look returns all pull requests; a minute goes by before.
func (w *world) look() []vcs.PullRequest {
	w.t.Helper()
	w.now = w.now.Add(time.Minute)
	prs, err := w.host.PullRequests(w.t.Context(), repo, time.Time{})
	if err != nil {
		w.t.Fatal(err)
	}
	return prs
}

// expect looks, and compares what matters.
func (w *world) expect(want ...vcs.PullRequest) {
	w.t.Helper()
	got := w.look()
	ignore := cmpopts.IgnoreFields(vcs.PullRequest{}, "Repository", "Title", "Author", "FetchRef", "BaseRef", "UpdatedAt")
	if diff := cmp.Diff(want, got, ignore, cmpopts.EquateEmpty()); diff != "" {
		w.t.Errorf("pull requests (-want +got):\n%s", diff)
	}
	if again := w.look(); !cmp.Equal(got, again) {
		w.t.Errorf("a second look differs (-first +second):\n%s", cmp.Diff(got, again))
	}
}

func files(name, content string) map[string]string {
	return map[string]string{name + ".tf": content + "\n"}
}

func open(n int, branch, head, base string) vcs.PullRequest {
	return vcs.PullRequest{Number: n, State: vcs.Open, HeadRef: branch, HeadSHA: head, BaseSHA: base}
}

func merged(n int, branch, head, base, merge string) vcs.PullRequest {
	return vcs.PullRequest{Number: n, State: vcs.Merged, HeadRef: branch, HeadSHA: head, BaseSHA: base, MergeSHA: merge}
}

func closed(n int, branch, head, base string) vcs.PullRequest {
	return vcs.PullRequest{Number: n, State: vcs.Closed, HeadRef: branch, HeadSHA: head, BaseSHA: base}
}

func TestOpenAndPush(t *testing.T) {
	w := newWorld(t)
	w.Branch("equal", "main")
	w.expect()
	a := w.Commit("a/b", files("a", "1"), "Add a\n\nBecause.")
	w.expect(open(1, "a/b", a, w.first))
	pr, err := w.host.PullRequest(t.Context(), repo, 1)
	if err != nil {
		t.Fatal(err)
	}
	want := vcs.PullRequest{
		Repository: repo, Number: 1, Title: "Add a", Author: "Ada", State: vcs.Open, HeadRef: "a/b", HeadSHA: a,
		FetchRef: "refs/heads/a/b", BaseRef: "main", BaseSHA: w.first, UpdatedAt: pr.UpdatedAt,
	}
	if diff := cmp.Diff(want, pr); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}

	opened := w.look()[0].UpdatedAt
	a = w.Commit("a/b", files("a", "2"), "more")
	main := w.Commit("main", files("main", "2"), "meanwhile")
	behind := w.first
	w.SetRef("refs/heads/behind", behind)
	w.expect(open(1, "a/b", a, main))
	if got := w.look()[0].UpdatedAt; !got.After(opened) {
		t.Error("a push does not count as an update")
	}
	if _, err := w.host.PullRequest(t.Context(), repo, 2); !errors.Is(err, vcs.ErrNotFound) {
		t.Errorf("no such number: %v, want ErrNotFound", err)
	}
}

func TestMerges(t *testing.T) {
	for _, deleted := range []bool{false, true} {
		for _, method := range []gittest.MergeMethod{gittest.MergeCommit, gittest.MergeSquash, gittest.MergeRebase, gittest.MergeFF} {
			t.Run(fmt.Sprintf("%s,deleted=%v", method, deleted), func(t *testing.T) {
				w := newWorld(t)
				w.Commit("a", files("a", "1"), "one")
				a := w.Commit("a", files("a", "2"), "two")
				w.expect(open(1, "a", a, w.first))
				base := w.first
				if method != gittest.MergeFF {
					base = w.Commit("main", files("main", "2"), "meanwhile")
				}
				merge := w.Merge("a", "main", method)
				if deleted {
					w.DeleteBranch("a")
				}
				w.Commit("main", files("main", "3"), "afterwards")
				w.expect(merged(1, "a", a, base, merge))
				w.restart()
				w.expect(merged(1, "a", a, base, merge))
			})
		}
	}
}

func TestClosed(t *testing.T) {
	w := newWorld(t)
	a := w.Commit("a", files("a", "1"), "one")
	b := w.Commit("b", files("b", "1"), "two")
	w.expect(open(1, "a", a, w.first), open(2, "b", b, w.first))
	w.DeleteBranch("a")
	w.SetRef("refs/heads/b", w.first) // its commits thrown away
	w.expect(closed(1, "a", a, w.first), closed(2, "b", b, w.first))
	// The same name again is another life, even at the same commit.
	w.SetRef("refs/heads/a", a)
	w.expect(closed(1, "a", a, w.first), closed(2, "b", b, w.first), open(3, "a", a, w.first))
}

func TestPutBackOntoTheNewMainIsNotMerged(t *testing.T) {
	w := newWorld(t)
	a := w.Commit("a", files("a", "1"), "one")
	w.expect(open(1, "a", a, w.first))
	main := w.Commit("main", files("other", "1"), "unrelated")
	w.SetRef("refs/heads/a", main)
	w.expect(closed(1, "a", a, w.first))
}

func TestRebasedThenForwarded(t *testing.T) {
	w := newWorld(t)
	a := w.Commit("a", files("a", "1"), "one")
	w.expect(open(1, "a", a, w.first))
	w.Commit("main", files("main", "2"), "meanwhile")
	rewritten := w.Merge("a", "main", gittest.MergeRebase)
	w.SetRef("refs/heads/a", rewritten)
	got := w.look()[0]
	if got.State != vcs.Merged || got.MergeSHA != rewritten {
		t.Errorf("got %+v, want it merged as %s", got, rewritten)
	}
}

func TestMergedThenContinued(t *testing.T) {
	w := newWorld(t)
	a := w.Commit("a", files("a", "1"), "one")
	w.expect(open(1, "a", a, w.first))
	merge := w.Merge("a", "main", gittest.MergeCommit)
	a2 := w.Commit("a", files("a", "2"), "more")
	w.expect(merged(1, "a", a, w.first, merge), open(2, "a", a2, merge))
	merge2 := w.Merge("a", "main", gittest.MergeSquash)
	w.expect(merged(1, "a", a, w.first, merge), merged(2, "a", a2, merge, merge2))
}

func TestPushedAndMergedBetweenLooks(t *testing.T) {
	w := newWorld(t)
	a := w.Commit("a", files("a", "1"), "one")
	w.expect(open(1, "a", a, w.first))
	a2 := w.Commit("a", files("a", "2"), "more")
	merge := w.Merge("a", "main", gittest.MergeCommit)
	w.expect(merged(1, "a", a2, w.first, merge))
}

func TestMadeAndMergedBetweenLooks(t *testing.T) {
	w := newWorld(t)
	w.expect()
	a := w.Commit("a", files("a", "1"), "one")
	merge := w.Merge("a", "main", gittest.MergeCommit)
	w.Branch("from-main", "main")
	w.SetRef("refs/heads/on-a", a)
	got := w.look()
	if len(got) != 1 || got[0].State != vcs.Merged || got[0].MergeSHA != merge || got[0].HeadSHA != a {
		t.Errorf("got %+v, want one, merged as %s", got, merge)
	}
}

func TestSeveralMergesBetweenLooks(t *testing.T) {
	w := newWorld(t)
	var want []vcs.PullRequest
	var heads []string
	for i := range 4 {
		name := fmt.Sprint("b", i)
		heads = append(heads, w.Commit(name, files(name, "1"), name))
		want = append(want, open(i+1, name, heads[i], w.first))
	}
	w.expect(want...)
	base := w.first
	for i, method := range []gittest.MergeMethod{gittest.MergeCommit, gittest.MergeSquash, gittest.MergeCommit, gittest.MergeRebase} {
		name := fmt.Sprint("b", i)
		merge := w.Merge(name, "main", method)
		want[i] = merged(i+1, name, heads[i], base, merge)
		base = merge
	}
	w.expect(want...)
}

func TestSquashesAreNotConfused(t *testing.T) {
	w := newWorld(t)
	a := w.Commit("a", files("a", "1"), "one")
	w.expect(open(1, "a", a, w.first))
	w.Commit("main", files("a", "another content"), "looks alike")
	main := w.Commit("main", map[string]string{"a.tf": "1\n", "b.tf": "2\n"}, "does more")
	w.expect(open(1, "a", a, main))
}

func TestNumbersSurvive(t *testing.T) {
	w := newWorld(t)
	for i := range 3 {
		name := fmt.Sprint("b", i)
		w.Commit(name, files(name, "1"), name)
		if got := w.look(); len(got) != i+1 || got[i].Number != i+1 {
			t.Fatalf("look %d: %+v", i, got)
		}
		w.DeleteBranch(name)
		w.look()
		w.restart()
	}
	// A mirror made anew knows nothing of deleted branches; the state does.
	if err := os.RemoveAll(filepath.Join(w.data, "mirrors")); err != nil {
		t.Fatal(err)
	}
	w.restart()
	if got := w.look(); len(got) != 3 || got[2].HeadRef != "b2" || got[2].State != vcs.Closed {
		t.Errorf("got %+v", got)
	}
}

func TestSince(t *testing.T) {
	w := newWorld(t)
	w.Commit("a", files("a", "1"), "one")
	w.Commit("b", files("b", "1"), "one")
	w.look()
	w.DeleteBranch("a")
	w.look()
	at := w.now
	for since, want := range map[time.Duration][]string{0: {"a", "b"}, -time.Hour: {"a", "b"}, time.Second: {"b"}} {
		prs, err := w.host.PullRequests(t.Context(), repo, at.Add(since))
		if err != nil {
			t.Fatal(err)
		}
		var got []string
		for _, pr := range prs {
			got = append(got, pr.HeadRef)
		}
		if !slices.Equal(got, want) {
			t.Errorf("since %v: %q, want %q", since, got, want)
		}
	}
}

func TestForcedMain(t *testing.T) {
	w := newWorld(t)
	a := w.Commit("a", files("a", "1"), "one")
	w.Commit("main", files("main", "2"), "to be undone")
	w.look()
	w.SetRef("refs/heads/main", w.first)
	w.expect(open(1, "a", a, w.first))
	merge := w.Merge("a", "main", gittest.MergeCommit)
	w.expect(merged(1, "a", a, w.first, merge))
}

func TestAnotherDefaultBranch(t *testing.T) {
	w := newWorld(t)
	a := w.Commit("a", files("a", "1"), "one")
	trunk := w.Apply(gittest.Change{Branch: "trunk", From: w.first, Files: files("trunk", "1")})
	w.expect(open(1, "a", a, w.first), open(2, "trunk", trunk, w.first))
	g, err := gogit.PlainOpen(w.Dir)
	if err != nil {
		t.Fatal(err)
	}
	if err := g.Storer.SetReference(plumbing.NewSymbolicReference(plumbing.HEAD, "refs/heads/trunk")); err != nil {
		t.Fatal(err)
	}
	got := w.look()
	if len(got) != 2 || got[0].State != vcs.Open || got[0].BaseRef != "trunk" || got[0].BaseSHA != trunk || got[1].State != vcs.Closed {
		t.Errorf("got %+v, want a open on trunk, and trunk closed", got)
	}
}

// What makes no sense is an error, and changes nothing.
func TestNonsense(t *testing.T) {
	t.Run("empty repository", func(t *testing.T) {
		w := &world{Must: gittest.New(t), t: t, data: t.TempDir()}
		w.restart()
		w.expect()
	})
	t.Run("branches lost", func(t *testing.T) {
		w := newWorld(t)
		a := w.Commit("a", files("a", "1"), "one")
		w.look()
		w.DeleteBranch("main")
		if _, err := w.host.PullRequests(t.Context(), repo, time.Time{}); err == nil {
			t.Error("no error without a default branch")
		}
		w.SetRef("refs/heads/main", w.first)
		w.expect(open(1, "a", a, w.first))
	})
	t.Run("state of nonsense", func(t *testing.T) {
		w := newWorld(t)
		w.Commit("a", files("a", "1"), "one")
		w.look()
		saved, err := filepath.Glob(filepath.Join(w.data, "pulls", "*.json"))
		if err != nil || len(saved) != 1 {
			t.Fatalf("state in %q, %v", saved, err)
		}
		for _, content := range []string{"{", "[]", `{"version":9}`, `{"version":1,"next":0}`, `{"version":1,"next":1,"pulls":[null]}`, `{"version":1,"next":1,"pulls":[{"number":7}]}`} {
			if err := os.WriteFile(saved[0], []byte(content), 0o600); err != nil {
				t.Fatal(err)
			}
			if _, err := w.host.PullRequests(t.Context(), repo, time.Time{}); err == nil {
				t.Errorf("state %q: no error", content)
			}
		}
	})
	t.Run("remote gone", func(t *testing.T) {
		w := newWorld(t)
		w.look()
		if err := os.RemoveAll(w.Dir); err != nil {
			t.Fatal(err)
		}
		if _, err := w.host.PullRequests(t.Context(), repo, time.Time{}); !errors.Is(err, vcs.ErrNotFound) {
			t.Errorf("got %v, want ErrNotFound", err)
		}
	})
}

func TestOpenPull(t *testing.T) {
	w := newWorld(t)
	a := w.Commit("a", files("a", "1"), "Add a")
	ask := func(branch, base string) (vcs.PullRequest, error) {
		return w.host.OpenPull(t.Context(), repo, vcs.NewPull{Branch: branch, Base: base, Title: "Not this", Body: "Nor this."})
	}
	if pr, err := ask("a", "main"); err != nil || pr.Number != 1 || pr.HeadSHA != a || pr.Title != "Add a" {
		t.Fatalf("OpenPull = %+v, %v, want number 1 at %s", pr, err, a)
	}
	w.expect(open(1, "a", a, w.first)) // no other one came of it
	w.Branch("even", "main")
	w.Merge("a", "main", gittest.MergeSquash)
	for _, tc := range []struct{ branch, base, says string }{
		{"even", "main", `nothing that "main" lacks`},
		{"a", "main", "merged already"},
		{"a", "even", `the default branch, which is "main"`},
	} {
		if pr, err := ask(tc.branch, tc.base); err == nil || !strings.Contains(err.Error(), tc.says) || errors.Is(err, vcs.ErrNotFound) {
			t.Errorf("from %s to %s: %+v, %v, want %q", tc.branch, tc.base, pr, err, tc.says)
		}
	}
}

func TestStateIsSavedBeforeNumbersAreTold(t *testing.T) {
	w := newWorld(t)
	mirrors, err := git.New(git.Config{Dir: t.TempDir()})
	if err != nil {
		t.Fatal(err)
	}
	h, err := plaingit.New(plaingit.Config{
		Name: repo.Host, Git: mirrors, State: fullDisk{},
		Repositories: map[vcs.Repository]vcs.Remote{repo: {URL: w.Dir}},
	})
	if err != nil {
		t.Fatal(err)
	}
	w.Commit("a", files("a", "1"), "one")
	if prs, err := h.PullRequests(t.Context(), repo, time.Time{}); !errors.Is(err, errFull) {
		t.Errorf("got %v, %v, want the disk's error", prs, err)
	}
}

type fullDisk struct{}

var errFull = errors.New("no space left")

func (fullDisk) Load(context.Context, vcs.Repository) ([]byte, error) { return nil, nil }
func (fullDisk) Save(context.Context, vcs.Repository, []byte) error   { return errFull }

func TestNewValidates(t *testing.T) {
	mirrors, err := git.New(git.Config{Dir: t.TempDir()})
	if err != nil {
		t.Fatal(err)
	}
	for _, cfg := range []plaingit.Config{
		{Git: mirrors, State: fullDisk{}},
		{Name: "x", State: fullDisk{}},
		{Name: "x", Git: mirrors},
		{Name: "x", Git: mirrors, State: fullDisk{}, Repositories: map[vcs.Repository]vcs.Remote{repo: {}}},
	} {
		if _, err := plaingit.New(cfg); err == nil {
			t.Errorf("%+v: no error", cfg)
		}
	}
}

// harness lets the suite of all hosts act on a bare repository.
type harness struct{ *world }

func TestHost(t *testing.T) {
	vcstest.Run(t, func(t *testing.T) vcstest.Harness {
		w := newWorld(t)
		w.look() // as a server that runs already
		return harness{w}
	})
}

func (h harness) Host() vcs.Host             { return h.host }
func (h harness) Repository() vcs.Repository { return repo }
func (h harness) Push(branch string, files map[string]string) string {
	return h.Commit(branch, files, "change")
}
func (h harness) Open(branch, _ string) int {
	h.t.Helper()
	for _, pr := range h.look() {
		if pr.HeadRef == branch && pr.State == vcs.Open {
			return pr.Number
		}
	}
	h.t.Fatalf("no pull request of %s", branch)
	return 0
}
func (h harness) branch(number int) string {
	h.t.Helper()
	for _, pr := range h.look() {
		if pr.Number == number {
			return pr.HeadRef
		}
	}
	h.t.Fatalf("no pull request %d", number)
	return ""
}
func (h harness) Merge(number int) string {
	return h.world.Merge(h.branch(number), "main", gittest.MergeCommit)
}
func (h harness) Close(number int) { h.world.DeleteBranch(h.branch(number)) }
func (h harness) Fetch(remote vcs.Remote, ref string) string {
	h.t.Helper()
	mirrors, err := git.New(git.Config{Dir: h.t.TempDir()})
	if err != nil {
		h.t.Fatal(err)
	}
	if err := mirrors.Fetch(h.t.Context(), repo, remote, ref); err != nil {
		h.t.Fatal(err)
	}
	sha, err := mirrors.Resolve(h.t.Context(), repo, ref)
	if err != nil {
		h.t.Fatal(err)
	}
	return sha
}

// DeleteBranch implements vcstest.BranchDeleter.
func (h harness) DeleteBranch(branch string) { h.world.DeleteBranch(branch) }

// Note implements vcstest.NoteReader.
func (h harness) Note(sha string) string {
	return h.Files(h.Ref("refs/notes/holdfast"))[sha]
}

var (
	_ vcstest.BranchDeleter = harness{}
	_ vcstest.NoteReader    = harness{}
)

// Whatever was saved must not bring the host down.
func FuzzState(f *testing.F) {
	f.Add([]byte(`{"version":1,"next":2,"base":"main","pulls":[{"number":1,"branch":"a","head_sha":"x","state":"open"}]}`))
	f.Add([]byte(`{"version":1,"next":3,"base":"main","base_sha":"` + strings.Repeat("ab", 20) + `","pulls":[{"number":1,"base_ref":"main","state":"open"},{"number":2,"branch":"main","state":"merged"}]}`))
	dir := f.TempDir()
	r, err := gittest.Init(filepath.Join(dir, "remote"))
	if err != nil {
		f.Fatal(err)
	}
	if _, err := r.Commit("main", files("main", "1"), "x"); err != nil {
		f.Fatal(err)
	}
	if _, err := r.Commit("a", files("a", "1"), "x"); err != nil {
		f.Fatal(err)
	}
	mirrors, err := git.New(git.Config{Dir: dir})
	if err != nil {
		f.Fatal(err)
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		h, err := plaingit.New(plaingit.Config{
			Name: repo.Host, Git: mirrors, State: &memory{data},
			Repositories: map[vcs.Repository]vcs.Remote{repo: {URL: r.Dir}},
		})
		if err != nil {
			t.Fatal(err)
		}
		first, err := h.PullRequests(t.Context(), repo, time.Time{})
		if err != nil {
			return
		}
		if second, err := h.PullRequests(t.Context(), repo, time.Time{}); err != nil || len(second) != len(first) {
			t.Errorf("a second look has %d pull requests, the first had %d: %v", len(second), len(first), err)
		}
	})
}

type memory struct{ data []byte }

func (m *memory) Load(context.Context, vcs.Repository) ([]byte, error) { return m.data, nil }
func (m *memory) Save(_ context.Context, _ vcs.Repository, data []byte) error {
	m.data = data
	return nil
}
