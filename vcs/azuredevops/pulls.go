package azuredevops

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"holdfast/vcs"
	"holdfast/vcs/transport"
)

const (
	pageSize       = 100
	maxPages       = 2000
	maxComment     = 150_000 // characters
	maxTitle       = 255
	maxBody        = 4_000 // of a pull request's description
	maxDescription = 250   // of a status
	genre          = "holdfast"
)

type identity struct {
	UniqueName string `json:"uniqueName"`
}

type commitRef struct {
	ID string `json:"commitId"`
}

type pull struct {
	ID          int64      `json:"pullRequestId"`
	Title       string     `json:"title"`
	Status      string     `json:"status"`
	Draft       bool       `json:"isDraft"`
	CreatedBy   identity   `json:"createdBy"`
	Created     time.Time  `json:"creationDate"`
	Closed      time.Time  `json:"closedDate"`
	Source      string     `json:"sourceRefName"`
	Target      string     `json:"targetRefName"`
	MergeStatus string     `json:"mergeStatus"`
	SourceSHA   *commitRef `json:"lastMergeSourceCommit"`
	TargetSHA   *commitRef `json:"lastMergeTargetCommit"`
	MergeSHA    *commitRef `json:"lastMergeCommit"`
	Fork        *struct {
		Name string `json:"name"`
	} `json:"forkSource"`
	Reviewers []struct {
		identity
		Vote int `json:"vote"`
	} `json:"reviewers"`
}

func (p pull) state() vcs.PullState {
	switch p.Status {
	case "active":
		return vcs.Open
	case "completed":
		return vcs.Merged
	}
	return vcs.Closed
}

func (h *Host) convert(r vcs.Repository, p pull) (vcs.PullRequest, error) {
	if p.ID <= 0 || p.Target == "" {
		return vcs.PullRequest{}, errors.New("the host's answer is not a pull request")
	}
	pr := vcs.PullRequest{
		Repository: r, Number: int(p.ID), Title: p.Title, Author: p.CreatedBy.UniqueName, State: p.state(), Draft: p.Draft, Fork: p.Fork != nil,
		URL:     h.cfg.URL + "/" + escaped(r.Owner) + "/_git/" + url.PathEscape(r.Name) + "/pullrequest/" + strconv.FormatInt(p.ID, 10),
		HeadRef: strings.TrimPrefix(p.Source, "refs/heads/"), BaseRef: strings.TrimPrefix(p.Target, "refs/heads/"), UpdatedAt: p.Created,
	}
	if !pr.Fork {
		pr.FetchRef = p.Source
	}
	if p.SourceSHA != nil && transport.IsSHA(p.SourceSHA.ID) {
		pr.HeadSHA = p.SourceSHA.ID
	} else if pr.State == vcs.Open {
		return vcs.PullRequest{}, errors.New("the host names no head commit")
	}
	if p.TargetSHA != nil && transport.IsSHA(p.TargetSHA.ID) {
		pr.BaseSHA = p.TargetSHA.ID
	}
	if !p.Closed.IsZero() {
		pr.UpdatedAt = p.Closed
	}
	if pr.State == vcs.Merged {
		if p.MergeSHA == nil || !transport.IsSHA(p.MergeSHA.ID) {
			return vcs.PullRequest{}, errors.New("the host says that it is merged and names no merge commit")
		}
		pr.MergeSHA, pr.MergedAt = p.MergeSHA.ID, p.Closed
	}
	return pr, nil
}

func pullPath(r vcs.Repository, n int, rest string) string {
	return at(r, "/pullrequests/"+strconv.Itoa(n)+rest)
}

func (h *Host) pull(ctx context.Context, r vcs.Repository, n int) (p pull, err error) {
	if _, err = h.api.Do(ctx, http.MethodGet, pullPath(r, n, ""), nil, &p); err != nil {
		return p, transport.Wrap(err, "read pull request %s#%d", r, n)
	}
	return p, nil
}

// PullRequest returns one pull request as it is now.
func (h *Host) PullRequest(ctx context.Context, r vcs.Repository, n int) (vcs.PullRequest, error) {
	p, err := h.pull(ctx, r, n)
	if err != nil {
		return vcs.PullRequest{}, err
	}
	pr, err := h.convert(r, p)
	if err == nil && pr.Number != n {
		err = fmt.Errorf("the host answered pull request %d", pr.Number)
	}
	if err != nil {
		return vcs.PullRequest{}, fmt.Errorf("read pull request %s#%d: %w", r, n, err)
	}
	return pr, nil
}

