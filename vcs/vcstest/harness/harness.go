// Package harness is what vcstest needs of a fake host: a host's own test makes
// one of a forge.Server and the host under test.
package harness

import (
	"io"
	"net/http"
	"net/http/httptest"
	"sync"
	"testing"

	"github.com/go-git/go-git/v5"
	"github.com/go-git/go-git/v5/config"
	githttp "github.com/go-git/go-git/v5/plumbing/transport/http"

	"holdfast/vcs"
	"holdfast/vcs/vcstest"
	"holdfast/vcs/vcstest/forge"
)

// Harness is a host on a forge.Server.
type Harness struct {
	T    testing.TB
	Srv  *forge.Server
	Repo *forge.Repository
	// Tested is the host under test.
	Tested vcs.Host
	// DraftTitle is set where drafts are a matter of the title.
	DraftTitle bool
	// Shown, where set, finds a status in place of Repository.Statuses.
	Shown func(sha, context string) (vcs.Status, bool)
	// States are the host's words for statuses, where they are others.
	States map[string]vcs.StatusState
	// NoTicketEvents is set where webhooks do not tell of issues.
	NoTicketEvents bool

	mu   sync.Mutex
	sent []vcstest.Webhook
}

var (
	_ vcstest.Harness       = (*Harness)(nil)
	_ vcstest.BranchDeleter = (*Harness)(nil)
	_ vcstest.Reopener      = (*Harness)(nil)
	_ vcstest.Sender        = (*Harness)(nil)
	_ vcstest.Faulty        = (*Harness)(nil)
	_ vcstest.ForcePusher   = (*Harness)(nil)
	_ vcstest.Retargeter    = (*Harness)(nil)
	_ vcstest.MergerBy      = (*Harness)(nil)
	_ vcstest.Remover       = (*Harness)(nil)
	_ vcstest.Renamer       = (*Harness)(nil)
	_ vcstest.Neighbour     = (*Harness)(nil)
	_ vcstest.Editor        = (*Harness)(nil)
	_ vcstest.Ticketer      = (*Harness)(nil)
	_ vcstest.PullReader    = (*Harness)(nil)
)

// New makes a repository on a server, whose webhooks it receives.
func New(t testing.TB, srv *forge.Server, owner string) *Harness {
	t.Helper()
	h := &Harness{T: t, Srv: srv}
	receiver := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		if err != nil {
			return // the sender is being closed at the end of the test
		}
		h.mu.Lock()
		defer h.mu.Unlock()
		h.sent = append(h.sent, vcstest.Webhook{Header: r.Header.Clone(), Body: body})
	}))
	t.Cleanup(receiver.Close)
	h.Repo = srv.CreateRepository(owner, "network", map[string]string{"live/vpc/main.tf": "# one\n"})
	h.Repo.SetHook(receiver.URL)
	return h
}

// Host implements vcstest.Harness.
func (h *Harness) Host() vcs.Host { return h.Tested }

// Repository implements vcstest.Harness.
func (h *Harness) Repository() vcs.Repository {
	return vcs.Repository{Host: h.Srv.Name, Owner: h.Repo.Owner, Name: h.Repo.Name}
}

// Push implements vcstest.Harness.
func (h *Harness) Push(branch string, files map[string]string) string {
	return h.Repo.Push(branch, files, "change")
}

// ForcePush implements vcstest.ForcePusher.
func (h *Harness) ForcePush(branch string, files map[string]string) string {
	h.Repo.Push(branch+"-again", files, "another")
	h.Repo.ForcePush(branch, branch+"-again")
	return h.Repo.Git.Head(branch)
}

// Open implements vcstest.Harness.
func (h *Harness) Open(branch, title string) int {
	return h.Repo.OpenPull(forge.OpenPull{Head: branch, Title: title})
}

// Merge implements vcstest.Harness.
func (h *Harness) Merge(n int) string { return h.Repo.Merge(n, "merge") }

// MergeBy implements vcstest.MergerBy.
func (h *Harness) MergeBy(n int, method string) string { return h.Repo.Merge(n, method) }

// Close implements vcstest.Harness.
func (h *Harness) Close(n int) { h.Repo.Close(n) }

// Reopen implements vcstest.Reopener.
func (h *Harness) Reopen(n int) { h.Repo.Reopen(n) }

// Retarget implements vcstest.Retargeter.
func (h *Harness) Retarget(n int, base string) { h.Repo.Retarget(n, base) }

// Rename implements vcstest.Renamer.
func (h *Harness) Rename(name string) { h.Repo.Rename(name) }

// Remove implements vcstest.Remover.
func (h *Harness) Remove() { h.Repo.Remove() }

// Beside implements vcstest.Neighbour.
func (h *Harness) Beside(name string) {
	h.Srv.CreateRepository(h.Repo.Owner, name, map[string]string{"f": "1"})
}

// DeleteBranch implements vcstest.BranchDeleter.
func (h *Harness) DeleteBranch(branch string) { h.Repo.DeleteBranch(branch) }

// Fetch implements vcstest.Harness.
func (h *Harness) Fetch(remote vcs.Remote, ref string) string {
	h.T.Helper()
	g, err := git.PlainInit(h.T.TempDir(), true)
	if err != nil {
		h.T.Fatal(err)
	}
	r, err := g.CreateRemote(&config.RemoteConfig{Name: "origin", URLs: []string{remote.URL}})
	if err != nil {
		h.T.Fatal(err)
	}
	err = r.Fetch(&git.FetchOptions{
		Auth:     &githttp.BasicAuth{Username: remote.Username, Password: remote.Password},
		RefSpecs: []config.RefSpec{config.RefSpec("+" + ref + ":refs/fetched")},
		Tags:     git.NoTags,
	})
	if err != nil {
		h.T.Fatalf("fetch %s: %v", ref, err)
	}
	got, err := g.Reference("refs/fetched", false)
	if err != nil {
		h.T.Fatal(err)
	}
	return got.Hash().String()
}

