package gittest

import (
	"path/filepath"
)

// TB is what Must needs of a *testing.T; testing itself is not imported, so
// that programs may use this package.
type TB interface {
	Helper()
	Fatalf(format string, args ...any)
	TempDir() string
}

// Must is a Repo whose methods end the test instead of returning errors.
type Must struct {
	*Repo
	t TB
}

// New makes an empty bare repository in a temporary directory of the test.
func New(t TB) *Must {
	t.Helper()
	r, err := Init(filepath.Join(t.TempDir(), "repo.git"))
	if err != nil {
		t.Fatalf("make repository: %v", err)
	}
	return &Must{Repo: r, t: t}
}

// In wraps an existing Repo.
func In(t TB, r *Repo) *Must { return &Must{Repo: r, t: t} }

// Commit is Repo.Commit.
func (m *Must) Commit(branch string, files map[string]string, message string) string {
	m.t.Helper()
	return m.sha(m.Repo.Commit(branch, files, message))
}

// Delete is Repo.Delete.
func (m *Must) Delete(branch, message string, paths ...string) string {
	m.t.Helper()
	return m.sha(m.Repo.Delete(branch, message, paths...))
}

// Apply is Repo.Apply.
func (m *Must) Apply(c Change) string {
	m.t.Helper()
	return m.sha(m.Repo.Apply(c))
}

// Merge is Repo.Merge.
func (m *Must) Merge(from, into string, method MergeMethod) string {
	m.t.Helper()
	return m.sha(m.Repo.Merge(from, into, method))
}

// Head is Repo.Head.
func (m *Must) Head(branch string) string {
	m.t.Helper()
	return m.sha(m.Repo.Head(branch))
}

// Ref is Repo.Ref.
func (m *Must) Ref(name string) string {
	m.t.Helper()
	return m.sha(m.Repo.Ref(name))
}

// Branch is Repo.Branch.
func (m *Must) Branch(name, from string) {
	m.t.Helper()
	m.ok(m.Repo.Branch(name, from))
}

// DeleteBranch is Repo.DeleteBranch.
func (m *Must) DeleteBranch(name string) {
	m.t.Helper()
	m.ok(m.Repo.DeleteBranch(name))
}

// SetRef is Repo.SetRef.
func (m *Must) SetRef(name, sha string) {
	m.t.Helper()
	m.ok(m.Repo.SetRef(name, sha))
}

// Files is Repo.Files.
func (m *Must) Files(rev string) map[string]string {
	m.t.Helper()
	files, err := m.Repo.Files(rev)
	m.ok(err)
	return files
}

func (m *Must) sha(s string, err error) string {
	m.t.Helper()
	m.ok(err)
	return s
}

func (m *Must) ok(err error) {
	m.t.Helper()
	if err != nil {
		m.t.Fatalf("%s: %v", m.Dir, err)
	}
}
