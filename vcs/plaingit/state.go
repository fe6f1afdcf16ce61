package plaingit

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"holdfast/vcs"
)

// repoState is what State keeps of a repository, as JSON.
type repoState struct {
	Version int `json:"version"`
	// Next is the number that the next pull request gets. It only grows.
	Next int `json:"next"`
	// Base and BaseSHA are the default branch as it was seen last.
	Base    string `json:"base"`
	BaseSHA string `json:"base_sha"`
	// Pulls are ordered by number. Of those that ended, the oldest are
	// forgotten.
	Pulls []*pull `json:"pulls"`
}

// pull is a pull request: one life of a branch.
type pull struct {
	Number    int           `json:"number"`
	Branch    string        `json:"branch"`
	HeadSHA   string        `json:"head_sha"`
	State     vcs.PullState `json:"state"`
	BaseRef   string        `json:"base_ref"`
	BaseSHA   string        `json:"base_sha"`
	MergeSHA  string        `json:"merge_sha,omitempty"`
	UpdatedAt time.Time     `json:"updated_at"`
}

const (
	stateVersion = 1
	// maxEnded is how many pull requests are remembered after their end.
	maxEnded = 1000
)

// decodeState reads a saved state. One that does not read is an error, and not
// a new beginning: numbers would be given twice.
func decodeState(data []byte) (*repoState, error) {
	s := &repoState{Version: stateVersion, Next: 1}
	if len(data) == 0 {
		return s, nil
	}
	if err := json.Unmarshal(data, s); err != nil {
		return nil, err
	}
	if s.Version != stateVersion {
		return nil, fmt.Errorf("version %d is not known to this program", s.Version)
	}
	if s.Next < 1 {
		return nil, fmt.Errorf("next number %d", s.Next)
	}
	for _, p := range s.Pulls {
		if p == nil || p.Number < 1 || p.Number >= s.Next {
			return nil, errors.New("a pull request's number was never given")
		}
	}
	return s, nil
}

// open returns the open pull request of a branch, nil where it has none.
func (s *repoState) open(branch string) *pull {
	for _, p := range s.Pulls {
		if p.Branch == branch && p.State == vcs.Open {
			return p
		}
	}
	return nil
}

// last returns the latest pull request of a branch, nil where it never had
// one.
func (s *repoState) last(branch string) *pull {
	for i := len(s.Pulls) - 1; i >= 0; i-- {
		if s.Pulls[i].Branch == branch {
			return s.Pulls[i]
		}
	}
	return nil
}

// add gives a branch its number.
func (s *repoState) add(p *pull) {
	p.Number = s.Next
	s.Next++
	s.Pulls = append(s.Pulls, p)
}

// trim forgets the oldest of those that ended. The latest of a branch that
// still exists stays: it tells a merged branch from a new one.
func (s *repoState) trim(branches map[string]string) {
	ended := 0
	for _, p := range s.Pulls {
		if p.State != vcs.Open {
			ended++
		}
	}
	kept := s.Pulls[:0]
	for _, p := range s.Pulls {
		_, exists := branches[p.Branch]
		if p.State != vcs.Open && ended > maxEnded && !exists {
			ended--
			continue
		}
		kept = append(kept, p)
	}
	clear(s.Pulls[len(kept):])
	s.Pulls = kept
}

// Dir is a State in files of a directory, one per repository.
type Dir string

var _ State = Dir("")

func (d Dir) file(r vcs.Repository) string {
	sum := sha256.Sum256([]byte(r.String()))
	return filepath.Join(string(d), hex.EncodeToString(sum[:12])+".json")
}

// Load implements State.
func (d Dir) Load(_ context.Context, r vcs.Repository) ([]byte, error) {
	data, err := os.ReadFile(d.file(r))
	if errors.Is(err, os.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("read state of %s: %w", r, err)
	}
	return data, nil
}

// Save implements State.
func (d Dir) Save(_ context.Context, r vcs.Repository, data []byte) error {
	if err := d.save(r, data); err != nil {
		return fmt.Errorf("write state of %s: %w", r, err)
	}
	return nil
}

func (d Dir) save(r vcs.Repository, data []byte) error {
	if err := os.MkdirAll(string(d), 0o700); err != nil {
		return err
	}
	f, err := os.CreateTemp(string(d), ".tmp-*")
	if err != nil {
		return err
	}
	defer os.Remove(f.Name()) // gone already when all went well
	_, err = f.Write(data)
	if err == nil {
		err = f.Sync()
	}
	if cerr := f.Close(); err == nil {
		err = cerr
	}
	if err != nil {
		return err
	}
	return os.Rename(f.Name(), d.file(r))
}
