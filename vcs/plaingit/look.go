package plaingit

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"sort"
	"time"

	"holdfast/vcs"
)

// Bounds of what is looked at after a long absence.
const (
	maxLine     = 10_000 // commits of the default branch
	maxSquashes = 200    // of these, how many are compared with open pull requests
)

// look is one look at a repository: its state brought up to what its branches
// are now.
type look struct {
	git      Git
	repo     vcs.Repository
	now      time.Time
	state    *repoState
	branches map[string]string
	base     string // the default branch
	tip      string // its commit
	before   string // its commit at the last look; empty where that is of no use
	line     []string
	patches  map[[2]string]string
}

// look fetches, brings the state up to date and saves it where it changed.
func (h *Host) look(ctx context.Context, r vcs.Repository) (*look, error) {
	remote, err := h.remote(r)
	if err != nil {
		return nil, err
	}
	if err := h.cfg.Git.Fetch(ctx, r, remote); err != nil {
		return nil, err
	}
	mu := h.looking[r]
	mu.Lock()
	defer mu.Unlock()
	saved, err := h.cfg.State.Load(ctx, r)
	if err != nil {
		return nil, fmt.Errorf("load pull requests of %s: %w", r, err)
	}
	state, err := decodeState(saved)
	if err != nil {
		return nil, fmt.Errorf("read the saved pull requests of %s: %w", r, err)
	}
	l := &look{git: h.cfg.Git, repo: r, now: h.cfg.Clock().UTC(), state: state, patches: map[[2]string]string{}}
	if err := l.observe(ctx, remote.DefaultBranch); err != nil {
		return nil, fmt.Errorf("look at the branches of %s: %w", r, err)
	}
	data, err := json.Marshal(l.state)
	if err != nil {
		return nil, fmt.Errorf("encode pull requests of %s: %w", r, err)
	}
	if bytes.Equal(data, saved) {
		return l, nil
	}
	// Before anybody hears of a number, it is on disk.
	if err := h.cfg.State.Save(ctx, r, data); err != nil {
		return nil, fmt.Errorf("save pull requests of %s: %w", r, err)
	}
	return l, nil
}

// observe compares the branches with what was known of them.
func (l *look) observe(ctx context.Context, base string) (err error) {
	if l.branches, err = l.git.Branches(ctx, l.repo); err != nil {
		return err
	}
	if base == "" {
		base, err = l.git.DefaultBranch(ctx, l.repo)
		if errors.Is(err, vcs.ErrNotFound) && len(l.branches) == 0 && len(l.state.Pulls) == 0 {
			return nil // an empty repository
		}
		if err != nil {
			return err
		}
	}
	l.base, l.tip = base, l.branches[base]
	if l.tip == "" {
		// Nothing can be told without it. In particular, a remote that lost its
		// branches is not one where everything was closed.
		return fmt.Errorf("%w: it has no branch %q, which is to be its default branch", vcs.ErrNotFound, base)
	}
	if l.state.Base == base {
		l.before = l.state.BaseSHA
	}
	if err := l.readLine(ctx); err != nil {
		return err
	}
	for _, p := range l.state.Pulls {
		if p.State == vcs.Open {
			if err := l.follow(ctx, p); err != nil {
				return err
			}
		}
	}
	for _, name := range slices.Sorted(maps.Keys(l.branches)) {
		if name != base && l.state.open(name) == nil {
			if err := l.discover(ctx, name); err != nil {
				return err
			}
		}
	}
	l.state.Base, l.state.BaseSHA = base, l.tip
	l.state.trim(l.branches)
	return nil
}

// readLine finds the commits that the default branch got since the last look,
// newest first.
func (l *look) readLine(ctx context.Context) error {
	if l.before != "" {
		// A mirror made anew may not have what was forced away meanwhile.
		is, err := l.git.IsAncestor(ctx, l.repo, l.before, l.tip)
		if errors.Is(err, vcs.ErrNotFound) {
			is, err = false, nil
		}
		if err != nil {
			return err
		}
		if !is {
			l.before = ""
		}
	}
	var err error
	l.line, err = l.git.FirstParents(ctx, l.repo, l.tip, l.before, maxLine)
	return err
}

