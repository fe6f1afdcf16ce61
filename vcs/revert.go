package vcs

import (
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"
)

// Revert takes back what changed between two commits, by one commit on a branch
// of its own.
type Revert struct {
	From, To string // the commit before the change, and the one after it
	Onto     string // the new commit's parent
	Branch   string // the branch's name, which is made on the remote
	Message  string
	When     time.Time // of the new commit, to the second. Defaults to now
}

var (
	// ErrExists: the branch is there already, with something else.
	ErrExists = errors.New("vcs: the branch exists already")
	// ErrNothing: there is nothing left to take back.
	ErrNothing = errors.New("vcs: nothing to take back")
)

// ConflictError says that later changes are in the way of taking one back.
type ConflictError struct {
	Paths []string // sorted; named by commits, so that anything may be in them
}

// Error names the paths, the first ten of them.
func (e *ConflictError) Error() string {
	const most = 10
	var names []string
	for _, p := range e.Paths[:min(len(e.Paths), most)] {
		if q := strconv.Quote(p); q != `"`+p+`"` {
			p = q
		}
		names = append(names, p)
	}
	s := "vcs: later changes are in the way, in " + strings.Join(names, ", ")
	if n := len(e.Paths) - most; n > 0 {
		s += fmt.Sprintf(" and %d more", n)
	}
	return s
}

// Hint says what to do.
func (e *ConflictError) Hint() string {
	return "revert by hand: git revert COMMIT (with -m 1 if it is a merge commit), then open a pull request"
}

// NewFile is a file that one commit adds, on a branch of its own.
type NewFile struct {
	Onto    string // the new commit's parent
	Branch  string // the branch's name, which is made on the remote
	Path    string // in the repository, with slashes
	Content string
	Message string
	When    time.Time // of the new commit, to the second. Defaults to now
}

// Commit is one commit on a branch of its own, which the branch is then made to
// be: what was there is replaced.
type Commit struct {
	Onto   string // the new commit's parent
	Branch string // the branch's name, which is made on the remote
	// Files is the new content by path, in the repository and with slashes. A
	// file that is there keeps its mode. A nil content deletes the file.
	Files   map[string][]byte
	Message string
	When    time.Time // of the new commit, to the second. Defaults to now
}
