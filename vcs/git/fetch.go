package git

import (
	"cmp"
	"container/heap"
	"context"
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"sync"

	"github.com/go-git/go-git/v5/plumbing"
	"github.com/go-git/go-git/v5/plumbing/object"
	"github.com/go-git/go-git/v5/storage/filesystem"

	"holdfast/vcs"
)

// Fetch makes the mirror of r what the remote is now: its branches (moved ones
// whatever they were, deleted ones gone), and of other refs those asked for,
// under their own names, such as "refs/pull/1/head". A ref may be a commit's
// full name where the remote allows to ask for one. A ref that the remote does
// not have is vcs.ErrNotFound, after everything else was fetched.
//
// Calls for one repository share the work: one that comes while a fetch is
// under way waits for it and then shares the next one with whoever waits too,
// so that it sees what was at the remote when it was called. An empty remote
// is no error. Errors never hold credentials; vcs.ErrDenied, vcs.ErrNotFound
// and *vcs.RateLimitError tell the common ones apart, and any other may be
// healed by a retry.
func (m *Mirrors) Fetch(ctx context.Context, r vcs.Repository, remote vcs.Remote, refs ...string) error {
	if _, err := locate(remote.URL); err != nil {
		return fmt.Errorf("fetch %s: %w", r, err)
	}
	for _, ref := range refs {
		if !isSHA(ref) && (plumbing.ReferenceName(ref).Validate() != nil || !isFullRef(ref)) {
			return fmt.Errorf("fetch %s: %w: %q is neither a full ref nor a commit", r, vcs.ErrNotFound, ref)
		}
	}
	mi := m.mirror(r)
	b := mi.line.join(ctx, remote, refs, func(b *batch) {
		b.err = guard(func() (err error) {
			b.missing, err = m.fetch(b.ctx, mi, b.remote, slices.Sorted(maps.Keys(b.refs)))
			return err
		})
	})
	select {
	case <-b.done:
	case <-ctx.Done():
		mi.line.leave(b)
		return fmt.Errorf("fetch %s: %w", r, context.Cause(ctx))
	}
	if b.err != nil {
		return fmt.Errorf("fetch %s: %w", r, b.err)
	}
	for _, ref := range refs {
		if b.missing[ref] {
			return fmt.Errorf("fetch %s: %w: the remote has no %s", r, vcs.ErrNotFound, ref)
		}
	}
	return nil
}

func isFullRef(s string) bool { return len(s) > 5 && s[:5] == "refs/" }

// fetchLine lines up the callers of Fetch for one repository.
type fetchLine struct {
	mu      sync.Mutex
	running bool
	next    *batch // not begun; nil where nobody waits
}

// batch is one fetch on behalf of several callers.
type batch struct {
	remote  vcs.Remote // the latest caller's: its token is the newest
	refs    map[string]bool
	waiting int
	ctx     context.Context
	cancel  context.CancelFunc
	done    chan struct{}
	missing map[string]bool // refs that the remote does not have
	err     error
}

// join adds a caller to the next batch and sees to it that somebody runs it.
func (l *fetchLine) join(ctx context.Context, remote vcs.Remote, refs []string, run func(*batch)) *batch {
	l.mu.Lock()
	defer l.mu.Unlock()
	b := l.next
	if b == nil {
		// The fetch outlives its first caller if others wait for it too.
		own, cancel := context.WithCancel(context.WithoutCancel(ctx))
		b = &batch{refs: map[string]bool{}, ctx: own, cancel: cancel, done: make(chan struct{})}
		l.next = b
	}
	b.remote = remote
	b.waiting++
	for _, ref := range refs {
		b.refs[ref] = true
	}
	if !l.running {
		l.running = true
		go l.work(run)
	}
	return b
}

// leave takes back a caller that waits no more; a batch without callers ends.
func (l *fetchLine) leave(b *batch) {
	l.mu.Lock()
	defer l.mu.Unlock()
	b.waiting--
	if b.waiting > 0 {
		return
	}
	b.cancel()
	if l.next == b {
		l.next = nil
	}
}

func (l *fetchLine) work(run func(*batch)) {
	for {
		l.mu.Lock()
		b := l.next
		l.next = nil
		if b == nil {
			l.running = false
			l.mu.Unlock()
			return
		}
		l.mu.Unlock()
		run(b)
		b.cancel()
		close(b.done)
	}
}

