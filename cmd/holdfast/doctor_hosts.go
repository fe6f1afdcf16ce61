package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"time"

	"holdfast/runner"
	"holdfast/vcs"
	"holdfast/vcs/git"
	"holdfast/vcs/plaingit"
)

// patternOf is a pattern of the server file.
type patternOf = runner.Pattern

func patternsOf(s Settings) []patternOf {
	var all []patternOf
	for _, r := range s.Repositories {
		if r.Pattern != "" {
			all = append(all, s.pattern(r))
		}
	}
	return all
}

// seenTo reads when a repository was last looked at.
func seenTo(record []byte) time.Time {
	var known struct {
		SeenTo time.Time `json:"seen_to"`
	}
	_ = json.Unmarshal(record, &known) // a zero time is not known
	return known.SeenTo
}

// host checks a token and the clock, and whether the host allows as many
// requests as its repositories need.
func (d *doctor) host(ctx context.Context, s Settings, h HostSettings, host vcs.Host, repositories int) {
	name := "host " + h.Name
	failed := false
	if c, ok := host.(vcs.Clock); ok {
		before := time.Now()
		at, err := c.Time(ctx)
		if err != nil {
			d.fail(name, err, "look whether this machine reaches "+h.URL+", and whether the token is right")
			return
		}
		// The host's time has whole seconds, and the answer was under way.
		off := before.Sub(at)
		if off < 0 {
			off = max(0, time.Until(at))
		} else {
			off = max(0, off-time.Second)
		}
		switch detail := fmt.Sprintf("this machine's clock is %s away from the host's", off.Round(time.Second)); {
		case off > clockFail:
			failed = true
			d.fail(name, errors.New(detail), "have the clock set by NTP: locks and schedules depend on it")
		case off > clockWarn:
			d.warn(name, detail, "have the clock set by NTP: locks and schedules depend on it")
		}
	}
	if c, ok := host.(vcs.Comments); ok && !failed {
		who, err := c.Self(ctx)
		if err != nil {
			d.fail(name, err, "")
			return
		}
		d.ok(name, "the token is "+who+"'s")
	}
	if l, ok := host.(vcs.Lister); ok {
		for _, p := range patternsOf(s) {
			if p.Host != h.Name {
				continue
			}
			found, err := l.Repositories(ctx, p.Owner())
			if err != nil {
				d.fail(name+", "+p.Glob, err, "")
				continue
			}
			n := 0
			for _, r := range found {
				if p.Matches(r) {
					n++
				}
			}
			repositories = max(repositories, n)
			d.ok(name+", "+p.Glob, "names "+count(n, "repository", "repositories"))
		}
	}
	if b, ok := host.(vcs.Budget); ok && h.Interval == 0 {
		perHour, perLook := b.Budget()
		every := runner.Interval(h.Pull, repositories, perHour, perLook)
		if h.Pull && every > 10*time.Minute {
			d.warn(name, fmt.Sprintf("%d repositories are looked at every %s each, to stay well below the host's limit", repositories, every.Round(time.Minute)), "set interval in the host block where that is too seldom, or use webhooks")
		}
	}
}

// repository checks what the token may do in a repository, and its webhook.
func (d *doctor) repository(ctx context.Context, s Settings, h HostSettings, host vcs.Host, r vcs.Repository) {
	name := "repository " + r.String()
	g, ok := host.(vcs.Grants)
	if !ok {
		if _, err := host.Remote(ctx, r); err != nil {
			d.fail(name, err, "")
			return
		}
	} else {
		grants, err := g.Grants(ctx, r)
		if err != nil {
			d.fail(name, err, "check owner and name in the repository block, and that the token may see it")
			return
		}
		for _, grant := range grants {
			hint := "it is needed for " + grant.For
			if grant.Page != "" {
				hint += "; grant it at " + grant.Page
			}
			switch {
			case grant.Granted:
			case grant.Optional:
				d.warn(name, "the token lacks "+grant.Permission, hint)
			default:
				d.fail(name, errors.New("the token lacks "+grant.Permission), hint)
			}
		}
	}
	d.ok(name, "is there")
	hooks, ok := host.(vcs.Hooks)
	if h.Pull || !ok {
		return
	}
	address := s.hookAddress(h)
	deliveries, err := hooks.Deliveries(ctx, r, address)
	if errors.Is(err, vcs.ErrDenied) || errors.Is(err, vcs.ErrNotFound) {
		d.warn(name, "the token may not look at webhooks", "see on the host's pages whether there is one to "+address)
		return
	}
	if err != nil {
		d.fail(name, err, "")
		return
	}
	bad := slices.DeleteFunc(deliveries, func(v vcs.Delivery) bool { return v.Status >= 200 && v.Status < 300 })
	if len(bad) > 0 {
		b := bad[0]
		d.warn(name, fmt.Sprintf("%d of the latest webhooks failed, the last with %d %s", len(bad), b.Status, b.Error),
			"401 is another secret; no answer means that the host cannot reach "+address+". What they would have told is found by looking")
	}
}

// plain asks a Git remote without a forge.
func (d *doctor) plain(ctx context.Context, s Settings, mirrors *git.Mirrors, r vcs.Repository) {
	name := "repository " + r.String()
	i := slices.IndexFunc(s.Repositories, func(o RepositorySettings) bool { return o.Repository == r })
	if i < 0 {
		return
	}
	host, err := plaingit.New(plaingit.Config{Name: r.Host, Git: mirrors, Repositories: map[vcs.Repository]vcs.Remote{r: s.Repositories[i].remote()}, State: noState{}})
	if err == nil {
		_, err = host.Remote(ctx, r)
	}
	if err != nil {
		d.fail(name, err, "check its url, credentials and default_branch")
		return
	}
	d.ok(name, "is there")
}

// noState forgets: nothing that is looked at here is to be remembered.
type noState struct{}

func (noState) Load(context.Context, vcs.Repository) ([]byte, error) { return nil, nil }
func (noState) Save(context.Context, vcs.Repository, []byte) error   { return nil }

// hookAddress is where a host's webhooks go.
func (s Settings) hookAddress(h HostSettings) string { return s.URL + "/webhooks/" + h.Name }
