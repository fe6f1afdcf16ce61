package azuredevops

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"html"
	"net/http"
	"net/url"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"holdfast/vcs"
	"holdfast/vcs/transport"
)

// maxTicket is what a description may have here, in bytes: the host takes more,
// and shows it slowly.
const maxTicket = 150_000

// commentsVersion is that of the API of comments on work items.
const commentsVersion = "api-version=7.1-preview.4"

// board is what is known of a project's work items.
type board struct {
	kind   string                 // of tickets: "Issue" or "Task"
	states map[string][]workState // by kind of work item, in their order
}

type workState struct {
	Name     string `json:"name"`
	Category string `json:"category"` // Proposed, InProgress, Resolved, Completed or Removed
}

type workItem struct {
	ID     int `json:"id"`
	Fields struct {
		Title       string `json:"System.Title"`
		Description string `json:"System.Description"`
		State       string `json:"System.State"`
		Kind        string `json:"System.WorkItemType"`
		Tags        string `json:"System.Tags"` // separated by semicolons
	} `json:"fields"`
	Relations []struct {
		Rel string `json:"rel"`
		URL string `json:"url"`
	} `json:"relations"`
}

func (x workItem) tags() []string {
	all := strings.Split(x.Fields.Tags, ";")
	for i := range all {
		all[i] = strings.TrimSpace(all[i])
	}
	return all
}

// operation is one of a JSON patch.
type operation struct {
	Op    string `json:"op"`
	Path  string `json:"path"`
	Value any    `json:"value"`
}

func set(path string, value any) operation { return operation{"add", path, value} }

// work is the path of the API of work items, which belong to a project. rest may
// have a query.
func work(r vcs.Repository, rest string) string {
	path := "/" + escaped(r.Owner) + "/_apis/wit/" + rest
	switch {
	case strings.Contains(rest, "api-version="):
		return path
	case strings.Contains(rest, "?"):
		return path + "&" + version
	}
	return path + "?" + version
}

// page is the repository's address, to which its tickets link: that is how they
// are told from those of the project's other repositories.
func (h *Host) page(r vcs.Repository) string {
	return h.cfg.URL + "/" + escaped(r.Owner) + "/_git/" + url.PathEscape(r.Name)
}

// MaxTicket is the longest body of a ticket, in bytes.
func (h *Host) MaxTicket() int { return maxTicket }

