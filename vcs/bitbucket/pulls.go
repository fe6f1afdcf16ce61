package bitbucket

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"

	"holdfast/vcs"
	"holdfast/vcs/transport"
)

const (
	maxComment     = 32_000 // of 32,768 characters
	maxTitle       = 255
	maxDescription = 255
	maxKey         = 40 // of a build status
	// maxFull bounds the commits that are remembered.
	maxFull = 10_000
)

type side struct {
	Branch struct {
		Name string `json:"name"`
	} `json:"branch"`
	Commit *struct {
		Hash string `json:"hash"`
	} `json:"commit"`
	Repository *struct {
		FullName string `json:"full_name"`
	} `json:"repository"`
}

type pull struct {
	ID          int64     `json:"id"`
	Title       string    `json:"title"`
	State       string    `json:"state"`
	Draft       bool      `json:"draft"`
	Author      account   `json:"author"`
	Source      side      `json:"source"`
	Destination side      `json:"destination"`
	UpdatedOn   time.Time `json:"updated_on"`
	MergeCommit *struct {
		Hash string `json:"hash"`
	} `json:"merge_commit"`
	CommentCount int `json:"comment_count"`
	Links        struct {
		HTML struct {
			Href string `json:"href"`
		} `json:"html"`
	} `json:"links"`
	Reviewers []struct {
		UUID string `json:"uuid"`
	} `json:"reviewers"`
	Participants []struct {
		User  account   `json:"user"`
		State string    `json:"state"`
		At    time.Time `json:"participated_on"`
	} `json:"participants"`
}

func (p pull) state() vcs.PullState {
	switch p.State {
	case "OPEN":
		return vcs.Open
	case "MERGED":
		return vcs.Merged
	}
	return vcs.Closed
}

