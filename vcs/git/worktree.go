package git

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/go-git/go-billy/v5/osfs"
	gogit "github.com/go-git/go-git/v5"
	"github.com/go-git/go-git/v5/plumbing"
	"github.com/go-git/go-git/v5/plumbing/filemode"
	"github.com/go-git/go-git/v5/plumbing/format/gitignore"
	"github.com/go-git/go-git/v5/plumbing/object"
	"github.com/go-git/go-git/v5/storage/filesystem"

	"holdfast/vcs"
)

// WorkingTree is somebody's clone, with what they have not committed yet. Not
// safe for concurrent use.
type WorkingTree struct {
	// Root is the absolute path of its top directory.
	Root string
	repo *gogit.Repository
}

// OpenWorkingTree opens the working tree that dir is in.
func OpenWorkingTree(dir string) (*WorkingTree, error) {
	abs, err := filepath.Abs(dir)
	if err != nil {
		return nil, fmt.Errorf("find %s: %w", dir, err)
	}
	repo, err := gogit.PlainOpenWithOptions(abs, &gogit.PlainOpenOptions{DetectDotGit: true, EnableDotGitCommonDir: true})
	if errors.Is(err, gogit.ErrRepositoryNotExists) {
		return nil, &HintError{Err: fmt.Errorf("%s is not in a Git repository", abs),
			hint: "run it inside a clone of the repository, or make one with: git init"}
	}
	if err != nil {
		return nil, fmt.Errorf("open the Git repository of %s: %w", abs, err)
	}
	wt, err := repo.Worktree()
	if err != nil {
		return nil, &HintError{Err: fmt.Errorf("the Git repository of %s: %w", abs, err),
			hint: "a bare repository has no files: run it inside a clone"}
	}
	return &WorkingTree{Root: wt.Filesystem.Root(), repo: repo}, nil
}

// Head returns the commit that is checked out. vcs.ErrNotFound before the
// first commit.
func (w *WorkingTree) Head(context.Context) (string, error) {
	head, err := w.repo.Head()
	if errors.Is(err, plumbing.ErrReferenceNotFound) {
		return "", &HintError{Err: missingError(w.Root + " has no commit yet"), hint: "commit something first"}
	}
	if err != nil {
		return "", fmt.Errorf("read HEAD: %w", err)
	}
	return head.Hash().String(), nil
}

// ChangedSince returns, sorted and with slashes, the paths whose content or
// mode is now unlike what it was where HEAD branched off ref: committed,
// staged, unstaged and untracked changes, but no ignored files. An empty ref
// means the default branch, as far as the clone knows it. A ref that does not
// exist is vcs.ErrNotFound.
func (w *WorkingTree) ChangedSince(ctx context.Context, ref string) ([]string, error) {
	if ref == "" {
		var err error
		if ref, err = w.defaultRef(); err != nil {
			return nil, err
		}
	}
	base, err := w.branchPoint(ctx, ref)
	if err != nil {
		return nil, err
	}
	head, err := w.repo.Head()
	if err != nil {
		return nil, fmt.Errorf("read HEAD: %w", err)
	}
	before, err := base.Tree()
	if err != nil {
		return nil, fmt.Errorf("read %s: %w", base.Hash, err)
	}
	now, err := w.repo.CommitObject(head.Hash())
	if err != nil {
		return nil, fmt.Errorf("read HEAD: %w", err)
	}
	after, err := now.Tree()
	if err != nil {
		return nil, fmt.Errorf("read HEAD: %w", err)
	}
	changes, err := object.DiffTreeWithOptions(ctx, before, after, nil)
	if err != nil {
		return nil, fmt.Errorf("compare commits: %w", err)
	}
	paths := changedPaths(changes)
	uncommitted, err := w.uncommitted()
	if err != nil {
		return nil, err
	}
	paths = append(paths, uncommitted...)
	slices.Sort(paths)
	paths = slices.Compact(paths)
	// What was committed may have been undone since.
	return slices.DeleteFunc(paths, func(p string) bool { return w.unchanged(before, p) }), nil
}

// missingError is vcs.ErrNotFound in words for whoever typed the name.
type missingError string

func (e missingError) Error() string { return string(e) }

// Is makes it vcs.ErrNotFound.
func (e missingError) Is(target error) bool { return target == vcs.ErrNotFound }

