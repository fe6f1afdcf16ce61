// Package vcstest is the suite that every vcs.Host passes, so that the runner
// can rely on the words of package vcs whichever host it works for.
//
// A host's own test supplies a Harness: the host, and a way to act as the
// people on the other side. What a host or its harness cannot do is not
// exercised: a capability is there when its interface is.
package vcstest

import (
	"net/http"
	"testing"
	"time"

	"holdfast/vcs"
)

// Harness is a host with one repository on it, which has a default branch
// "main" with at least one commit and no pull request. Its methods act as
// people do, and end the test where they fail.
type Harness interface {
	// Host is the host under test.
	Host() vcs.Host
	// Repository is the one that the test may change.
	Repository() vcs.Repository
	// Push commits files on top of branch, made from main if it does not
	// exist, and returns the branch's new commit.
	Push(branch string, files map[string]string) (sha string)
	// Open proposes branch for main and returns the pull request's number.
	Open(branch, title string) (number int)
	// Merge merges with a merge commit and returns the commit that main is
	// at.
	Merge(number int) (sha string)
	// Close ends a pull request without a merge.
	Close(number int)
	// Fetch returns the commit that remote's ref leads to, as a Git client
	// with the remote's credentials finds it.
	Fetch(remote vcs.Remote, ref string) (sha string)
}

// Forker is a harness whose host has forks.
type Forker interface {
	// OpenFork opens a pull request from somebody else's fork.
	OpenFork(branch string, files map[string]string) (number int)
}

// Drafter is a harness whose host has drafts.
type Drafter interface {
	// SetDraft turns a pull request into a draft or back.
	SetDraft(number int, draft bool)
}

// BranchDeleter is a harness that can delete a branch. What becomes of its pull
// request is up to the host.
type BranchDeleter interface {
	DeleteBranch(branch string)
}

// Reopener is a harness whose host opens a closed pull request again under the
// same number.
type Reopener interface {
	Reopen(number int)
}

// ForcePusher is a harness that can replace a branch's commits.
type ForcePusher interface {
	// ForcePush moves branch to a commit of files on main that does not contain
	// what it had, and returns it.
	ForcePush(branch string, files map[string]string) (sha string)
}

// Retargeter is a harness that can have a pull request go to another branch.
type Retargeter interface {
	Retarget(number int, base string)
}

// MergerBy is a harness that can merge in other ways.
type MergerBy interface {
	// MergeBy merges by "squash" or "rebase" and returns the commit that main is
	// at.
	MergeBy(number int, method string) (sha string)
}

// Renamer is a harness that can rename the repository; Repository then returns
// the new name.
type Renamer interface {
	Rename(name string)
}

// Remover is a harness that can make the repository disappear.
type Remover interface {
	Remove()
}

// Neighbour is a harness that can make another repository of the same owner.
type Neighbour interface {
	Beside(name string)
}

// Editor is a harness whose comments can be edited.
type Editor interface {
	EditAs(user string, number int, id int64, body string)
}

// Granter is a harness whose host has users with permissions.
type Granter interface {
	Grant(user string, p vcs.Permission)
}

// Commenter is a harness whose host has comments.
type Commenter interface {
	CommentAs(user string, number int, body string) (id int64)
	DeleteComment(number int, id int64)
}

// StatusReader is a harness that sees commit statuses.
type StatusReader interface {
	// Status returns the commit's status of that context, false where there is
	// none.
	Status(sha, context string) (vcs.Status, bool)
}

// NoteReader is a harness that sees notes.
type NoteReader interface {
	// Note returns the commit's note, empty where there is none.
	Note(sha string) string
}

// Reviewer is a harness whose host has reviews.
type Reviewer interface {
	// ReviewAs gives a verdict; an empty state is a comment without one.
	ReviewAs(user string, number int, state vcs.ReviewState)
	// DismissReviews makes a user's reviews count no more.
	DismissReviews(user string, number int)
}

// Ticketer is a harness whose host has issues.
type Ticketer interface {
	// OpenTicketAs opens an issue with a label.
	OpenTicketAs(user, title, body, label string) (number int)
	// ShownTicket returns an issue as people see it, and its labels.
	ShownTicket(number int) (t vcs.Ticket, labels []string)
	CommentTicketAs(user string, number int, body string) (id int64)
	// TicketTexts returns the comments on an issue, oldest first.
	TicketTexts(number int) []string
	SetTicketOpenAs(user string, number int, open bool)
	DeleteTicket(number int)
	SwitchTicketsOff()
	// RefuseLabels has the host take no labels from the token.
	RefuseLabels()
	// TellsOfTickets reports whether the host's webhooks tell of issues.
	TellsOfTickets() bool
}

// PullReader is a harness that sees what a pull request says.
type PullReader interface {
	PullText(number int) (title, body string)
}

// Sender is a harness whose host sends webhooks.
type Sender interface {
	// Sent returns what the host sent since the last call.
	Sent() []Webhook
}