// follow brings an open pull request up to date.
func (l *look) follow(ctx context.Context, p *pull) error {
	head, exists := l.branches[p.Branch]
	if p.Branch == l.base || p.BaseRef != l.base {
		return l.rebased(ctx, p, head, exists)
	}
	merged, err := l.merged(ctx, p, head)
	if err != nil || merged {
		return err
	}
	if !exists {
		l.end(p, vcs.Closed)
		return nil
	}
	within, err := l.inBase(ctx, head)
	if err != nil {
		return err
	}
	if within {
		// Its commits were thrown away, and the branch put where the default
		// branch is or was.
		l.end(p, vcs.Closed)
		return nil
	}
	l.move(p, head)
	return nil
}

// rebased handles a default branch that is another one than before.
func (l *look) rebased(ctx context.Context, p *pull, head string, exists bool) error {
	ahead := false
	if exists && p.Branch != l.base {
		within, err := l.inBase(ctx, head)
		if err != nil {
			return err
		}
		ahead = !within
	}
	if !ahead {
		l.end(p, vcs.Closed)
		return nil
	}
	p.BaseRef = l.base
	p.UpdatedAt = l.now
	l.move(p, head)
	return nil
}

func (l *look) move(p *pull, head string) {
	if p.HeadSHA != head {
		p.HeadSHA, p.UpdatedAt = head, l.now
	}
	p.BaseSHA = l.tip
}

func (l *look) end(p *pull, state vcs.PullState) {
	p.State, p.UpdatedAt = state, l.now
}

// merged finds out whether a pull request's change has come into the default
// branch, and then ends it so. Head is where its branch is now, empty where it
// is gone.
func (l *look) merged(ctx context.Context, p *pull, head string) (bool, error) {
	known, err := l.inBase(ctx, p.HeadSHA)
	if err != nil {
		return false, err
	}
	moved := head != "" && head != p.HeadSHA
	switch {
	case known && !moved:
		return true, l.mergedAs(ctx, p, p.HeadSHA)
	case known:
		// Merged, and then worked on: as long as that is not merged too it is
		// the branch's next pull request.
		within, err := l.inBase(ctx, head)
		if err != nil {
			return false, err
		}
		if !within || !l.newest(ctx, p.HeadSHA, head) {
			head = p.HeadSHA
		}
		return true, l.mergedAs(ctx, p, head)
	case moved:
		within, err := l.inBase(ctx, head)
		if err != nil {
			return false, err
		}
		if within {
			same, err := l.sameChange(ctx, p, head)
			if err != nil {
				return false, err
			}
			if same {
				return true, l.mergedAs(ctx, p, head)
			}
			head = "" // of the default branch's own, it says nothing of the pull request's change
		}
	}
	return l.squashed(ctx, p, head)
}

// newest reports whether b builds upon a. Where that cannot be told, a stands.
func (l *look) newest(ctx context.Context, a, b string) bool {
	is, err := l.git.IsAncestor(ctx, l.repo, a, b)
	return err == nil && is
}

// sameChange reports whether head, which is in the default branch, is what a
// pull request came to: its commits written anew and then merged, and not just
// a branch put back to where the default branch is.
func (l *look) sameChange(ctx context.Context, p *pull, head string) (bool, error) {
	if l.before == "" {
		return false, nil
	}
	old, err := l.git.IsAncestor(ctx, l.repo, head, l.before)
	if err != nil || old {
		return false, err
	}
	was, err := l.changeOf(ctx, p.HeadSHA)
	if err != nil || was == "" {
		return false, err
	}
	is, err := l.changeOf(ctx, head)
	return is == was, err
}

// inBase reports whether a commit is in the default branch. One that is gone
// is not.
func (l *look) inBase(ctx context.Context, sha string) (bool, error) {
	is, err := l.git.IsAncestor(ctx, l.repo, sha, l.tip)
	if errors.Is(err, vcs.ErrNotFound) {
		return false, nil
	}
	return is, err
}

