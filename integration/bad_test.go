package integration

import (
	"bytes"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"strings"
	"testing"

	"holdfast/runner"
	"holdfast/store"
	"holdfast/vcs/gitea/giteatest"
	"holdfast/vcs/vcstest/gittest"
)

// badInput is a pull request with a mistake in it.
type badInput struct {
	name   string
	change gittest.Change
	// says is what the comment has to say of it.
	says []string
	// failed are the workspaces whose statuses are failures; planned those
	// that are planned nevertheless.
	failed, planned []string
}

// good is a change of the workspace e, which is in every one of these pull
// requests.
var good = map[string]string{"e/more.tf": server("more")}

func badInputs() []badInput {
	with := func(files map[string]string) map[string]string {
		for path, content := range good {
			files[path] = content
		}
		return files
	}
	return []badInput{
		{
			name:   "a module that does not parse",
			change: gittest.Change{Files: with(map[string]string{"c/broken.tf": "resource \"smallcloud_server\" \"x\" {\n  name = \"unfinished\n}\n"})},
			says:   []string{"c/broken.tf:2:", `name = "unfinished`},
			failed: []string{"c"}, planned: []string{"e"},
		},
		{
			name: "a cycle",
			change: gittest.Change{Files: with(map[string]string{
				"holdfast.hcl": "workspace \"c\" {\n  dir = \"c\"\n  depends_on = [\"d\"]\n}\nworkspace \"d\" {\n  dir = \"d\"\n  depends_on = [\"c\"]\n}\n",
				"c/more.tf":    server("morec"), "d/more.tf": server("mored"),
			})},
			says:   []string{"holdfast.hcl:", "depend", "c", "d"},
			failed: []string{"c", "d"}, planned: []string{"e"},
		},
		{
			name:   "a directory outside",
			change: gittest.Change{Files: with(map[string]string{"holdfast.hcl": "workspace \"out\" {\n  dir = \"../../etc\"\n}\n"})},
			says:   []string{"holdfast.hcl:2:", "../../etc", "leaves the repository"},
			failed: []string{"out"}, planned: []string{"e"},
		},
		{
			name:   "a variable file outside",
			change: gittest.Change{Files: with(map[string]string{"holdfast.hcl": "workspace \"c\" {\n  dir = \"c\"\n  var_files = [\"../../../etc/passwd\"]\n}\n", "c/more.tf": server("morec")})},
			says:   []string{"holdfast.hcl:3:", "leaves the repository"},
			failed: []string{"c"}, planned: []string{"e"},
		},
		{
			name:   "a variable file that is missing",
			change: gittest.Change{Files: with(map[string]string{"holdfast.hcl": "workspace \"c\" {\n  dir = \"c\"\n  var_files = [\"prod.tfvars\"]\n}\n", "c/more.tf": server("morec")})},
			says:   []string{"holdfast.hcl:3:", "prod.tfvars"},
			failed: []string{"c"}, planned: []string{"e"},
		},
		{
			name:   "a module outside",
			change: gittest.Change{Files: with(map[string]string{"c/out.tf": "module \"out\" {\n  source = \"../../outside\"\n}\n"})},
			says:   []string{"c/out.tf:2:", "../../outside"},
			failed: []string{"c"}, planned: []string{"e"},
		},
		{
			name:   "a plan that fails",
			change: gittest.Change{Files: with(map[string]string{"c/wrong.tf": "output \"wrong\" {\n  value = smallcloud_server.nobody.name\n}\n"})},
			says:   []string{"Reference to undeclared resource", "wrong.tf line 2"},
			failed: []string{"c"}, planned: []string{"e"},
		},
		{
			name:   "a provider that cannot be installed",
			change: gittest.Change{Files: with(map[string]string{"c/main.tf": "terraform {\n  required_providers {\n    nowhere = { source = \"registry.invalid/acme/nowhere\" }\n  }\n}\nprovider \"nowhere\" {}\n"})},
			says:   []string{"registry.invalid/acme/nowhere"},
			failed: []string{"c"}, planned: []string{"e"},
		},
		{
			name:   "a version that nobody has",
			change: gittest.Change{Files: with(map[string]string{"c/version.tf": "terraform {\n  required_version = \">= 99.0\"\n}\n"})},
			says:   []string{">= 99.0"},
			failed: []string{"c"}, planned: []string{"e"},
		},
		{
			name:   "a version that is none",
			change: gittest.Change{Files: with(map[string]string{"c/version.tf": "terraform {\n  required_version = \"newest\"\n}\n"})},
			says:   []string{"newest"},
			failed: []string{"c"}, planned: []string{"e"},
		},
	}
}