// whole returns a commit's full id, which the host is asked for once.
func (h *Host) whole(ctx context.Context, r vcs.Repository, short string) (string, error) {
	if transport.IsSHA(short) {
		return short, nil
	}
	if len(short) < 7 || strings.Trim(short, "0123456789abcdef") != "" {
		return "", fmt.Errorf("%q is not a commit id", transport.Printable(short))
	}
	key := r.String() + "@" + short
	h.mu.Lock()
	full := h.full[key]
	h.mu.Unlock()
	if full != "" {
		return full, nil
	}
	var c struct {
		Hash string `json:"hash"`
	}
	if _, err := h.api.Do(ctx, http.MethodGet, at(r, "/commit/"+short), nil, &c); err != nil {
		return "", err
	}
	if !transport.IsSHA(c.Hash) || !strings.HasPrefix(c.Hash, short) {
		return "", fmt.Errorf("the host answered commit %q for %s", transport.Printable(c.Hash), short)
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	if len(h.full) >= maxFull {
		clear(h.full)
	}
	h.full[key] = c.Hash
	return c.Hash, nil
}

func (h *Host) convert(ctx context.Context, r vcs.Repository, p pull) (vcs.PullRequest, error) {
	if p.ID <= 0 || p.Destination.Branch.Name == "" {
		return vcs.PullRequest{}, errors.New("the host's answer is not a pull request")
	}
	pr := vcs.PullRequest{
		Repository: r, Number: int(p.ID), Title: p.Title, Author: p.Author.AccountID, URL: p.Links.HTML.Href, State: p.state(), Draft: p.Draft,
		Fork:    p.Source.Repository == nil || !strings.EqualFold(p.Source.Repository.FullName, p.Destination.fullName(r)),
		HeadRef: p.Source.Branch.Name, BaseRef: p.Destination.Branch.Name, UpdatedAt: p.UpdatedOn,
	}
	if !pr.Fork {
		pr.FetchRef = "refs/heads/" + pr.HeadRef
	}
	if p.Source.Commit != nil {
		of := r
		if pr.Fork && p.Source.Repository != nil {
			if fork, err := vcs.ParseRepository(r.Host + "/" + p.Source.Repository.FullName); err == nil {
				of = fork
			}
		}
		var err error
		if pr.HeadSHA, err = h.whole(ctx, of, p.Source.Commit.Hash); err != nil && pr.State == vcs.Open {
			return vcs.PullRequest{}, err
		}
	} else if pr.State == vcs.Open {
		return vcs.PullRequest{}, errors.New("the host names no head commit")
	}
	if pr.State == vcs.Merged {
		if p.MergeCommit == nil {
			return vcs.PullRequest{}, errors.New("the host says that it is merged and names no merge commit")
		}
		var err error
		if pr.MergeSHA, err = h.whole(ctx, r, p.MergeCommit.Hash); err != nil {
			return vcs.PullRequest{}, err
		}
	}
	return pr, nil
}

// fullName is OWNER/NAME of a pull request's destination.
func (s side) fullName(r vcs.Repository) string {
	if s.Repository == nil || s.Repository.FullName == "" {
		return r.Owner + "/" + r.Name
	}
	return s.Repository.FullName
}

// PullRequest returns one pull request as it is now.
func (h *Host) PullRequest(ctx context.Context, r vcs.Repository, n int) (vcs.PullRequest, error) {
	p, err := h.pull(ctx, r, n)
	if err != nil {
		return vcs.PullRequest{}, err
	}
	pr, err := h.convert(ctx, r, p)
	if err == nil && pr.Number != n {
		err = fmt.Errorf("the host answered pull request %d", pr.Number)
	}
	if err != nil {
		return vcs.PullRequest{}, transport.Wrap(err, "read pull request %s#%d", r, n)
	}
	return pr, nil
}

func (h *Host) pull(ctx context.Context, r vcs.Repository, n int) (p pull, err error) {
	if _, err = h.api.Do(ctx, http.MethodGet, at(r, "/pullrequests/"+number(int64(n))), nil, &p); err != nil {
		return p, transport.Wrap(err, "read pull request %s#%d", r, n)
	}
	return p, nil
}

const ended = "state=MERGED&state=DECLINED&state=SUPERSEDED"

func (h *Host) list(ctx context.Context, r vcs.Repository, states string, visit func(pull) bool) error {
	return eachPage(ctx, h, at(r, "/pullrequests?"+states+"&sort=-updated_on&pagelen=50"), visit)
}

// PullRequests returns the open ones and those that ended since. When one ended
// is not told: one that was touched since counts.
func (h *Host) PullRequests(ctx context.Context, r vcs.Repository, since time.Time) ([]vcs.PullRequest, error) {
	found := map[int64]pull{}
	err := h.list(ctx, r, "state=OPEN", func(p pull) bool {
		found[p.ID] = p
		return true
	})
	if err != nil {
		return nil, transport.Wrap(err, "list open pull requests of %s", r)
	}
	err = h.list(ctx, r, ended, func(p pull) bool {
		if p.UpdatedOn.Before(since) {
			return false
		}
		found[p.ID] = p
		return true
	})
	if err != nil {
		return nil, transport.Wrap(err, "list ended pull requests of %s", r)
	}
	var pulls []vcs.PullRequest
	for _, p := range found {
		pr, err := h.convert(ctx, r, p)
		var answer *transport.Error
		switch {
		case err == nil:
			pulls = append(pulls, pr)
		case errors.As(err, &answer) && !errors.Is(err, vcs.ErrNotFound), ctx.Err() != nil:
			return nil, transport.Wrap(err, "read pull request %s#%d", r, p.ID)
		default: // one broken pull request must not hide all others
			h.cfg.Logger.WarnContext(ctx, "skip a pull request that the host describes badly", "repository", r.String(), "number", p.ID, "error", err)
		}
	}
	slices.SortFunc(pulls, func(a, b vcs.PullRequest) int { return a.Number - b.Number })
	return pulls, nil
}

// MaxComment is the longest body, in bytes.
func (h *Host) MaxComment() int { return maxComment }

type comment struct {
	ID      int64   `json:"id"`
	User    account `json:"user"`
	Content struct {
		Raw string `json:"raw"`
	} `json:"content"`
	CreatedOn time.Time `json:"created_on"`
	Deleted   bool      `json:"deleted"`
}

func (c comment) convert(n int) vcs.Comment {
	return vcs.Comment{ID: c.ID, Number: n, Author: c.User.AccountID, Body: c.Content.Raw, CreatedAt: c.CreatedOn}
}

// Comments returns all comments, oldest first.
func (h *Host) Comments(ctx context.Context, r vcs.Repository, n int) ([]vcs.Comment, error) {
	var found []vcs.Comment
	err := eachPage(ctx, h, at(r, "/pullrequests/"+number(int64(n))+"/comments?pagelen=100&sort=created_on"), func(c comment) bool {
		if !c.Deleted {
			found = append(found, c.convert(n))
		}
		return true
	})
	if err != nil {
		return nil, transport.Wrap(err, "list comments of %s#%d", r, n)
	}
	slices.SortStableFunc(found, func(a, b vcs.Comment) int { return a.CreatedAt.Compare(b.CreatedAt) })
	return found, nil
}

// CommentsSince asks the pull requests that were touched since then.
func (h *Host) CommentsSince(ctx context.Context, r vcs.Repository, since time.Time) ([]vcs.Comment, error) {
	var numbers []int
	err := h.list(ctx, r, "state=OPEN&"+ended, func(p pull) bool {
		if p.UpdatedOn.Before(since) {
			return false
		}
		if p.CommentCount > 0 {
			numbers = append(numbers, int(p.ID))
		}
		return true
	})
	if err != nil {
		return nil, transport.Wrap(err, "list recent pull requests of %s", r)
	}
	var found []vcs.Comment
	for _, n := range numbers {
		some, err := h.Comments(ctx, r, n)
		if err != nil {
			return nil, err
		}
		for _, c := range some {
			if !c.CreatedAt.Before(since) {
				found = append(found, c)
			}
		}
	}
	slices.SortStableFunc(found, func(a, b vcs.Comment) int { return a.CreatedAt.Compare(b.CreatedAt) })
	return found, nil
}

func content(body string) any {
	return map[string]any{"content": map[string]string{"raw": transport.Storable(body)}}
}

// CreateComment adds a comment.
func (h *Host) CreateComment(ctx context.Context, r vcs.Repository, n int, body string) (vcs.Comment, error) {
	var c comment
	_, err := h.api.Do(ctx, http.MethodPost, at(r, "/pullrequests/"+number(int64(n))+"/comments"), content(body), &c)
	if err == nil && c.ID <= 0 {
		err = errors.New("the host answered without the comment's id")
	}
	if err != nil {
		return vcs.Comment{}, transport.Wrap(err, "comment on %s#%d", r, n)
	}
	return c.convert(n), nil
}

// EditComment replaces a comment's body; vcs.ErrNotFound where it is gone.
func (h *Host) EditComment(ctx context.Context, r vcs.Repository, n int, id int64, body string) error {
	if _, err := h.api.Do(ctx, http.MethodPut, at(r, "/pullrequests/"+number(int64(n))+"/comments/"+number(id)), content(body), nil); err != nil {
		return transport.Wrap(err, "edit comment %d of %s#%d", id, r, n)
	}
	return nil
}

var (
	toBitbucket   = map[vcs.StatusState]string{vcs.StatusPending: "INPROGRESS", vcs.StatusSuccess: "SUCCESSFUL", vcs.StatusFailure: "FAILED", vcs.StatusError: "STOPPED"}
	fromBitbucket = map[string]vcs.StatusState{"INPROGRESS": vcs.StatusPending, "SUCCESSFUL": vcs.StatusSuccess, "FAILED": vcs.StatusFailure, "STOPPED": vcs.StatusError}
)

// key is a status's, of 40 characters at most: longer names are hashed.
func key(context string) string {
	if len(context) <= maxKey {
		return context
	}
	sum := sha256.Sum256([]byte(context))
	return hex.EncodeToString(sum[:])[:maxKey]
}

// SetStatus sets a build status. The host wants an address with each.
func (h *Host) SetStatus(ctx context.Context, r vcs.Repository, sha string, s vcs.Status) error {
	if !transport.IsSHA(sha) {
		return fmt.Errorf("set status %s on %s: %q is not a commit id", s.Context, r, sha)
	}
	address := s.URL
	if address == "" {
		address = h.cfg.URL + "/" + r.Owner + "/" + r.Name
	}
	_, err := h.api.Do(ctx, http.MethodPost, at(r, "/commit/"+sha+"/statuses/build"), map[string]string{
		"key": key(s.Context), "name": transport.Cut(s.Context, maxDescription), "state": toBitbucket[s.State], "url": address,
		"description": transport.Cut(transport.Storable(s.Description), maxDescription),
	}, nil)
	if err != nil {
		return transport.Wrap(err, "set status %s on %s@%.12s", s.Context, r, sha)
	}
	return nil
}

// Statuses returns the build statuses of a commit.
func (h *Host) Statuses(ctx context.Context, r vcs.Repository, sha string) ([]vcs.Status, error) {
	var found []vcs.Status
	err := eachPage(ctx, h, at(r, "/commit/"+url.PathEscape(sha)+"/statuses?pagelen=100"), func(s struct{ Name, State string }) bool {
		found = append(found, vcs.Status{Context: s.Name, State: fromBitbucket[s.State]})
		return true
	})
	if err != nil {
		return nil, transport.Wrap(err, "list statuses of %s@%.12s", r, sha)
	}
	return found, nil
}

// Reviews returns the verdicts that count now: the host keeps one of each
// reviewer. One from before the latest push is stale.
func (h *Host) Reviews(ctx context.Context, r vcs.Repository, n int) ([]vcs.Review, error) {
	p, err := h.pull(ctx, r, n)
	if err != nil {
		return nil, err
	}
	var found []vcs.Review
	for _, x := range p.Participants {
		switch x.State {
		case "approved":
			found = append(found, vcs.Review{Author: x.User.AccountID, State: vcs.Approved, At: x.At})
		case "changes_requested":
			found = append(found, vcs.Review{Author: x.User.AccountID, State: vcs.ChangesRequested, At: x.At})
		}
	}
	if len(found) == 0 {
		return nil, nil
	}
	pushed, err := h.pushed(ctx, r, p)
	if err != nil {
		return nil, err
	}
	for i := range found {
		found[i].Stale = !found[i].At.After(pushed)
	}
	slices.SortStableFunc(found, func(a, b vcs.Review) int { return a.At.Compare(b.At) })
	return found, nil
}

// pushed is when the pull request got its head, by the host's clock: the oldest
// of the latest updates that have it.
func (h *Host) pushed(ctx context.Context, r vcs.Repository, p pull) (when time.Time, err error) {
	type activity struct {
		Update *struct {
			Date   time.Time `json:"date"`
			Source side      `json:"source"`
		} `json:"update"`
	}
	err = eachPage(ctx, h, pullAt(r, p.ID, "/activity?pagelen=50"), func(a activity) bool {
		if a.Update == nil || a.Update.Source.Commit == nil || p.Source.Commit == nil {
			return true
		}
		if a.Update.Source.Commit.Hash != p.Source.Commit.Hash {
			return false
		}
		when = a.Update.Date
		return true
	})
	if err == nil && when.IsZero() {
		err = errors.New("the host does not tell when it was pushed to")
	}
	if err != nil {
		return when, transport.Wrap(err, "list activity of %s#%d", r, p.ID)
	}
	return when, nil
}

// pullAt is the path of a pull request's API.
func pullAt(r vcs.Repository, n int64, rest string) string {
	return at(r, "/pullrequests/"+number(n)+rest)
}

// Mergeable looks for conflicts in the difference, which is where the host tells
// of them.
func (h *Host) Mergeable(ctx context.Context, r vcs.Repository, n int) (bool, error) {
	p, err := h.pull(ctx, r, n)
	if err != nil || p.state() != vcs.Open || p.Draft {
		return false, err
	}
	conflict := false
	err = eachPage(ctx, h, at(r, "/pullrequests/"+number(int64(n))+"/diffstat?pagelen=500"), func(s struct{ Status string }) bool {
		conflict = strings.Contains(s.Status, "conflict")
		return !conflict
	})
	if err != nil {
		return false, transport.Wrap(err, "read difference of %s#%d", r, n)
	}
	return !conflict, nil
}

// Merge merges the pull request if its head is still sha. The host takes no
// commit along with the request: between the look at the head and the merge a
// push may slip in, which the comparison before the apply finds.
func (h *Host) Merge(ctx context.Context, r vcs.Repository, n int, sha, method string) error {
	if err := transport.CheckMerge(sha, method); err != nil {
		return fmt.Errorf("merge %s#%d: %w", r, n, err)
	}
	pr, err := h.PullRequest(ctx, r, n)
	if err != nil {
		return err
	}
	refused := func(reason, advice string) error {
		return fmt.Errorf("merge %s#%d: %w", r, n, &vcs.NotMergedError{Reason: reason, Advice: advice})
	}
	switch {
	case pr.State == vcs.Merged && pr.HeadSHA == sha:
		return nil
	case pr.State == vcs.Merged:
		return refused(fmt.Sprintf("it was merged already, with the head %.12s instead of %.12s", pr.HeadSHA, sha), "")
	case pr.State == vcs.Closed:
		return refused("it is declined", "Open it again to have it merged.")
	case pr.HeadSHA != sha:
		return refused(fmt.Sprintf("its head has moved from %.12s to %.12s", sha, pr.HeadSHA), "Look at what was pushed meanwhile.")
	case pr.Draft:
		return refused("it is a draft", "Mark it as ready.")
	}
	strategy := map[string]string{"merge": "merge_commit", "squash": "squash", "rebase": "rebase_fast_forward"}[method]
	_, err = h.api.Do(ctx, http.MethodPost, at(r, "/pullrequests/"+number(int64(n))+"/merge"), map[string]string{"type": "pullrequest_merge", "merge_strategy": strategy}, nil)
	if err == nil {
		return nil
	}
	if now, perr := h.PullRequest(ctx, r, n); perr == nil && now.State == vcs.Merged && now.HeadSHA == sha {
		return nil
	}
	var answer *transport.Error
	if errors.As(err, &answer) && slices.Contains([]int{http.StatusBadRequest, http.StatusConflict, http.StatusMethodNotAllowed, 555}, answer.Status) {
		if ok, merr := h.Mergeable(ctx, r, n); merr == nil && !ok {
			return refused("it conflicts with "+pr.BaseRef, "Bring the branch up to date with "+pr.BaseRef+".")
		}
		return refused("the host says: "+answer.Message, "What a merge needs is in the repository's settings, under Branch restrictions and Merge strategies.")
	}
	return transport.Wrap(err, "merge %s#%d", r, n)
}

// OpenPull opens a pull request, or returns the one that is open already. The
// host would open a second one.
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
		if _, err := h.api.Do(ctx, http.MethodGet, at(r, "/refs/branches/"+url.PathEscape(branch)), nil, nil); err != nil {
			return vcs.PullRequest{}, err
		}
	}
	h.opening.Lock()
	defer h.opening.Unlock()
	var there *pull
	err := h.list(ctx, r, "state=OPEN", func(p pull) bool {
		if p.Source.Branch.Name == n.Branch && p.Destination.Branch.Name == n.Base && p.Source.Repository != nil && strings.EqualFold(p.Source.Repository.FullName, p.Destination.fullName(r)) {
			there = &p
		}
		return there == nil
	})
	if err != nil {
		return vcs.PullRequest{}, err
	}
	if there != nil {
		return h.convert(ctx, r, *there)
	}
	branch := func(name string) any { return map[string]any{"branch": map[string]string{"name": name}} }
	var made pull
	_, err = h.api.Do(ctx, http.MethodPost, at(r, "/pullrequests"), map[string]any{
		"title": transport.Title(n, maxTitle), "description": transport.CutText(transport.Storable(n.Body), maxComment), "source": branch(n.Branch), "destination": branch(n.Base),
	}, &made)
	if err != nil {
		return vcs.PullRequest{}, err
	}
	return h.convert(ctx, r, made)
}