// Webhook is one delivery as it arrives.
type Webhook struct {
	Header http.Header
	Body   []byte
}

// FaultKind is how a host's answers go wrong.
type FaultKind string

// The faults.
const (
	Internal  FaultKind = "internal"  // 500
	Limited   FaultKind = "limited"   // the rate limit, with a time to come back
	Garbage   FaultKind = "garbage"   // an answer that is no answer
	Truncated FaultKind = "truncated" // half an answer
	Broken    FaultKind = "broken"    // a broken connection
	Hanging   FaultKind = "hanging"   // no answer until the context ends
	Denied    FaultKind = "denied"    // the token is refused
	Lost      FaultKind = "lost"      // carried out, and the connection breaks before the answer
)

// Faulty is a harness whose host is a server that can fail.
type Faulty interface {
	// Fault makes the next n calls fail. Kinds that a harness cannot make
	// return false.
	Fault(kind FaultKind, n int) bool
}

// Run runs the suite. Each test gets a harness of its own, and they run at the
// same time.
func Run(t *testing.T, open func(t *testing.T) Harness) {
	for _, test := range []struct {
		name string
		run  func(*testing.T, Harness)
	}{
		{"Remote", testRemote},
		{"Opened", testOpened},
		{"Pushed", testPushed},
		{"Merged", testMerged},
		{"Closed", testClosed},
		{"BranchDeleted", testBranchDeleted},
		{"NotFound", testNotFound},
		{"List", testList},
		{"ListPages", testListPages},
		{"Fork", testFork},
		{"Draft", testDraft},
		{"Permission", testPermission},
		{"Comments", testComments},
		{"ManyComments", testManyComments},
		{"Statuses", testStatuses},
		{"Notes", testNotes},
		{"Reviews", testReviews},
		{"Merger", testMerger},
		{"Opener", testOpener},
		{"OpenerMistakes", testOpenerMistakes},
		{"OpenerConcurrent", testOpenerConcurrent},
		{"PullEditor", testPullEditor},
		{"Tickets", testTickets},
		{"FindTickets", testFindTickets},
		{"TicketsWithoutLabels", testTicketsWithoutLabels},
		{"TicketSizes", testTicketSizes},
		{"TicketsMissing", testTicketsMissing},
		{"TicketComments", testTicketComments},
		{"TicketEvents", testTicketEvents},
		{"TicketAnswerLost", testTicketAnswerLost},
		{"Webhooks", testWebhooks},
		{"WebhookSignature", testWebhookSignature},
		{"Redelivered", testRedelivered},
		{"WebhookDamaged", testWebhookDamaged},
		{"ForcePushed", testForcePushed},
		{"Retargeted", testRetargeted},
		{"MergedBy", testMergedBy},
		{"Renamed", testRenamed},
		{"Removed", testRemoved},
		{"CommentsSince", testCommentsSince},
		{"Acknowledge", testAcknowledge},
		{"Deployments", testDeployments},
		{"Lister", testLister},
		{"Grants", testGrants},
		{"Hooks", testHooks},
		{"Sizes", testSizes},
		{"Faults", testFaults},
		{"Canceled", testCanceled},
		{"Concurrent", testConcurrent},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel() // they wait for disks and sockets more than they compute
			test.run(t, open(t))
		})
	}
}

// change is a file that differs from branch to branch, so that no two commits
// are one.
func change(name string) map[string]string {
	return map[string]string{"live/" + name + "/main.tf": "# " + name + "\n"}
}

// longAgo is before anything that a harness does.
var longAgo = time.Date(2000, 1, 1, 0, 0, 0, 0, time.UTC)

func pullRequest(t *testing.T, h Harness, number int) vcs.PullRequest {
	t.Helper()
	pr, err := h.Host().PullRequest(t.Context(), h.Repository(), number)
	if err != nil {
		t.Fatalf("PullRequest(%d): %v", number, err)
	}
	return pr
}

func pullRequests(t *testing.T, h Harness, since time.Time) map[int]vcs.PullRequest {
	t.Helper()
	prs, err := h.Host().PullRequests(t.Context(), h.Repository(), since)
	if err != nil {
		t.Fatalf("PullRequests: %v", err)
	}
	found := map[int]vcs.PullRequest{}
	for _, pr := range prs {
		if _, twice := found[pr.Number]; twice {
			t.Errorf("pull request %d is listed twice", pr.Number)
		}
		found[pr.Number] = pr
	}
	return found
}

func remote(t *testing.T, h Harness) vcs.Remote {
	t.Helper()
	r, err := h.Host().Remote(t.Context(), h.Repository())
	if err != nil {
		t.Fatalf("Remote: %v", err)
	}
	return r
}

func capability[T any](t *testing.T, h Harness) (T, bool) {
	t.Helper()
	c, ok := h.Host().(T)
	if !ok {
		t.Logf("%T has no %T", h.Host(), (*T)(nil))
	}
	return c, ok
}