// TestBadContent says in the pull request what is wrong in its files, and
// plans what is not concerned.
func TestBadContent(t *testing.T) {
	t.Parallel()
	w := newWorld(t, fiveWorkspaces())
	// Nothing on the network is asked: it is as if there were none.
	w.env = []string{"HTTPS_PROXY=http://127.0.0.1:1", "TF_CLI_CONFIG_FILE="}
	w.start()
	for i, tc := range badInputs() {
		t.Run(tc.name, func(t *testing.T) {
			w := w.under(t)
			tc.change.Branch = fmt.Sprintf("bad%d", i)
			sha := w.repo.PushChange(tc.change)
			number := w.repo.OpenPull(giteatest.OpenPull{Head: tc.change.Branch})
			for _, name := range tc.failed {
				w.hasStatus(sha, "holdfast/"+name, "failure")
			}
			for _, name := range tc.planned {
				w.hasStatus(sha, "holdfast/"+name, "success")
			}
			w.hasStatus(sha, "holdfast", "failure")
			body := w.comment(number, append(tc.says, "smallcloud_server.more")...)
			if strings.Contains(body, "internal error") {
				t.Errorf("the comment speaks of an internal error:\n%s", body)
			}
		})
	}
	w.quiet()
	if !t.Failed() && strings.Contains(w.log.String(), "level=ERROR") {
		t.Errorf("mistakes of pull requests are errors in the server's log:\n%s", w.log)
	}
}

// under is the world in a subtest.
func (w *world) under(t *testing.T) *world {
	sub := *w
	sub.TB = t
	return &sub
}

// hasStatus waits until a commit's status is state.
func (w *world) hasStatus(sha, context, state string) {
	w.Helper()
	w.until(fmt.Sprintf("%s of %.8s is %s", context, sha, state), func() bool {
		return w.repo.Statuses(sha)[context].State == state
	})
}

// TestBadConfigurationFile shows where holdfast.hcl does not parse, and plans
// when it is mended, in the same comment.
func TestBadConfigurationFile(t *testing.T) {
	t.Parallel()
	w := newWorld(t, fiveWorkspaces())
	w.start()
	sha := w.repo.Push("bad", map[string]string{"holdfast.hcl": "engine = \"terraform\"\nworkspac \"c\" {\n  dir = \"c\"\n}\n", "c/more.tf": server("more")}, "Configure")
	number := w.repo.OpenPull(giteatest.OpenPull{Head: "bad"})
	w.comment(number, "holdfast.hcl:2:1", `workspac "c" {`, `did you mean "workspace"`)
	w.hasStatus(sha, "holdfast", "failure")
	id := w.repo.Comments(number)[0].ID
	sha = w.repo.Push("bad", map[string]string{"holdfast.hcl": "engine = \"terraform\nworkspace \"c\" {\n  dir = \"c\"\n}\n"}, "Mend one, break another")
	w.comment(number, "holdfast.hcl:1:", `engine = "terraform`)
	w.hasStatus(sha, "holdfast", "failure")
	sha = w.repo.Push("bad", map[string]string{"holdfast.hcl": "engine = \"terraform\"\nworkspace \"c\" {\n  dir = \"c\"\n  workspace = \"../c\"\n}\n"}, "Break a third")
	w.comment(number, "holdfast.hcl:4:", "../c")
	w.hasStatus(sha, "holdfast", "failure")
	if runs := w.runs(store.RunFilter{}); len(runs) != 0 {
		t.Errorf("there are runs:\n%s", w.describe())
	}
	sha = w.repo.Push("bad", map[string]string{"holdfast.hcl": "engine = \"terraform\"\nworkspace \"c\" {\n  dir = \"c\"\n}\n"}, "Mend it")
	if body := w.comment(number, "smallcloud_server.more"); strings.Contains(body, "holdfast.hcl:") {
		t.Errorf("the mistake is still shown:\n%s", body)
	}
	w.hasStatus(sha, "holdfast", "success")
	if got := w.repo.Comments(number)[0].ID; got != id {
		t.Errorf("comment %d became %d", id, got)
	}
	w.quiet()
}

