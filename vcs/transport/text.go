package transport

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"unicode/utf8"

	"holdfast/vcs"
)

// Title is a new pull request's title in one line, of n characters at most.
func Title(p vcs.NewPull, n int) string {
	if s := Line(p.Title, n); s != "" {
		return s
	}
	return Cut(p.Branch, n)
}

// Line is a title in one line, of n characters at most; empty where nothing is
// left of it.
func Line(title string, n int) string {
	return Cut(strings.Join(strings.FieldsFunc(Storable(title), func(r rune) bool { return r <= ' ' || r == 0x7f }), " "), n)
}

// TicketTitle is a new ticket's title in one line, of n characters at most.
func TicketTitle(t vcs.NewTicket, n int) string {
	if s := Line(t.Title, n); s != "" {
		return s
	}
	return "Holdfast"
}

// LatestTickets sorts tickets, newest first, without repetitions: vcs.MaxTickets
// of them at most. Hosts give higher numbers to later ones.
func LatestTickets(found []vcs.Ticket) []vcs.Ticket {
	slices.SortFunc(found, func(a, b vcs.Ticket) int { return b.Number - a.Number })
	found = slices.CompactFunc(found, func(a, b vcs.Ticket) bool { return a.Number == b.Number })
	return found[:min(len(found), vcs.MaxTickets)]
}

// CheckBranches refuses a new pull request whose branches are no names, or
// another repository's (OWNER:BRANCH), or the same.
func CheckBranches(p vcs.NewPull) error {
	for _, branch := range []string{p.Branch, p.Base} {
		if branch == "" || strings.ContainsFunc(branch, func(r rune) bool { return r <= ' ' || r == 0x7f || r == ':' }) {
			return fmt.Errorf("%q is not a branch's name", branch)
		}
	}
	if p.Branch == p.Base {
		return errors.New("branch and base are the same")
	}
	return nil
}

// CheckMerge refuses a merge of what is no commit, or by a method that there is
// not.
func CheckMerge(sha, method string) error {
	if !slices.Contains([]string{"merge", "squash", "rebase"}, method) {
		return fmt.Errorf("method %q is not merge, squash or rebase", method)
	}
	if !IsSHA(sha) {
		return fmt.Errorf("head %q is not a commit id", sha)
	}
	return nil
}

// CutText shortens s to n bytes, the last of them "…" where any were lost.
func CutText(s string, n int) string {
	const end = "…"
	if len(s) <= n {
		return s
	}
	n -= len(end)
	for n > 0 && !utf8.RuneStart(s[n]) {
		n--
	}
	return s[:n] + end
}