// list hands on the pull requests that a query finds, until visit returns false.
func (h *Host) list(ctx context.Context, r vcs.Repository, query string, visit func(pull) bool) error {
	for page := range maxPages {
		var list struct {
			Value []pull `json:"value"`
		}
		if _, err := h.api.Do(ctx, http.MethodGet, at(r, fmt.Sprintf("/pullrequests?%s&$top=%d&$skip=%d", query, pageSize, page*pageSize)), nil, &list); err != nil {
			return err
		}
		for _, p := range list.Value {
			if !visit(p) {
				return nil
			}
		}
		if len(list.Value) < pageSize {
			return nil
		}
	}
	return fmt.Errorf("the host's list has no end after %d pages", maxPages)
}

// endedSince is a query's part.
func endedSince(since time.Time) string {
	// Whole hours, so that the address stays the same for a while.
	return "searchCriteria.queryTimeRangeType=closed&searchCriteria.minTime=" + url.QueryEscape(since.UTC().Truncate(time.Hour).Format(time.RFC3339))
}

// PullRequests returns the open ones and those that ended since.
func (h *Host) PullRequests(ctx context.Context, r vcs.Repository, since time.Time) ([]vcs.PullRequest, error) {
	found := map[int64]pull{}
	add := func(p pull) bool {
		if p.Closed.IsZero() || !p.Closed.Before(since) {
			found[p.ID] = p
		} else {
			delete(found, p.ID)
		}
		return true
	}
	for _, query := range []string{"searchCriteria.status=active", "searchCriteria.status=completed&" + endedSince(since), "searchCriteria.status=abandoned&" + endedSince(since)} {
		if err := h.list(ctx, r, query, add); err != nil {
			return nil, transport.Wrap(err, "list pull requests of %s", r)
		}
	}
	var pulls []vcs.PullRequest
	for _, p := range found {
		pr, err := h.convert(r, p)
		if err != nil {
			h.cfg.Logger.WarnContext(ctx, "skip a pull request that the host describes badly", "repository", r.String(), "number", p.ID, "error", err)
			continue
		}
		pulls = append(pulls, pr)
	}
	slices.SortFunc(pulls, func(a, b vcs.PullRequest) int { return a.Number - b.Number })
	return pulls, nil
}

// A comment's id has its thread's in the lower 40 bits, and above them its place
// in the thread: the first comment of a thread has the thread's own number.
const threadBits = 40

func commentID(thread, place int64) int64 { return (place-1)<<threadBits | thread }

func placeOf(id int64) (thread, place int64) { return id & (1<<threadBits - 1), id>>threadBits + 1 }

type comment struct {
	ID        int64     `json:"id"`
	Author    identity  `json:"author"`
	Content   string    `json:"content"`
	Published time.Time `json:"publishedDate"`
	Changed   time.Time `json:"lastContentUpdatedDate"`
	Type      string    `json:"commentType"`
	Deleted   bool      `json:"isDeleted"`
}

type thread struct {
	Properties struct {
		Type struct {
			Value string `json:"$value"`
		} `json:"CodeReviewThreadType"`
	} `json:"properties"`
	ID       int64     `json:"id"`
	Comments []comment `json:"comments"`
	Deleted  bool      `json:"isDeleted"`
}

// MaxComment is the longest body, in bytes.
func (h *Host) MaxComment() int { return maxComment }

// Comments returns all comments of people and programs, oldest first.
func (h *Host) Comments(ctx context.Context, r vcs.Repository, n int) ([]vcs.Comment, error) {
	threads, err := h.threads(ctx, r, n)
	if err != nil {
		return nil, err
	}
	var found []vcs.Comment
	for _, t := range threads {
		for _, c := range t.Comments {
			if t.Deleted || c.Deleted || c.Type == "system" {
				continue
			}
			found = append(found, vcs.Comment{ID: commentID(t.ID, c.ID), Number: n, Author: c.Author.UniqueName, Body: c.Content, CreatedAt: c.Published})
		}
	}
	slices.SortFunc(found, func(a, b vcs.Comment) int {
		return cmp.Or(a.CreatedAt.Compare(b.CreatedAt), cmp.Compare(a.ID, b.ID))
	})
	return found, nil
}