// TestBadDefaultBranch goes on with what it knows when the default branch's
// configuration breaks, and plans the pull request that mends it.
func TestBadDefaultBranch(t *testing.T) {
	t.Parallel()
	w := newWorld(t, fiveWorkspaces())
	w.start()
	w.repo.Push("main", map[string]string{"holdfast.hcl": "defaults {\n"}, "Break it")
	w.until("the log says what is wrong", func() bool {
		return strings.Contains(w.log.String(), "the default branch's configuration cannot be read")
	})
	sha := w.repo.Push("mend", map[string]string{"holdfast.hcl": "defaults {\n}\n", "c/more.tf": server("more")}, "Mend it")
	number := w.repo.OpenPull(giteatest.OpenPull{Head: "mend"})
	w.comment(number, "smallcloud_server.more")
	w.hasStatus(sha, "holdfast", "success")
	w.repo.Merge(number, "merge")
	w.until("c is applied", func() bool { return w.cloud.created("more") == 1 })
	w.quiet()
}

// TestSymlinkOutside reads nothing through a link that leaves the repository.
func TestSymlinkOutside(t *testing.T) {
	t.Parallel()
	w := newWorld(t, fiveWorkspaces())
	w.start()
	sha := w.repo.PushChange(gittest.Change{Branch: "link", Files: good, Symlinks: map[string]string{"c/secrets.auto.tfvars": "../../../../etc/passwd"}})
	number := w.repo.OpenPull(giteatest.OpenPull{Head: "link"})
	body := w.comment(number, "c/secrets.auto.tfvars", "leaves the repository", "planned")
	if strings.Contains(body, "root:") {
		t.Errorf("the file was read:\n%s", body)
	}
	w.hasStatus(sha, "holdfast", "failure")
	w.hasStatus(sha, "holdfast/c", "failure")
	w.hasStatus(sha, "holdfast/e", "success")
	w.quiet()
}

// TestFailedPlanIsNotApplied holds what nobody could review.
func TestFailedPlanIsNotApplied(t *testing.T) {
	t.Parallel()
	w := newWorld(t, fiveWorkspaces())
	w.start()
	w.repo.Push("bad", map[string]string{"c/more.tf": server("more"), "c/wrong.tf": "output \"wrong\" {\n  value = var.nothing\n}\n"}, "Break it")
	number := w.repo.OpenPull(giteatest.OpenPull{Head: "bad"})
	w.comment(number, "Reference to undeclared input variable")
	w.repo.Merge(number, "merge")
	runs := w.ended(1, store.RunFilter{Kind: store.KindApply})
	if s := runs[0].State; s != store.Failed && s != store.Held {
		t.Errorf("the apply is %s", s)
	}
	if w.cloud.created("more") != 0 {
		t.Error("it was applied")
	}
	if s := w.workspace("c").State; s == runner.InSync {
		t.Errorf("the workspace is %s", s)
	}
	w.quiet()
}