// defaultRef returns the remote's default branch as the clone remembers it,
// else the branch of the remote, or of the clone itself, with a usual name.
// The remote is origin, or the only one.
func (w *WorkingTree) defaultRef() (string, error) {
	remotes, err := w.repo.Remotes()
	if err != nil {
		return "", fmt.Errorf("list remotes: %w", err)
	}
	remote := "origin"
	if len(remotes) == 1 {
		remote = remotes[0].Config().Name
	}
	for _, name := range []plumbing.ReferenceName{
		plumbing.NewRemoteHEADReferenceName(remote),
		plumbing.NewRemoteReferenceName(remote, "main"), plumbing.NewRemoteReferenceName(remote, "master"),
		plumbing.NewBranchReferenceName("main"), plumbing.NewBranchReferenceName("master"),
	} {
		switch _, err := w.repo.Reference(name, true); {
		case err == nil:
			return name.String(), nil
		case !errors.Is(err, plumbing.ErrReferenceNotFound):
			return "", fmt.Errorf("read %s: %w", name, err)
		}
	}
	if _, err := w.Head(context.Background()); err != nil {
		return "", err // nothing can be compared at all
	}
	return "", &HintError{Err: missingError("there is no default branch: no remote names one, and no branch is called main or master"),
		hint: "name what to compare with, such as --since develop"}
}

// branchPoint returns the merge base of ref and HEAD.
func (w *WorkingTree) branchPoint(ctx context.Context, ref string) (*object.Commit, error) {
	s, ok := w.repo.Storer.(*filesystem.Storage)
	if !ok {
		return nil, errors.New("the repository is not on disk")
	}
	from, err := w.repo.ResolveRevision(plumbing.Revision(ref))
	if err != nil {
		return nil, &HintError{Err: missingError(fmt.Sprintf("no commit is called %q", ref)),
			hint: "name a branch, a tag or a commit, such as origin/main; fetch it first"}
	}
	head, err := w.Head(ctx)
	if err != nil {
		return nil, err
	}
	bases, err := mergeBases(ctx, s, from.String(), head)
	var unreadable *damageError
	if errors.As(err, &unreadable) {
		err = unreadable.err // not a mirror's
	}
	if err != nil {
		return nil, fmt.Errorf("find where HEAD left %s: %w", ref, err)
	}
	if len(bases) == 0 {
		return nil, &HintError{Err: missingError(fmt.Sprintf("HEAD and %s have no common history", ref)),
			hint: "in a shallow clone, fetch more of it: git fetch --unshallow"}
	}
	return bases[0], nil
}

// uncommitted returns the paths that differ between HEAD and the working tree.
func (w *WorkingTree) uncommitted() ([]string, error) {
	wt, err := w.repo.Worktree()
	if err != nil {
		return nil, fmt.Errorf("open working tree: %w", err)
	}
	// The ignore files of the user and of the machine count as they do for Git.
	// One that cannot be read is as good as none.
	for _, load := range []func() ([]gitignore.Pattern, error){
		func() ([]gitignore.Pattern, error) { return gitignore.LoadSystemPatterns(osfs.New("/")) },
		func() ([]gitignore.Pattern, error) { return gitignore.LoadGlobalPatterns(osfs.New("/")) },
	} {
		if patterns, err := load(); err == nil {
			wt.Excludes = append(wt.Excludes, patterns...)
		}
	}
	status, err := wt.Status()
	if err != nil {
		return nil, fmt.Errorf("compare the working tree with HEAD: %w", err)
	}
	var paths []string
	for path, s := range status {
		if s.Staging == gogit.Unmodified && s.Worktree == gogit.Unmodified {
			continue
		}
		paths = append(paths, filepath.ToSlash(path))
		if s.Extra != "" {
			paths = append(paths, filepath.ToSlash(s.Extra))
		}
	}
	return paths, nil
}

// unchanged reports whether a path is on disk as it was in tree. It says no
// where that cannot be told.
func (w *WorkingTree) unchanged(tree *object.Tree, path string) bool {
	was, err := tree.FindEntry(path)
	absent := errors.Is(err, object.ErrEntryNotFound) || errors.Is(err, object.ErrDirectoryNotFound)
	if err != nil && !absent {
		return false
	}
	file := filepath.Join(w.Root, filepath.FromSlash(path))
	info, err := os.Lstat(file)
	if err != nil {
		return absent && errors.Is(err, fs.ErrNotExist)
	}
	if absent {
		return false
	}
	var content []byte
	mode := filemode.Regular
	switch {
	case info.Mode()&fs.ModeSymlink != 0:
		target, err := os.Readlink(file)
		if err != nil {
			return false
		}
		mode, content = filemode.Symlink, []byte(target)
	case info.Mode().IsRegular():
		if info.Mode()&0o100 != 0 {
			mode = filemode.Executable
		}
		if content, err = os.ReadFile(file); err != nil {
			return false
		}
	default:
		return false
	}
	return mode == was.Mode && plumbing.ComputeHash(plumbing.BlobObject, content) == was.Hash
}

// Contains reports whether a path on disk lies in the working tree, and where,
// with slashes from the root.
func (w *WorkingTree) Contains(path string) (string, bool) {
	abs, err := filepath.Abs(path)
	if err != nil {
		return "", false
	}
	rel, err := filepath.Rel(w.Root, abs)
	if err != nil || rel == ".." || strings.HasPrefix(rel, ".."+string(filepath.Separator)) {
		return "", false
	}
	return filepath.ToSlash(rel), true
}