func (h *Host) threads(ctx context.Context, r vcs.Repository, n int) ([]thread, error) {
	var list struct {
		Value []thread `json:"value"`
	}
	if _, err := h.api.Do(ctx, http.MethodGet, pullPath(r, n, "/threads"), nil, &list); err != nil {
		return nil, transport.Wrap(err, "list comments of %s#%d", r, n)
	}
	return list.Value, nil
}

// CommentsSince asks the open pull requests, and those that ended within a day:
// the host does not tell which were commented on.
func (h *Host) CommentsSince(ctx context.Context, r vcs.Repository, since time.Time) ([]vcs.Comment, error) {
	var numbers []int
	for _, query := range []string{"searchCriteria.status=active", "searchCriteria.status=completed&" + endedSince(since.Add(-24*time.Hour))} {
		err := h.list(ctx, r, query, func(p pull) bool {
			numbers = append(numbers, int(p.ID))
			return true
		})
		if err != nil {
			return nil, transport.Wrap(err, "list pull requests of %s", r)
		}
	}
	var found []vcs.Comment
	for _, n := range numbers {
		all, err := h.Comments(ctx, r, n)
		if err != nil {
			return nil, err
		}
		for _, c := range all {
			if !c.CreatedAt.Before(since) {
				found = append(found, c)
			}
		}
	}
	slices.SortFunc(found, func(a, b vcs.Comment) int {
		return cmp.Or(a.CreatedAt.Compare(b.CreatedAt), cmp.Compare(a.ID, b.ID))
	})
	return found, nil
}

// CreateComment begins a thread that is closed: it is no question that somebody
// would have to resolve.
func (h *Host) CreateComment(ctx context.Context, r vcs.Repository, n int, body string) (vcs.Comment, error) {
	var t thread
	_, err := h.api.Do(ctx, http.MethodPost, pullPath(r, n, "/threads"), map[string]any{
		"status": "closed", "comments": []any{map[string]any{"parentCommentId": 0, "content": transport.Storable(body), "commentType": "text"}},
	}, &t)
	if err == nil && (t.ID <= 0 || len(t.Comments) == 0) {
		err = errors.New("the host answered without the comment's id")
	}
	if err != nil {
		return vcs.Comment{}, transport.Wrap(err, "comment on %s#%d", r, n)
	}
	c := t.Comments[0]
	return vcs.Comment{ID: commentID(t.ID, c.ID), Number: n, Author: c.Author.UniqueName, Body: c.Content, CreatedAt: c.Published}, nil
}

// EditComment replaces a comment's body; vcs.ErrNotFound where it is gone.
func (h *Host) EditComment(ctx context.Context, r vcs.Repository, n int, id int64, body string) error {
	t, c := placeOf(id)
	var now comment
	_, err := h.api.Do(ctx, http.MethodPatch, pullPath(r, n, fmt.Sprintf("/threads/%d/comments/%d", t, c)), map[string]string{"content": transport.Storable(body)}, &now)
	if err == nil && now.Deleted {
		err = vcs.ErrNotFound
	}
	if err != nil {
		return transport.Wrap(err, "edit comment %d of %s#%d", id, r, n)
	}
	return nil
}

var (
	toAzure   = map[vcs.StatusState]string{vcs.StatusPending: "pending", vcs.StatusSuccess: "succeeded", vcs.StatusFailure: "failed", vcs.StatusError: "error"}
	fromAzure = map[string]vcs.StatusState{"pending": vcs.StatusPending, "succeeded": vcs.StatusSuccess, "failed": vcs.StatusFailure, "error": vcs.StatusError}
)

// SetStatus adds a status to a commit; the host shows the latest of a context.
func (h *Host) SetStatus(ctx context.Context, r vcs.Repository, sha string, s vcs.Status) error {
	if !transport.IsSHA(sha) {
		return fmt.Errorf("set status %s on %s: %q is not a commit id", s.Context, r, sha)
	}
	in := map[string]any{
		"state": toAzure[s.State], "description": transport.Cut(transport.Storable(s.Description), maxDescription),
		"context": map[string]string{"name": transport.Cut(s.Context, maxTitle), "genre": genre},
	}
	if s.URL != "" {
		in["targetUrl"] = s.URL
	}
	if _, err := h.api.Do(ctx, http.MethodPost, at(r, "/commits/"+sha+"/statuses"), in, nil); err != nil {
		return transport.Wrap(err, "set status %s on %s@%.12s", s.Context, r, sha)
	}
	return nil
}

