package git_test

import (
	"fmt"
	"strings"
	"testing"

	"holdfast/vcs/git"
)

// large is a repository of 2,000 files with 1,000 commits.
func large(b *testing.B) (*remoteRepo, *git.Mirrors, []string) {
	b.Helper()
	r := newRemote(b)
	files := map[string]string{}
	for i := range 2000 {
		files[fmt.Sprintf("live/%02d/%02d/main-%d.tf", i%40, i%7, i)] = strings.Repeat(fmt.Sprintf("resource %d {}\n", i), 40)
	}
	shas := []string{r.commit(files)}
	for i := range 1000 {
		tree := r.tree(plain(map[string]string{"a": fmt.Sprint(i)}))
		if i == 999 {
			tree = r.tree(plain(files))
		}
		shas = append(shas, r.commitTree(tree, shas[i]))
	}
	r.set("main", shas[1000])
	m, err := git.New(git.Config{Dir: b.TempDir(), MaxCheckouts: 1})
	if err != nil {
		b.Fatal(err)
	}
	if err := m.Fetch(b.Context(), repo, r.remote()); err != nil {
		b.Fatal(err)
	}
	return r, m, shas
}

func BenchmarkFetchNothingNew(b *testing.B) {
	r, m, _ := large(b)
	for b.Loop() {
		if err := m.Fetch(b.Context(), repo, r.remote()); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkMergeBase(b *testing.B) {
	_, m, shas := large(b)
	for b.Loop() {
		if _, err := m.MergeBase(b.Context(), repo, shas[1000], shas[990]); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkCheckout2000Files(b *testing.B) {
	r, _, shas := large(b)
	for b.Loop() {
		b.StopTimer()
		m, err := git.New(git.Config{Dir: b.TempDir()})
		if err != nil {
			b.Fatal(err)
		}
		if err := m.Fetch(b.Context(), repo, r.remote()); err != nil {
			b.Fatal(err)
		}
		b.StartTimer()
		_, release, err := m.Checkout(b.Context(), repo, shas[1000])
		if err != nil {
			b.Fatal(err)
		}
		release()
	}
}
