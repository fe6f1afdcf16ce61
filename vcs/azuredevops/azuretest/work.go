package azuretest

import (
	"cmp"
	"html"
	"net/http"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"holdfast/vcs/vcstest/forge"
)

// project is the first repository of a project, whose issues are the project's
// work items here.
func project(r *forge.Request) (*forge.Repository, error) {
	var first *forge.Repository
	for _, repo := range r.Server.Repos {
		if repo.Owner == r.PathValue("org")+"/"+r.PathValue("project") && (first == nil || repo.ID < first.ID) {
			first = repo
		}
	}
	if first == nil {
		return nil, forge.NotFound()
	}
	return first, nil
}

func item(r *forge.Request) (*forge.Repository, *forge.Issue, error) {
	repo, err := project(r)
	if err != nil {
		return nil, nil, err
	}
	i := repo.Issues[r.Number("id")]
	if i == nil || repo.NoIssues {
		return nil, nil, fail(http.StatusNotFound, "TF401232: Work item does not exist, or you do not have permissions to read it.")
	}
	return repo, i, nil
}

// kinds has tasks first, and issues unless a test has a process without them.
func kinds(r *forge.Request) (int, any, error) {
	repo, err := project(r)
	if err != nil {
		return 0, nil, err
	}
	out := []object{{"name": "Bug"}, {"name": "Task"}, {"name": "Epic"}, {"name": "Issue", "isDisabled": repo.Extra["scrum"] != nil}}
	if repo.NoIssues {
		out = out[:1]
	}
	return http.StatusOK, value(out), nil
}

func kindStates(*forge.Request) (int, any, error) {
	return http.StatusOK, value([]object{
		{"name": "To Do", "category": "Proposed"}, {"name": "Later", "category": "Proposed"}, {"name": "Doing", "category": "InProgress"},
		{"name": "Done", "category": "Completed"}, {"name": "Forgotten", "category": "Completed"}, {"name": "Removed", "category": "Removed"},
	}), nil
}

func linksOf(repo *forge.Repository) map[int]string {
	links, _ := repo.Extra["links"].(map[int]string)
	if links == nil {
		links = map[int]string{}
		repo.Extra["links"] = links
	}
	return links
}

func itemJSON(repo *forge.Repository, i *forge.Issue, relations bool) object {
	state := "To Do"
	if i.State != "open" {
		state = "Done"
	}
	j := object{"id": i.Number, "rev": i.Edits + 1, "multilineFieldsFormat": object{"System.Description": "markdown"}, "fields": object{
		"System.Title": i.Title, "System.Description": i.Body, "System.State": state, "System.WorkItemType": cmp.Or(kindOf(repo, i), "Task"), "System.Tags": strings.Join(i.Labels, "; "),
		"System.CreatedBy": user(i.Author), "System.CreatedDate": stamp(i.Created),
	}}
	if link := linksOf(repo)[i.Number]; relations && link != "" {
		j["relations"] = []object{{"rel": "ArtifactLink", "url": "vstfs:///Git/Ref/x"}, {"rel": "Hyperlink", "url": link, "attributes": object{"comment": "Repository"}}}
	}
	return j
}

func kindOf(repo *forge.Repository, i *forge.Issue) string {
	kind, _ := repo.Extra["kind "+strconv.Itoa(i.Number)].(string)
	return kind
}

var tagged = regexp.MustCompile(`\[System\.Tags\] CONTAINS '((?:[^']|'')*)'`)

func wiql(r *forge.Request) (int, any, error) {
	repo, err := project(r)
	if err != nil {
		return 0, nil, err
	}
	var in struct{ Query string }
	if err := r.Read(&in); err != nil {
		return 0, nil, err
	}
	if !strings.HasPrefix(in.Query, "SELECT [System.Id] FROM WorkItems WHERE [System.TeamProject] = @project AND [System.CreatedBy] = @Me ") || !strings.HasSuffix(in.Query, "ORDER BY [System.Id] DESC") {
		return 0, nil, fail(http.StatusBadRequest, "TF51006: The query statement is missing a FROM clause.")
	}
	tag := ""
	if m := tagged.FindStringSubmatch(in.Query); m != nil {
		tag = strings.ReplaceAll(m[1], "''", "'")
	}
	top, _ := strconv.Atoi(r.Query("$top"))
	out := []object{}
	for _, i := range slices.Backward(repo.SortedIssues()) {
		if i.Author == r.User.Login && (tag == "" || slices.Contains(i.Labels, tag)) && len(out) < top {
			out = append(out, object{"id": i.Number, "url": "x"})
		}
	}
	return http.StatusOK, object{"queryType": "flat", "workItems": out}, nil
}

func batch(r *forge.Request) (int, any, error) {
	repo, err := project(r)
	if err != nil {
		return 0, nil, err
	}
	var in struct {
		IDs    []int
		Expand string `json:"$expand"`
	}
	if err := r.Read(&in); err != nil {
		return 0, nil, err
	}
	if len(in.IDs) == 0 || len(in.IDs) > 200 {
		return 0, nil, fail(http.StatusBadRequest, "VS402335: between 1 and 200 ids")
	}
	out := []any{}
	for _, id := range in.IDs {
		if i := repo.Issues[id]; i != nil {
			out = append(out, itemJSON(repo, i, in.Expand == "Relations"))
		} else {
			out = append(out, nil)
		}
	}
	return http.StatusOK, object{"count": len(out), "value": out}, nil
}