// mergedAs ends a pull request whose head is in the default branch. The merge
// is the first commit on the default branch's own line that has the head: a
// merge commit or, where the branch was moved forward, the head.
func (l *look) mergedAs(ctx context.Context, p *pull, head string) error {
	var err error
	// From some commit on, counted from the newest, none has it any more.
	n := sort.Search(len(l.line), func(i int) bool {
		if err != nil {
			return true
		}
		var has bool
		has, err = l.git.IsAncestor(ctx, l.repo, head, l.line[i])
		return !has
	})
	if err != nil {
		return err
	}
	merge := head
	if n > 0 {
		merge = l.line[n-1]
	}
	base := l.before
	if merge != head || base == "" {
		if parents, perr := l.git.Parents(ctx, l.repo, merge); perr == nil && len(parents) > 0 {
			base = parents[0]
		}
	}
	l.mergedInto(p, head, merge, base)
	return nil
}

func (l *look) mergedInto(p *pull, head, merge, base string) {
	p.HeadSHA, p.MergeSHA, p.BaseSHA = head, merge, base
	l.end(p, vcs.Merged)
}

// discover decides whether a branch without an open pull request is a new one.
func (l *look) discover(ctx context.Context, name string) error {
	head := l.branches[name]
	if last := l.state.last(name); last != nil && last.HeadSHA == head && last.State == vcs.Merged {
		return nil // it was left standing after its merge
	}
	within, err := l.inBase(ctx, head)
	if err != nil {
		return err
	}
	p := &pull{Branch: name, HeadSHA: head, State: vcs.Open, BaseRef: l.base, BaseSHA: l.tip, UpdatedAt: l.now}
	if !within {
		l.state.add(p)
		return nil
	}
	// Made and merged between two looks: it is behind a merge commit, where no
	// branch gets that was never ahead.
	missed, err := l.missed(ctx, head)
	if err != nil || !missed {
		return err
	}
	l.state.add(p)
	return l.mergedAs(ctx, p, head)
}

// missed reports whether a commit came into the default branch since the last
// look, and by a merge.
func (l *look) missed(ctx context.Context, head string) (bool, error) {
	if l.before == "" || slices.Contains(l.line, head) {
		return false, nil
	}
	old, err := l.git.IsAncestor(ctx, l.repo, head, l.before)
	if err != nil || old {
		return false, err
	}
	// A branch that somebody put on a commit of another one's is no other
	// change.
	for _, p := range l.state.Pulls {
		if p.State != vcs.Merged || !p.UpdatedAt.Equal(l.now) {
			continue
		}
		part, err := l.git.IsAncestor(ctx, l.repo, head, p.HeadSHA)
		if err != nil || part {
			return false, err
		}
	}
	return true, nil
}

// pullRequest describes a pull request for the outside.
func (l *look) pullRequest(ctx context.Context, p *pull) (vcs.PullRequest, error) {
	pr := vcs.PullRequest{
		Repository: l.repo,
		Number:     p.Number,
		Title:      p.Branch,
		State:      p.State,
		HeadRef:    p.Branch,
		HeadSHA:    p.HeadSHA,
		FetchRef:   "refs/heads/" + p.Branch,
		BaseRef:    p.BaseRef,
		BaseSHA:    p.BaseSHA,
		MergeSHA:   p.MergeSHA,
		UpdatedAt:  p.UpdatedAt,
	}
	if l.branches[p.Branch] != p.HeadSHA {
		// The branch is gone or went on. The commit's name is all that leads
		// to it now.
		pr.FetchRef = p.HeadSHA
	}
	subject, author, _, err := l.git.Describe(ctx, l.repo, p.HeadSHA)
	if errors.Is(err, vcs.ErrNotFound) {
		return pr, nil // forgotten by the remote and by a new mirror
	}
	if err != nil {
		return vcs.PullRequest{}, fmt.Errorf("describe pull request %d: %w", p.Number, err)
	}
	pr.Author = author
	if subject != "" {
		pr.Title = subject
	}
	return pr, nil
}