// OpenFork implements vcstest.Forker.
func (h *Harness) OpenFork(branch string, files map[string]string) int {
	fork := h.Repo.Fork("stranger")
	fork.Push(branch, files, "theirs")
	return h.Repo.OpenPull(forge.OpenPull{Head: "stranger:" + branch})
}

// SetDraft implements vcstest.Drafter.
func (h *Harness) SetDraft(n int, draft bool) {
	if !h.DraftTitle {
		h.Repo.SetDraft(n, draft)
		return
	}
	title := "Change"
	if draft {
		title = "wip: Change"
	}
	h.Repo.Retitle(n, title)
}

// Grant implements vcstest.Granter.
func (h *Harness) Grant(user string, p vcs.Permission) { h.Repo.Grant(user, string(p)) }

// CommentAs implements vcstest.Commenter.
func (h *Harness) CommentAs(user string, n int, body string) int64 {
	return h.Repo.Comment(n, user, body)
}

// DeleteComment implements vcstest.Commenter.
func (h *Harness) DeleteComment(n int, id int64) { h.Repo.DeleteComment(n, id) }

// EditAs implements vcstest.Editor.
func (h *Harness) EditAs(user string, n int, id int64, body string) {
	h.Srv.Lock()
	defer h.Srv.Unlock()
	p, c := h.Repo.FindComment(id)
	if c == nil || p.Number != n {
		h.T.Fatalf("no comment %d", id)
	}
	h.Repo.ChangeComment(p, c, body, user)
}

// Status implements vcstest.StatusReader.
func (h *Harness) Status(sha, context string) (vcs.Status, bool) {
	if h.Shown != nil {
		return h.Shown(sha, context)
	}
	s, ok := h.Repo.Statuses(sha)[context]
	state := vcs.StatusState(s.State)
	if word, other := h.States[s.State]; other {
		state = word
	}
	return vcs.Status{Context: context, State: state, Description: s.Description, URL: s.URL}, ok
}

// ReviewAs implements vcstest.Reviewer.
func (h *Harness) ReviewAs(user string, n int, state vcs.ReviewState) {
	h.Repo.Review(n, user, map[vcs.ReviewState]string{
		vcs.Approved: "APPROVED", vcs.ChangesRequested: "REQUEST_CHANGES", "": "COMMENT",
	}[state], "because")
}

// DismissReviews implements vcstest.Reviewer.
func (h *Harness) DismissReviews(user string, n int) { h.Repo.DismissReviews(n, user) }

// OpenTicketAs implements vcstest.Ticketer.
func (h *Harness) OpenTicketAs(user, title, body, label string) int {
	return h.Repo.OpenIssue(user, title, body, label)
}

// ShownTicket implements vcstest.Ticketer.
func (h *Harness) ShownTicket(n int) (vcs.Ticket, []string) {
	h.T.Helper()
	i := h.Repo.Issue(n)
	return vcs.Ticket{Number: n, Title: i.Title, Body: i.Body, Open: i.State == "open"}, i.Labels
}

// CommentTicketAs implements vcstest.Ticketer.
func (h *Harness) CommentTicketAs(user string, n int, body string) int64 {
	return h.Repo.CommentIssue(n, user, body)
}

// TicketTexts implements vcstest.Ticketer.
func (h *Harness) TicketTexts(n int) []string {
	var all []string
	for _, c := range h.Repo.Issue(n).Comments {
		all = append(all, c.Body)
	}
	return all
}

// SetTicketOpenAs implements vcstest.Ticketer.
func (h *Harness) SetTicketOpenAs(user string, n int, open bool) { h.Repo.SetIssueOpen(n, user, open) }

// DeleteTicket implements vcstest.Ticketer.
func (h *Harness) DeleteTicket(n int) { h.Repo.DeleteIssue(n) }

// SwitchTicketsOff implements vcstest.Ticketer.
func (h *Harness) SwitchTicketsOff() { h.Repo.SwitchIssues(false) }

// RefuseLabels implements vcstest.Ticketer.
func (h *Harness) RefuseLabels() { h.Repo.RefuseLabels() }

// TellsOfTickets implements vcstest.Ticketer.
func (h *Harness) TellsOfTickets() bool { return !h.NoTicketEvents }

// PullText implements vcstest.PullReader.
func (h *Harness) PullText(n int) (title, body string) {
	p := h.Repo.Pull(n)
	return p.Title, p.Body
}

// Sent implements vcstest.Sender.
func (h *Harness) Sent() []vcstest.Webhook {
	h.T.Helper()
	if err := h.Srv.Wait(h.T.Context()); err != nil {
		h.T.Fatal(err)
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	sent := h.sent
	h.sent = nil
	return sent
}

// Fault implements vcstest.Faulty.
func (h *Harness) Fault(kind vcstest.FaultKind, n int) bool {
	kinds := map[vcstest.FaultKind]forge.FaultKind{
		vcstest.Internal: forge.Fail500, vcstest.Limited: forge.RateLimit, vcstest.Garbage: forge.Garbage,
		vcstest.Truncated: forge.Truncated, vcstest.Broken: forge.Reset, vcstest.Hanging: forge.Hang,
		vcstest.Denied: forge.Denied, vcstest.Lost: forge.Lost,
	}
	k, ok := kinds[kind]
	if ok {
		h.Srv.Fail(forge.Fault{Kind: k, Times: n})
	}
	return ok
}