// fetch updates the mirror, or makes it where there is none that can be used.
func (m *Mirrors) fetch(ctx context.Context, mi *mirror, remote vcs.Remote, refs []string) (map[string]bool, error) {
	mi.writing.Lock()
	defer mi.writing.Unlock()
	if _, err := os.Stat(mi.dir); err == nil && !mi.damaged.Load() {
		missing, err := m.update(ctx, mi, mi.dir, remote, refs)
		var damage *damageError
		if !errors.As(err, &damage) {
			return missing, err
		}
	} else if err != nil && !errors.Is(err, os.ErrNotExist) {
		return nil, fmt.Errorf("open mirror: %w", err)
	}
	fresh, err := os.MkdirTemp(m.mirrors, scratchPrefix+"*")
	if err != nil {
		return nil, fmt.Errorf("create mirror: %w", err)
	}
	defer os.RemoveAll(fresh)
	if err := initBare(fresh); err != nil {
		return nil, fmt.Errorf("create mirror: %w", err)
	}
	missing, err := m.update(ctx, mi, fresh, remote, refs)
	if err != nil {
		return nil, err
	}
	return missing, mi.replace(fresh)
}

// replace puts the repository in fresh in the mirror's place.
func (mi *mirror) replace(fresh string) error {
	mi.files.Lock()
	defer mi.files.Unlock()
	mi.changed()
	old := fresh + ".old"
	if err := os.Rename(mi.dir, old); err != nil && !errors.Is(err, os.ErrNotExist) {
		return fmt.Errorf("put old mirror away: %w", err)
	}
	if err := os.Rename(fresh, mi.dir); err != nil {
		return fmt.Errorf("put new mirror in place: %w", err)
	}
	mi.damaged.Store(false)
	if err := os.RemoveAll(old); err != nil {
		return fmt.Errorf("remove old mirror: %w", err)
	}
	return nil
}

// update fetches into the repository in dir: mi's own, or one to take its
// place. A *damageError says that what is in dir cannot be built upon. The
// caller holds writing.
func (m *Mirrors) update(ctx context.Context, mi *mirror, dir string, remote vcs.Remote, extra []string) (missing map[string]bool, err error) {
	s := openStorage(dir, m.objects)
	defer s.Close()
	var have map[plumbing.ReferenceName]plumbing.Hash
	err = guard(func() error {
		if err := verify(dir, s); err != nil {
			return err
		}
		have, err = refs(s)
		return err
	})
	if err != nil {
		return nil, err
	}
	l, err := m.dial(ctx, remote, false)
	if err != nil {
		return nil, err
	}
	defer l.close()
	adv, err := l.advertised(ctx)
	if err != nil {
		return nil, err
	}
	t := aim(adv, have, extra, func(h plumbing.Hash) bool { return s.HasEncodedObject(h) == nil })
	if len(t.wants) > 0 {
		if err := receive(ctx, l, s, have, t.wants); err != nil {
			// A pack that broke off leaves its temporary file.
			_ = removeMatching(filepath.Join(dir, "objects", "pack", "tmp_pack_*"))
			return nil, err
		}
	}
	if head, err := s.Reference(plumbing.HEAD); err == nil && len(t.wants) == 0 &&
		maps.Equal(have, t.refs) && (adv.head == "" || adv.head == head.Target()) {
		return t.missing, nil // nothing is new, as at most looks
	}
	mi.files.Lock()
	defer mi.files.Unlock()
	if err := writeRefs(dir, adv.head, t.refs); err != nil {
		return nil, fmt.Errorf("write refs: %w", err)
	}
	if len(t.wants) > 0 {
		if err := consolidate(s, dir); err != nil {
			return nil, fmt.Errorf("join packs: %w", err)
		}
	}
	mi.changed()
	return t.missing, nil
}

// receive gets the wanted commits, and makes sure that they came.
func receive(ctx context.Context, l link, s *filesystem.Storage, have map[plumbing.ReferenceName]plumbing.Hash, wants []plumbing.Hash) error {
	var known []plumbing.Hash
	if err := guard(func() (err error) { known, err = haves(s, have); return err }); err != nil {
		return err
	}
	err := guard(func() error { return l.fetch(ctx, s, wants, known) })
	var damage *damageError
	if errors.As(err, &damage) {
		return damage.err // the remote's, not the mirror's
	}
	if err != nil {
		return err
	}
	s.Reindex()
	for _, h := range wants {
		if s.HasEncodedObject(h) != nil {
			return fmt.Errorf("the remote did not send %s, which it had offered", h)
		}
	}
	return nil
}

// target is what a fetch is to achieve.
type target struct {
	refs    map[plumbing.ReferenceName]plumbing.Hash
	wants   []plumbing.Hash
	missing map[string]bool
}

