package plaingit

import (
	"context"
	"errors"
	"slices"

	"holdfast/vcs"
)

// squashed looks among the default branch's new commits for one, or for as many
// in a row as the branch has, that make the same change as the pull request:
// then it was merged by squashing or by rebasing. Head is as in merged.
func (l *look) squashed(ctx context.Context, p *pull, head string) (bool, error) {
	if l.before == "" || len(l.line) == 0 {
		return false, nil
	}
	for _, h := range []string{head, p.HeadSHA} {
		if h == "" {
			continue
		}
		change, err := l.changeOf(ctx, h)
		if err != nil {
			return false, err
		}
		if change == "" {
			continue
		}
		length, err := l.length(ctx, h)
		if err != nil {
			return false, err
		}
		found, err := l.findChange(ctx, change, length)
		if err != nil {
			return false, err
		}
		if found.to != "" {
			l.mergedInto(p, h, found.to, found.from)
			return true, nil
		}
	}
	return false, nil
}

// length counts a branch's commits.
func (l *look) length(ctx context.Context, head string) (int, error) {
	from, err := l.git.MergeBase(ctx, l.repo, l.before, head)
	if err != nil {
		return 0, err
	}
	line, err := l.git.FirstParents(ctx, l.repo, head, from, maxSquashes)
	return len(line), err
}

// span is from one commit, which is not in it, to another, which is.
type span struct{ from, to string }

// findChange returns the first span of the default branch's new commits, one
// or length commits long, that makes the change. A zero span where none does.
func (l *look) findChange(ctx context.Context, change string, length int) (span, error) {
	line := slices.Clone(l.line[max(0, len(l.line)-maxSquashes):])
	slices.Reverse(line) // the oldest first: what comes later may undo it and do it again
	froms := make([]string, len(line))
	run := 0 // ordinary commits in a row up to here
	for i, sha := range line {
		parents, err := l.git.Parents(ctx, l.repo, sha)
		if err != nil {
			return span{}, err
		}
		if len(parents) != 1 {
			run = 0
			continue
		}
		froms[i] = parents[0]
		run++
		for _, n := range slices.Compact([]int{1, length}) {
			if n > run {
				continue
			}
			got, err := l.patch(ctx, froms[i-n+1], sha)
			if err != nil {
				return span{}, err
			}
			if got == change {
				return span{froms[i-n+1], sha}, nil
			}
		}
	}
	return span{}, nil
}

// changeOf names what a commit's branch changes of the default branch as it
// was at the last look; empty where that is nothing, or cannot be told.
func (l *look) changeOf(ctx context.Context, head string) (string, error) {
	from, err := l.git.MergeBase(ctx, l.repo, l.before, head)
	if errors.Is(err, vcs.ErrNotFound) {
		return "", nil
	}
	if err != nil {
		return "", err
	}
	return l.patch(ctx, from, head)
}

func (l *look) patch(ctx context.Context, from, to string) (string, error) {
	key := [2]string{from, to}
	if id, ok := l.patches[key]; ok {
		return id, nil
	}
	id, err := l.git.PatchID(ctx, l.repo, from, to)
	if errors.Is(err, vcs.ErrNotFound) {
		id, err = "", nil
	}
	if err == nil {
		l.patches[key] = id
	}
	return id, err
}