// TestApplyThatFails says what the cloud refused and keeps what was made.
func TestApplyThatFails(t *testing.T) {
	t.Parallel()
	w := newWorld(t, fiveWorkspaces())
	w.start()
	w.repo.Push("half", map[string]string{"c/more.tf": server("fine") + server("refused", `fail = "create"`, "depends_on = [smallcloud_server.fine]")}, "Half of it")
	number := w.repo.OpenPull(giteatest.OpenPull{Head: "half"})
	w.comment(number, "refused")
	w.repo.Merge(number, "merge")
	if r := w.ended(1, store.RunFilter{Kind: store.KindApply})[0]; r.State != store.Failed {
		t.Errorf("the apply is %s", r.State)
	}
	w.comment(number, "Cannot create server refused", "What was applied is in the state",
		"Done: `smallcloud_server.c`, `smallcloud_server.fine`. Not done: `smallcloud_server.refused`.")
	if s := w.workspace("c").State; s != runner.Pending {
		t.Errorf("the workspace is %s", s)
	}
	// The next pull request mends it, and makes nothing twice.
	w.repo.Push("mend", map[string]string{"c/more.tf": server("fine") + server("refused", "depends_on = [smallcloud_server.fine]")}, "Mend it")
	first := number
	number = w.repo.OpenPull(giteatest.OpenPull{Head: "mend"})
	w.comment(number, "refused")
	w.repo.Merge(number, "merge")
	// Nothing piles on a broken workspace before a person has looked at it.
	w.comment(number, "waits for pull request `#"+strconv.Itoa(first)+"`", "Its apply failed", "position 1")
	w.repo.Grant("ada", "write")
	w.repo.Comment(first, "ada", "holdfast unlock")
	w.comment(number, "pplied")
	w.quiet()
	if w.cloud.created("fine") != 1 || len(w.cloud.resources()) != 3 {
		t.Errorf("the cloud has %+v", w.cloud.resources())
	}
}

// TestWebhookAnswers tells a host what became of its webhooks.
func TestWebhookAnswers(t *testing.T) {
	t.Parallel()
	w := newWorld(t, fiveWorkspaces())
	other := w.forge.CreateRepository("platform", "unlisted", map[string]string{"main.tf": app()})
	other.SetHook(w.url + "/webhooks/gitea")
	w.start()
	w.quiet() // the first look for what no webhook told is over
	w.forge.Hold()
	w.repo.Push("change", map[string]string{"c/more.tf": server("more")}, "change")
	w.repo.OpenPull(giteatest.OpenPull{Head: "change"})
	held := w.forge.Held()
	genuine := held[len(held)-1]
	large := bytes.Repeat([]byte(" "), 6<<20)
	for _, tc := range []struct {
		name   string
		body   []byte
		header http.Header
		want   int
	}{
		{"without a signature", genuine.Body, unsigned(genuine.Header), http.StatusUnauthorized},
		{"with another's signature", genuine.Body, signed(genuine.Header, "another secret", genuine.Body), http.StatusUnauthorized},
		{"changed on the way", append(bytes.Clone(genuine.Body), ' '), genuine.Header, http.StatusUnauthorized},
		{"too large", large, signed(genuine.Header, w.forge.Secret, large), http.StatusRequestEntityTooLarge},
		{"signed nonsense", []byte("{"), signed(genuine.Header, w.forge.Secret, []byte("{")), http.StatusBadRequest},
	} {
		if got, answer := w.post(tc.header, tc.body); got != tc.want {
			t.Errorf("%s: %d %s, want %d", tc.name, got, answer, tc.want)
		}
	}
	if runs := w.runs(store.RunFilter{}); len(runs) != 0 {
		t.Errorf("there are runs:\n%s", w.describe())
	}
	other.Push("change", map[string]string{"more.tf": server("more")}, "change")
	other.OpenPull(giteatest.OpenPull{Head: "change"})
	for _, d := range w.forge.Held() {
		if !strings.Contains(string(d.Body), "platform/unlisted") {
			continue
		}
		want := http.StatusAccepted // as for one that is listed
		if d.Event == "create" {
			want = http.StatusOK // of no use, whatever it is about
		}
		if got, answer := w.post(d.Header, d.Body); got != want || strings.Contains(answer, "unlisted") {
			t.Errorf("%s of an unlisted repository: %d %s", d.Event, got, answer)
		}
	}
	if got, answer := w.post(genuine.Header, genuine.Body); got != http.StatusAccepted {
		t.Errorf("the genuine one: %d %s", got, answer)
	}
	w.ended(1, store.RunFilter{})
	w.quiet()
}