// aim decides what to fetch: every branch, the extra refs, and of the refs
// that were fetched before for somebody those that are not branches.
func aim(adv advertisement, have map[plumbing.ReferenceName]plumbing.Hash, extra []string, has func(plumbing.Hash) bool) target {
	t := target{refs: map[plumbing.ReferenceName]plumbing.Hash{}, missing: map[string]bool{}}
	wants := map[plumbing.Hash]bool{}
	set := func(name plumbing.ReferenceName, h plumbing.Hash) {
		t.refs[name] = h
		if !has(h) {
			wants[h] = true
		}
	}
	for name, h := range have {
		if !name.IsBranch() {
			t.refs[name] = h
		}
	}
	for name, h := range adv.refs {
		if name.IsBranch() {
			set(name, h)
		}
	}
	for _, ref := range extra {
		name := plumbing.ReferenceName(ref)
		switch h, ok := adv.refs[name]; {
		case ok:
			set(name, h)
		case isSHA(ref) && has(plumbing.NewHash(ref)):
		case isSHA(ref) && (adv.exact || slices.Contains(slices.Collect(maps.Values(adv.refs)), plumbing.NewHash(ref))):
			wants[plumbing.NewHash(ref)] = true
		default:
			t.missing[ref] = true
			delete(t.refs, name)
		}
	}
	t.wants = slices.SortedFunc(maps.Keys(wants), func(a, b plumbing.Hash) int { return slices.Compare(a[:], b[:]) })
	return t
}

// Bounds of what is told to a remote about what the mirror has.
const (
	maxTips  = 256 // branches
	maxHaves = 512 // commits in all
)

// haves chooses the commits to name to the remote: the newest tips, and then
// the newest of what is behind them, since a branch that was forced away is
// known to the remote by its older commits only.
func haves(s *filesystem.Storage, have map[plumbing.ReferenceName]plumbing.Hash) ([]plumbing.Hash, error) {
	seen := map[plumbing.Hash]bool{}
	var newest commitHeap
	push := func(h plumbing.Hash) error {
		if seen[h] {
			return nil
		}
		seen[h] = true
		c, err := object.GetCommit(s, h)
		if errors.Is(err, plumbing.ErrObjectNotFound) {
			return nil // a tag, or what another kind of ref points to
		}
		if err != nil {
			return asDamage(err)
		}
		heap.Push(&newest, c)
		return nil
	}
	for name, h := range have {
		if name.IsBranch() {
			if err := push(h); err != nil {
				return nil, err
			}
		}
	}
	slices.SortFunc(newest, func(a, b *object.Commit) int { return -compareCommits(a, b) })
	if len(newest) > maxTips {
		newest = newest[:maxTips]
	}
	var known []plumbing.Hash
	for len(newest) > 0 && len(known) < maxHaves {
		c := heap.Pop(&newest).(*object.Commit)
		known = append(known, c.Hash)
		for _, p := range c.ParentHashes {
			if err := push(p); err != nil {
				return nil, err
			}
		}
	}
	return known, nil
}

// compareCommits orders by time, and by name where that is equal.
func compareCommits(a, b *object.Commit) int {
	return cmp.Or(a.Committer.When.Compare(b.Committer.When), slices.Compare(a.Hash[:], b.Hash[:]))
}

// commitHeap has its newest commit first.
type commitHeap []*object.Commit

func (h commitHeap) Len() int           { return len(h) }
func (h commitHeap) Less(i, j int) bool { return compareCommits(h[i], h[j]) > 0 }
func (h commitHeap) Swap(i, j int)      { h[i], h[j] = h[j], h[i] }

// Push implements heap.Interface.
func (h *commitHeap) Push(x any) { *h = append(*h, x.(*object.Commit)) }

// Pop implements heap.Interface.
func (h *commitHeap) Pop() any {
	last := len(*h) - 1
	c := (*h)[last]
	*h = (*h)[:last]
	return c
}

// maxPacks is how many packs a mirror may have before they are joined: each
// is asked for each object.
const maxPacks = 32

// consolidate joins the packs of many small fetches, all but the largest. The
// caller holds the mirror's files alone.
func consolidate(s *filesystem.Storage, dir string) error {
	packs, err := s.ObjectPacks()
	if err != nil || len(packs) <= maxPacks {
		return err
	}
	size := func(h plumbing.Hash) int64 {
		info, err := os.Stat(filepath.Join(dir, "objects", "pack", "pack-"+h.String()+".pack"))
		if err != nil {
			return 0
		}
		return info.Size()
	}
	slices.SortFunc(packs, func(a, b plumbing.Hash) int { return cmp.Compare(size(b), size(a)) })
	return joinPacks(s, dir, packs[1:])
}