// Statuses returns the latest of each context.
func (h *Host) Statuses(ctx context.Context, r vcs.Repository, sha string) ([]vcs.Status, error) {
	var list struct {
		Value []struct {
			State   string `json:"state"`
			Context struct {
				Name  string `json:"name"`
				Genre string `json:"genre"`
			} `json:"context"`
		} `json:"value"`
	}
	if _, err := h.api.Do(ctx, http.MethodGet, at(r, "/commits/"+url.PathEscape(sha)+"/statuses?latestOnly=true&$top=1000"), nil, &list); err != nil {
		return nil, transport.Wrap(err, "list statuses of %s@%.12s", r, sha)
	}
	var found []vcs.Status
	for _, s := range list.Value {
		if s.Context.Genre == genre {
			found = append(found, vcs.Status{Context: s.Context.Name, State: fromAzure[s.State]})
		}
	}
	return found, nil
}

// Reviews returns the votes that count now: 10 and 5 approve, -5 and -10 do not.
// When each was given is in what the host itself writes about it. One from before
// the latest push is stale, and so is one whose time is not told.
func (h *Host) Reviews(ctx context.Context, r vcs.Repository, n int) ([]vcs.Review, error) {
	p, err := h.pull(ctx, r, n)
	if err != nil {
		return nil, err
	}
	var found []vcs.Review
	for _, v := range p.Reviewers {
		switch {
		case v.Vote > 0:
			found = append(found, vcs.Review{Author: v.UniqueName, State: vcs.Approved})
		case v.Vote < 0:
			found = append(found, vcs.Review{Author: v.UniqueName, State: vcs.ChangesRequested})
		}
	}
	if len(found) == 0 {
		return nil, nil
	}
	pushed, voted, err := h.times(ctx, r, n)
	if err != nil {
		return nil, err
	}
	for i := range found {
		found[i].At = voted[found[i].Author]
		found[i].Stale = !found[i].At.After(pushed)
	}
	slices.SortStableFunc(found, func(a, b vcs.Review) int { return a.At.Compare(b.At) })
	return found, nil
}

// times are when the pull request was last pushed to, and when each reviewer last
// voted, by the host's clock.
func (h *Host) times(ctx context.Context, r vcs.Repository, n int) (pushed time.Time, voted map[string]time.Time, err error) {
	var iterations struct {
		Value []struct {
			Created time.Time `json:"createdDate"`
		} `json:"value"`
	}
	if _, err := h.api.Do(ctx, http.MethodGet, pullPath(r, n, "/iterations"), nil, &iterations); err != nil {
		return pushed, nil, transport.Wrap(err, "list pushes to %s#%d", r, n)
	}
	for _, i := range iterations.Value {
		if i.Created.After(pushed) {
			pushed = i.Created
		}
	}
	threads, err := h.threads(ctx, r, n)
	if err != nil {
		return pushed, nil, err
	}
	voted = map[string]time.Time{}
	for _, t := range threads {
		if t.Properties.Type.Value != "VoteUpdate" || len(t.Comments) == 0 {
			continue
		}
		if c := t.Comments[0]; c.Published.After(voted[c.Author.UniqueName]) {
			voted[c.Author.UniqueName] = c.Published
		}
	}
	return pushed, voted, nil
}

// Mergeable is what the host's own try to merge has come to.
func (h *Host) Mergeable(ctx context.Context, r vcs.Repository, n int) (bool, error) {
	p, err := h.pull(ctx, r, n)
	return err == nil && p.state() == vcs.Open && !p.Draft && p.MergeStatus == "succeeded", err
}

// Merge completes the pull request if its head is still sha.
func (h *Host) Merge(ctx context.Context, r vcs.Repository, n int, sha, method string) error {
	if err := transport.CheckMerge(sha, method); err != nil {
		return fmt.Errorf("merge %s#%d: %w", r, n, err)
	}
	strategy := map[string]string{"merge": "noFastForward", "squash": "squash", "rebase": "rebase"}[method]
	var now pull
	_, err := h.api.Do(ctx, http.MethodPatch, pullPath(r, n, ""), map[string]any{
		"status": "completed", "lastMergeSourceCommit": commitRef{sha}, "completionOptions": map[string]string{"mergeStrategy": strategy},
	}, &now)
	if err == nil && now.state() == vcs.Merged {
		return nil
	}
	var answer *transport.Error
	if err != nil && (!errors.As(err, &answer) || !slices.Contains([]int{http.StatusBadRequest, http.StatusConflict, http.StatusForbidden}, answer.Status) || errors.Is(err, vcs.ErrNotFound)) {
		return transport.Wrap(err, "merge %s#%d", r, n)
	}
	if now, err = h.pull(ctx, r, n); err != nil {
		return err
	}
	if now.state() == vcs.Merged && now.SourceSHA != nil && now.SourceSHA.ID == sha {
		return nil
	}
	return fmt.Errorf("merge %s#%d: %w", r, n, notMerged(now, sha, answer))
}