// post sends a webhook of its own making.
func (w *world) post(header http.Header, body []byte) (status int, answer string) {
	w.Helper()
	req, err := http.NewRequest(http.MethodPost, w.url+"/webhooks/gitea", bytes.NewReader(body))
	if err != nil {
		w.Fatal(err)
	}
	req.Header = header
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		w.Fatal(err)
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if err != nil {
		w.Fatal(err)
	}
	return resp.StatusCode, string(text)
}

// unsigned are the headers of a webhook without its signatures.
func unsigned(h http.Header) http.Header {
	h = h.Clone()
	for name := range giteatest.Sign("", nil) {
		h.Del(name)
	}
	return h
}

// signed are the headers of a webhook with a signature of this body.
func signed(h http.Header, secret string, body []byte) http.Header {
	h = unsigned(h)
	for name, values := range giteatest.Sign(secret, body) {
		h[name] = values
	}
	return h
}

// TestFork plans nothing of a fork and says why.
func TestFork(t *testing.T) {
	t.Parallel()
	w := newWorld(t, fiveWorkspaces())
	w.start()
	fork := w.repo.Fork("stranger")
	fork.Push("change", map[string]string{"c/more.tf": server("more")}, "change")
	number := w.repo.OpenPull(giteatest.OpenPull{Head: "stranger:change"})
	w.comment(number, "fork", "nothing is planned")
	fork.Push("change", map[string]string{"c/more.tf": server("again")}, "again")
	w.quiet()
	if runs := w.runs(store.RunFilter{}); len(runs) != 0 {
		t.Errorf("there are runs:\n%s", w.describe())
	}
	// Whoever merges it takes it over, but nobody has seen a plan.
	w.repo.Merge(number, "merge")
	if r := w.ended(1, store.RunFilter{Kind: store.KindApply})[0]; r.State != store.Held {
		t.Errorf("the apply is %s", r.State)
	}
	w.quiet()
	if n := len(w.cloud.resources()); n != 0 {
		t.Errorf("the cloud has %d resources", n)
	}
}

// TestOtherBase plans a pull request into a branch that is not the default
// one, and applies nothing when it is merged.
func TestOtherBase(t *testing.T) {
	t.Parallel()
	w := newWorld(t, fiveWorkspaces())
	w.start()
	w.repo.Push("release", map[string]string{"README.md": "words\n"}, "Begin a release")
	w.repo.PushChange(gittest.Change{Branch: "change", From: "release", Files: map[string]string{"c/more.tf": server("more")}})
	number := w.repo.OpenPull(giteatest.OpenPull{Head: "change", Base: "release"})
	w.comment(number, "smallcloud_server.more")
	w.repo.Merge(number, "merge")
	w.comment(number, "Merged into release", "main")
	w.quiet()
	if runs := w.runs(store.RunFilter{Kind: store.KindApply}); len(runs) != 0 {
		t.Errorf("there are applies:\n%s", w.describe())
	}
	if n := len(w.cloud.resources()); n != 0 {
		t.Errorf("the cloud has %d resources", n)
	}
}
