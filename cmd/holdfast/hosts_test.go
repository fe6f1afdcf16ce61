package main

import (
	"os"
	"strings"
	"testing"

	"holdfast/vcs"
	"holdfast/vcs/azuredevops"
	"holdfast/vcs/bitbucket"
	"holdfast/vcs/gitea"
	"holdfast/vcs/github"
	"holdfast/vcs/github/githubtest"
	"holdfast/vcs/gitlab"
	"holdfast/vcs/plaingit"
)

// TestHostsPage holds the table of docs/hosts.md to what the adapters can do.
func TestHostsPage(t *testing.T) {
	must := func(h vcs.Host, err error) vcs.Host {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		return h
	}
	app, err := github.New(github.Config{App: &github.App{ID: 1, PrivateKey: githubtest.PrivateKey()}, Pull: true})
	columns := []vcs.Host{must(app, err)}
	token, err := github.New(github.Config{Token: "t", Pull: true})
	columns = append(columns, must(token, err))
	lab, err := gitlab.New(gitlab.Config{Token: "t", Pull: true})
	columns = append(columns, must(lab, err))
	tea, err := gitea.New(gitea.Config{URL: "https://git.example.com", Token: "t", Pull: true})
	columns = append(columns, must(tea, err))
	bucket, err := bitbucket.New(bitbucket.Config{Token: "t", Pull: true})
	columns = append(columns, must(bucket, err))
	azure, err := azuredevops.New(azuredevops.Config{Token: "t", Pull: true})
	columns = append(columns, must(azure, err), (*plaingit.Host)(nil))

	rows := map[string]func(vcs.Host) bool{
		"webhooks": can[vcs.Webhooks],
		"comment edited in place, commands in comments": can[vcs.Comments],
		"commit statuses": can[vcs.Statuses],
		"plan and remarks on lines beside the commit": func(h vcs.Host) bool {
			c, ok := h.(vcs.Checks)
			return ok && c.ShowsDetails()
		},
		"lost statuses are found":                       can[vcs.StatusReader],
		"mark on a command that was read":               can[vcs.Reactions],
		"reviews (`approved`), conflicts (`mergeable`)": can[vcs.Reviews],
		"merge for the author (`automerge`)":            can[vcs.Merger],
		"pull requests of its own (rollback, setup)":    can[vcs.Opener],
		"edit its own pull requests":                    can[vcs.PullEditor],
		"tickets":                                       can[vcs.Tickets],
		"deployments for each workspace":                can[vcs.Deployments],
		"repositories by pattern":                       can[vcs.Lister],
		"permissions of the token are checked":          can[vcs.Grants],
		"webhook set up by `holdfast setup`":            can[vcs.Hooks],
		"clock is compared":                             can[vcs.Clock],
		"requests are kept below a limit":               can[vcs.Budget],
		"notes beside the commit":                       can[vcs.Notes],
	}
	page, err := os.ReadFile("../../docs/hosts.md")
	if err != nil {
		t.Fatal(err)
	}
	seen := 0
	for line := range strings.Lines(string(page)) {
		cells := strings.Split(strings.Trim(strings.TrimSpace(line), "|"), "|")
		has, ok := rows[strings.TrimSpace(cells[0])]
		if !ok || len(cells) < 3 {
			continue
		}
		seen++
		if len(cells) != len(columns)+1 {
			t.Errorf("%s: %d cells, want %d", cells[0], len(cells), len(columns)+1)
			continue
		}
		for i, h := range columns {
			cell := strings.TrimSpace(cells[i+1])
			if said := !strings.HasPrefix(cell, "no"); said != has(h) {
				t.Errorf("%s, %T: the page says %q, and the adapter %v", strings.TrimSpace(cells[0]), h, cell, has(h))
			}
		}
	}
	if seen != len(rows) {
		t.Errorf("the page has %d of %d rows", seen, len(rows))
	}
}

func can[T any](h vcs.Host) bool {
	_, ok := h.(T)
	return ok
}