func notMerged(p pull, sha string, answer *transport.Error) *vcs.NotMergedError {
	e := &vcs.NotMergedError{}
	head, base := "", transport.Printable(strings.TrimPrefix(p.Target, "refs/heads/"))
	if p.SourceSHA != nil {
		head = transport.Printable(p.SourceSHA.ID)
	}
	switch {
	case p.state() == vcs.Merged:
		e.Reason = fmt.Sprintf("it was merged already, with the head %.12s instead of %.12s", head, sha)
	case p.state() == vcs.Closed:
		e.Reason, e.Advice = "it is abandoned", "Reactivate it to have it merged."
	case head != sha:
		e.Reason, e.Advice = fmt.Sprintf("its head has moved from %.12s to %.12s", sha, head), "Look at what was pushed meanwhile."
	case p.Draft:
		e.Reason, e.Advice = "it is a draft", "Publish it."
	case p.MergeStatus == "conflicts":
		e.Reason, e.Advice = "it conflicts with "+base, "Bring the branch up to date with "+base+"."
	case answer == nil || p.MergeStatus == "queued":
		e.Reason, e.Again = "the host is still merging, or looking for conflicts with "+base, true
	default:
		e.Reason, e.Advice = "the host says: "+answer.Message, "The policies of "+base+" are under Project settings, Repositories, Policies."
	}
	return e
}

// OpenPull opens a pull request, or returns the one that is open already.
func (h *Host) OpenPull(ctx context.Context, r vcs.Repository, n vcs.NewPull) (vcs.PullRequest, error) {
	pr, err := h.openPull(ctx, r, n)
	if err != nil {
		return vcs.PullRequest{}, transport.Wrap(err, "open pull request from %s to %s in %s", transport.Printable(n.Branch), transport.Printable(n.Base), r)
	}
	return pr, nil
}

func (h *Host) openPull(ctx context.Context, r vcs.Repository, n vcs.NewPull) (vcs.PullRequest, error) {
	if err := transport.CheckBranches(n); err != nil {
		return vcs.PullRequest{}, err
	}
	for _, branch := range []string{n.Branch, n.Base} {
		var refs struct{ Value []struct{ Name string } }
		if _, err := h.api.Do(ctx, http.MethodGet, at(r, "/refs?filter="+url.QueryEscape("heads/"+branch)), nil, &refs); err != nil {
			return vcs.PullRequest{}, err
		}
		if !slices.ContainsFunc(refs.Value, func(x struct{ Name string }) bool { return x.Name == "refs/heads/"+branch }) {
			return vcs.PullRequest{}, fmt.Errorf("branch %s: %w", transport.Printable(branch), vcs.ErrNotFound)
		}
	}
	var made pull
	_, err := h.api.Do(ctx, http.MethodPost, at(r, "/pullrequests"), map[string]string{
		"sourceRefName": "refs/heads/" + n.Branch, "targetRefName": "refs/heads/" + n.Base,
		"title": transport.Title(n, maxTitle), "description": transport.CutText(transport.Storable(n.Body), maxBody),
	}, &made)
	if transport.StatusOf(err) == http.StatusConflict {
		var there *pull
		lerr := h.list(ctx, r, "searchCriteria.status=active&searchCriteria.sourceRefName="+url.QueryEscape("refs/heads/"+n.Branch), func(p pull) bool {
			if p.Source == "refs/heads/"+n.Branch && p.Target == "refs/heads/"+n.Base && p.Fork == nil {
				there = &p
			}
			return there == nil
		})
		if lerr != nil {
			return vcs.PullRequest{}, lerr
		}
		if there != nil {
			return h.convert(r, *there)
		}
	}
	if err != nil {
		return vcs.PullRequest{}, err
	}
	return h.convert(r, made)
}