func getItem(r *forge.Request) (int, any, error) {
	repo, i, err := item(r)
	if err != nil {
		return 0, nil, err
	}
	return http.StatusOK, itemJSON(repo, i, false), nil
}

// patched are the values that a JSON patch sets, by their paths.
func patched(r *forge.Request) (map[string]any, error) {
	if r.Header.Get("Content-Type") != "application/json-patch+json" {
		return nil, fail(http.StatusUnsupportedMediaType, "TF400898: The request's media type is not application/json-patch+json")
	}
	var ops []struct {
		Op, Path string
		Value    any
	}
	if err := r.Read(&ops); err != nil {
		return nil, err
	}
	all := map[string]any{}
	for _, o := range ops {
		if o.Op != "add" {
			return nil, fail(http.StatusBadRequest, "VS403: You must pass a valid patch document")
		}
		all[o.Path] = o.Value
	}
	if title, ok := all["/fields/System.Title"].(string); ok && (title == "" || len([]rune(title)) > 255) {
		return nil, fail(http.StatusBadRequest, "TF401320: Rule Error for field Title. Error code: InvalidTooLong.")
	}
	return all, nil
}

func createItem(r *forge.Request) (int, any, error) {
	repo, err := project(r)
	if err != nil {
		return 0, nil, err
	}
	kind, named := strings.CutPrefix(r.PathValue("kind"), "$")
	if repo.NoIssues || !named || kind != "Issue" && kind != "Task" {
		return 0, nil, fail(http.StatusNotFound, "VS402323: Work item type does not exist in project")
	}
	in, err := patched(r)
	if err != nil {
		return 0, nil, err
	}
	text := func(path string) string {
		s, _ := in[path].(string)
		return s
	}
	tag := text("/fields/System.Tags")
	switch {
	case tag != "" && repo.NoLabels:
		return 0, nil, fail(http.StatusForbidden, "TF401289: The current user does not have permissions to create tags.")
	case text("/fields/System.Title") == "" || text("/multilineFieldsFormat/System.Description") != "Markdown":
		return 0, nil, fail(http.StatusBadRequest, "TF401320: Rule Error for field Title. Error code: Required, InvalidEmpty.")
	}
	made := forge.Issue{Title: text("/fields/System.Title"), Body: text("/fields/System.Description"), Author: r.User.Login}
	if tag != "" {
		made.Labels = []string{tag}
	}
	i := repo.AddIssue(made)
	repo.Extra["kind "+strconv.Itoa(i.Number)] = kind
	if link, ok := in["/relations/-"].(object); ok && link["rel"] == "Hyperlink" {
		linksOf(repo)[i.Number], _ = link["url"].(string)
	}
	return http.StatusOK, itemJSON(repo, i, true), nil
}

func editItem(r *forge.Request) (int, any, error) {
	repo, i, err := item(r)
	if err != nil {
		return 0, nil, err
	}
	in, err := patched(r)
	if err != nil {
		return 0, nil, err
	}
	c := forge.IssueChange{}
	c.Title, _ = in["/fields/System.Title"].(string)
	if body, ok := in["/fields/System.Description"].(string); ok {
		c.Body = &body
	}
	if state, ok := in["/fields/System.State"].(string); ok {
		if c.State, ok = map[string]string{"To Do": "open", "Done": "closed"}[state]; !ok {
			return 0, nil, fail(http.StatusBadRequest, "TF401320: Rule Error for field State. Error code: InvalidListValue.")
		}
	}
	repo.ChangeIssue(i, c, r.User.Login)
	return http.StatusOK, itemJSON(repo, i, false), nil
}

// listItemComments has people's comments in HTML.
func listItemComments(r *forge.Request) (int, any, error) {
	_, i, err := item(r)
	if err != nil {
		return 0, nil, err
	}
	all := slices.Clone(i.Comments)
	if r.Query("order") == "desc" {
		slices.Reverse(all)
	}
	from, _ := strconv.Atoi(r.Query("continuationToken"))
	top, _ := strconv.Atoi(r.Query("$top"))
	to := min(from+cmp.Or(top, 200), len(all))
	out := object{"totalCount": len(all), "count": to - from}
	list := []object{}
	for _, c := range all[min(from, len(all)):to] {
		j := object{"id": c.ID, "workItemId": i.Number, "version": 1, "text": c.Body, "format": "markdown", "createdBy": user(c.Author), "createdDate": stamp(c.Created)}
		if c.Author != "holdfast" {
			j["text"], j["format"] = "<div>"+html.EscapeString(c.Body)+"<br></div>", "html"
		}
		list = append(list, j)
	}
	out["comments"] = list
	if to < len(all) {
		out["continuationToken"] = strconv.Itoa(to)
	}
	return http.StatusOK, out, nil
}

func createItemComment(r *forge.Request) (int, any, error) {
	repo, i, err := item(r)
	if err != nil {
		return 0, nil, err
	}
	var in struct{ Text string }
	if err := r.Read(&in); err != nil {
		return 0, nil, err
	}
	if in.Text == "" || len([]rune(in.Text)) > 150_000 || r.Query("format") != "markdown" {
		return 0, nil, fail(http.StatusBadRequest, "the comment is empty, too long or no Markdown")
	}
	c := repo.AddIssueComment(i, r.User.Login, in.Text)
	return http.StatusOK, object{"id": c.ID, "workItemId": i.Number, "text": c.Body}, nil
}