// boardOf returns the project's board, which the host is asked for once.
func (h *Host) boardOf(ctx context.Context, r vcs.Repository) (*board, error) {
	h.mu.Lock()
	b := h.boards[r.Owner]
	h.mu.Unlock()
	if b != nil {
		return b, nil
	}
	var kinds struct {
		Value []struct {
			Name     string `json:"name"`
			Disabled bool   `json:"isDisabled"`
		} `json:"value"`
	}
	if _, err := h.api.Do(ctx, http.MethodGet, work(r, "workitemtypes"), nil, &kinds); err != nil {
		return nil, transport.Wrap(err, "list kinds of work items of %s", r)
	}
	b = &board{states: map[string][]workState{}}
	for _, k := range kinds.Value {
		if !k.Disabled && (k.Name == "Issue" || k.Name == "Task" && b.kind == "") {
			b.kind = k.Name
		}
	}
	if b.kind == "" {
		return nil, fmt.Errorf("the project of %s has neither issues nor tasks as work items: %w", r, vcs.ErrNoTickets)
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	h.boards[r.Owner] = b
	return b, nil
}

// states returns the states that a kind of work items has.
func (h *Host) states(ctx context.Context, r vcs.Repository, kind string) ([]workState, error) {
	b, err := h.boardOf(ctx, r)
	if err != nil {
		return nil, err
	}
	h.mu.Lock()
	found := b.states[kind]
	h.mu.Unlock()
	if found != nil {
		return found, nil
	}
	var list struct {
		Value []workState `json:"value"`
	}
	if _, err := h.api.Do(ctx, http.MethodGet, work(r, "workitemtypes/"+url.PathEscape(kind)+"/states"), nil, &list); err != nil {
		return nil, transport.Wrap(err, "list states of work items of %s", r)
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	b.states[kind] = list.Value
	return list.Value, nil
}

// noTickets tells a project without issues from one that is gone, and has the
// board asked for again. Any other error is returned as it is.
func (h *Host) noTickets(ctx context.Context, r vcs.Repository, err error) error {
	h.mu.Lock()
	delete(h.boards, r.Owner)
	h.mu.Unlock()
	if !errors.Is(err, vcs.ErrNotFound) {
		return err
	}
	if _, berr := h.boardOf(ctx, r); berr != nil {
		return berr
	}
	return err
}

// Ticket returns one ticket as it is now.
func (h *Host) Ticket(ctx context.Context, r vcs.Repository, number int) (vcs.Ticket, error) {
	x, err := h.workItem(ctx, r, number)
	if err != nil {
		return vcs.Ticket{}, err
	}
	return h.convertTicket(ctx, r, x)
}

func (h *Host) workItem(ctx context.Context, r vcs.Repository, number int) (x workItem, err error) {
	_, err = h.api.Do(ctx, http.MethodGet, work(r, "workitems/"+strconv.Itoa(number)), nil, &x)
	if err == nil && x.ID != number {
		err = fmt.Errorf("the host answered work item %d", x.ID)
	}
	if err != nil {
		return x, transport.Wrap(h.noTickets(ctx, r, err), "read work item %d of %s", number, r)
	}
	return x, nil
}

func (h *Host) convertTicket(ctx context.Context, r vcs.Repository, x workItem) (vcs.Ticket, error) {
	open, err := h.isOpen(ctx, r, x)
	return vcs.Ticket{
		Number: x.ID, Title: x.Fields.Title, Body: x.Fields.Description, Open: open,
		URL: h.cfg.URL + "/" + escaped(r.Owner) + "/_workitems/edit/" + strconv.Itoa(x.ID),
	}, err
}

func (h *Host) isOpen(ctx context.Context, r vcs.Repository, x workItem) (bool, error) {
	states, err := h.states(ctx, r, x.Fields.Kind)
	return !slices.ContainsFunc(states, func(s workState) bool {
		return s.Name == x.Fields.State && (s.Category == "Completed" || s.Category == "Removed")
	}), err
}

// FindTickets asks for the work items that the token's user made, those with the
// tag and then the latest of all: where a token may make no tags they are left
// out. Those that do not link to the repository are another one's.
func (h *Host) FindTickets(ctx context.Context, r vcs.Repository, label string) ([]vcs.Ticket, error) {
	found, err := h.findTickets(ctx, r, label)
	if err != nil {
		return nil, transport.Wrap(err, "list work items of %s", r)
	}
	return transport.LatestTickets(found), nil
}

func (h *Host) findTickets(ctx context.Context, r vcs.Repository, label string) (found []vcs.Ticket, err error) {
	if _, err := h.repository(ctx, r); err != nil {
		return nil, err
	}
	if _, err := h.boardOf(ctx, r); err != nil {
		return nil, err
	}
	quoted := "'" + strings.ReplaceAll(label, "'", "''") + "'"
	for _, tagged := range []string{"AND [System.Tags] CONTAINS " + quoted + " ", ""} {
		var list struct {
			WorkItems []struct {
				ID int `json:"id"`
			} `json:"workItems"`
		}
		query := "SELECT [System.Id] FROM WorkItems WHERE [System.TeamProject] = @project AND [System.CreatedBy] = @Me " + tagged + "ORDER BY [System.Id] DESC"
		if _, err := h.api.Do(ctx, http.MethodPost, work(r, "wiql?$top="+strconv.Itoa(vcs.MaxTickets)), map[string]string{"query": query}, &list); err != nil {
			return nil, h.noTickets(ctx, r, err)
		}
		ids := []int{}
		for _, x := range list.WorkItems[:min(len(list.WorkItems), vcs.MaxTickets)] {
			if !slices.ContainsFunc(found, func(t vcs.Ticket) bool { return t.Number == x.ID }) {
				ids = append(ids, x.ID)
			}
		}
		if len(ids) == 0 {
			continue
		}
		var items struct {
			Value []*workItem `json:"value"` // null for those that are gone
		}
		if _, err := h.api.Do(ctx, http.MethodPost, work(r, "workitemsbatch"), map[string]any{"ids": ids, "$expand": "Relations", "errorPolicy": "Omit"}, &items); err != nil {
			return nil, h.noTickets(ctx, r, err)
		}
		for _, x := range items.Value {
			if x == nil || !h.linksTo(r, *x) || !vcs.IsOwnTicket(label, x.tags(), x.Fields.Description) {
				continue
			}
			t, err := h.convertTicket(ctx, r, *x)
			if err != nil {
				return nil, err
			}
			found = append(found, t)
		}
	}
	return found, nil
}

// linksTo reports whether a work item is of the repository.
func (h *Host) linksTo(r vcs.Repository, x workItem) bool {
	bare := func(address string) string { // however it is escaped
		if s, err := url.PathUnescape(address); err == nil {
			address = s
		}
		return strings.ToLower(strings.TrimRight(address, "/"))
	}
	for _, l := range x.Relations {
		if l.Rel == "Hyperlink" && bare(l.URL) == bare(h.page(r)) {
			return true
		}
	}
	return false
}

// CreateTicket opens a ticket: an issue, or a task where the project's process has
// no issues. Its text is Markdown. The label is a tag.
func (h *Host) CreateTicket(ctx context.Context, r vcs.Repository, t vcs.NewTicket) (vcs.Ticket, error) {
	made, err := h.createTicket(ctx, r, t)
	if err != nil {
		return vcs.Ticket{}, transport.Wrap(err, "open work item for %s", r)
	}
	return made, nil
}

func (h *Host) createTicket(ctx context.Context, r vcs.Repository, t vcs.NewTicket) (vcs.Ticket, error) {
	if _, err := h.repository(ctx, r); err != nil {
		return vcs.Ticket{}, err
	}
	b, err := h.boardOf(ctx, r)
	if err != nil {
		return vcs.Ticket{}, err
	}
	fields := []operation{
		set("/fields/System.Title", transport.TicketTitle(t, maxTitle)),
		set("/fields/System.Description", transport.CutText(transport.Storable(t.Body), maxTicket)),
		set("/multilineFieldsFormat/System.Description", "Markdown"),
		set("/relations/-", map[string]any{"rel": "Hyperlink", "url": h.page(r), "attributes": map[string]string{"comment": "Repository"}}),
	}
	tagged := fields
	if t.Label != "" {
		tagged = append(slices.Clone(fields), set("/fields/System.Tags", t.Label))
	}
	var x workItem
	path := work(r, "workitems/$"+url.PathEscape(b.kind))
	_, err = h.patch.Do(ctx, http.MethodPost, path, tagged, &x)
	var answer *transport.Error
	if errors.As(err, &answer) && strings.Contains(string(answer.Body), "TF401289") { // no new tags from this user
		_, err = h.patch.Do(ctx, http.MethodPost, path, fields, &x)
	}
	if err == nil && x.ID <= 0 {
		err = errors.New("the host answered without the work item's number")
	}
	if err != nil {
		return vcs.Ticket{}, h.noTickets(ctx, r, err)
	}
	return h.convertTicket(ctx, r, x)
}

// EditTicket sets title and description. A work item that is open or closed as it
// has to be keeps its state; else it gets the first one of those that are.
func (h *Host) EditTicket(ctx context.Context, r vcs.Repository, number int, e vcs.TicketEdit) error {
	x, err := h.workItem(ctx, r, number)
	if err != nil {
		return err
	}
	fields := []operation{set("/fields/System.Description", transport.CutText(transport.Storable(e.Body), maxTicket))}
	if title := transport.Line(e.Title, maxTitle); title != "" {
		fields = append(fields, set("/fields/System.Title", title))
	}
	open, err := h.isOpen(ctx, r, x)
	if err != nil {
		return err
	}
	if open != e.Open {
		state, err := h.firstState(ctx, r, x.Fields.Kind, e.Open)
		if err != nil {
			return err
		}
		fields = append(fields, set("/fields/System.State", state))
	}
	if _, err := h.patch.Do(ctx, http.MethodPatch, work(r, "workitems/"+strconv.Itoa(number)), fields, nil); err != nil {
		return transport.Wrap(h.noTickets(ctx, r, err), "edit work item %d of %s", number, r)
	}
	return nil
}

// firstState is the first state of an open or of a closed work item.
func (h *Host) firstState(ctx context.Context, r vcs.Repository, kind string, open bool) (string, error) {
	states, err := h.states(ctx, r, kind)
	if err != nil {
		return "", err
	}
	want := "Completed"
	if open {
		want = "Proposed"
	}
	for _, s := range states {
		if s.Category == want {
			return s.Name, nil
		}
	}
	return "", fmt.Errorf("a %s of %s has no state of the category %s", transport.Printable(kind), r, want)
}

// CommentTicket adds a comment in Markdown.
func (h *Host) CommentTicket(ctx context.Context, r vcs.Repository, number int, body string) error {
	path := work(r, "workItems/"+strconv.Itoa(number)+"/comments?format=markdown&"+commentsVersion)
	text := map[string]string{"text": transport.CutText(transport.Storable(body), maxComment)}
	if _, err := h.api.Do(ctx, http.MethodPost, path, text, nil); err != nil {
		return transport.Wrap(h.noTickets(ctx, r, err), "comment on work item %d of %s", number, r)
	}
	return nil
}

// TicketComments returns the comments in plain text where people wrote them in
// HTML.
func (h *Host) TicketComments(ctx context.Context, r vcs.Repository, number int, since time.Time) ([]vcs.Comment, error) {
	found, err := h.ticketComments(ctx, r, number, since.Truncate(time.Second)) // the host rounds
	if err != nil {
		return nil, transport.Wrap(h.noTickets(ctx, r, err), "list comments of work item %d of %s", number, r)
	}
	slices.SortFunc(found, func(a, b vcs.Comment) int {
		return cmp.Or(a.CreatedAt.Compare(b.CreatedAt), cmp.Compare(a.ID, b.ID))
	})
	return slices.CompactFunc(found, func(a, b vcs.Comment) bool { return a.ID == b.ID }), nil
}

func (h *Host) ticketComments(ctx context.Context, r vcs.Repository, number int, since time.Time) (found []vcs.Comment, err error) {
	next := ""
	for range maxPages {
		var list struct {
			Comments []struct {
				ID        int64     `json:"id"`
				Text      string    `json:"text"`
				Format    string    `json:"format"`
				Deleted   bool      `json:"isDeleted"`
				CreatedBy identity  `json:"createdBy"`
				Created   time.Time `json:"createdDate"`
			} `json:"comments"`
			Next string `json:"continuationToken"`
		}
		path := work(r, fmt.Sprintf("workItems/%d/comments?$top=%d&order=desc%s&%s", number, pageSize, next, commentsVersion))
		if _, err := h.api.Do(ctx, http.MethodGet, path, nil, &list); err != nil {
			return nil, err
		}
		for _, c := range list.Comments { // the newest first
			if c.Created.Before(since) {
				return found, nil
			}
			if c.Deleted {
				continue
			}
			if !strings.EqualFold(c.Format, "markdown") {
				c.Text = plain(c.Text)
			}
			found = append(found, vcs.Comment{ID: c.ID, Number: number, Author: c.CreatedBy.UniqueName, Body: c.Text, CreatedAt: c.Created})
		}
		if list.Next == "" || len(list.Comments) == 0 {
			return found, nil
		}
		next = "&continuationToken=" + url.QueryEscape(list.Next)
	}
	return nil, fmt.Errorf("the host's list has no end after %d pages", maxPages)
}

var (
	lineEnds = regexp.MustCompile(`(?i)<br\s*/?>|</(div|p|li)>`)
	tags     = regexp.MustCompile(`<[^<>]*>`)
)

// plain is what HTML says, line by line.
func plain(text string) string {
	text = tags.ReplaceAllString(lineEnds.ReplaceAllString(text, "\n"), "")
	return strings.TrimSpace(strings.ReplaceAll(html.UnescapeString(text), "\u00a0", " "))
}
