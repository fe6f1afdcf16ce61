package integration

import (
	"fmt"
	"hash/fnv"
	"maps"
	"os"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"holdfast/store"
	"holdfast/vcs/azuredevops/azuretest"
	"holdfast/vcs/bitbucket/bitbuckettest"
	"holdfast/vcs/gitea/giteatest"
	"holdfast/vcs/github/githubtest"
	"holdfast/vcs/gitlab/gitlabtest"
	"holdfast/vcs/vcstest/forge"
)

// fakes are the hosts that the story is played on.
var fakes = map[string]func(forge.TB, forge.Config) *forge.Server{
	"gitea": giteatest.New, "github": githubtest.New, "gitlab": gitlabtest.New, "bitbucket": bitbuckettest.New, "azuredevops": azuretest.New,
}

// ownerOn is a repository's owner; Azure DevOps wants an organisation and a
// project.
func ownerOn(host string) string {
	if host == "azuredevops" {
		return "acme/platform"
	}
	return "platform"
}

// newWorldOn is a world whose forge is of that type. The settings are added to
// the host's block.
func newWorldOn(t *testing.T, host, settings string, files map[string]string) *world {
	t.Helper()
	w := &world{TB: t, dir: t.TempDir(), log: &lockedBuffer{}}
	w.cloud = startCloud(t)
	w.forge = fakes[host](t, forge.Config{})
	w.repo = w.forge.CreateRepository(ownerOn(host), "network", files)
	w.repo.Grant("ann", "write")
	w.url = "http://" + freeAddress(t)
	w.name = w.forge.Name + "/" + ownerOn(host) + "/network"
	w.hosts = fmt.Sprintf("host %q %q {\n  url = %q\n  token = env(\"GITEA_TOKEN\")\n%s\n}\n\nrepository %q {}\n",
		host, w.forge.Name, w.forge.URL, settings, w.name)
	t.Cleanup(func() {
		w.stop()
		if t.Failed() {
			t.Logf("the server's log:\n%s", w.log)
		}
	})
	return w
}

const secretSetting = "  webhook_secret = env(\"GITEA_WEBHOOK_SECRET\")\n"

// story is what people do: a pull request that is planned, planned again on
// command, pushed to and merged; one that is closed; one that stays open.
func (w *world) story() {
	w.Helper()
	first := w.repo.Push("one", map[string]string{"app/main.tf": app("one")}, "Add one")
	n := w.repo.OpenPull(forge.OpenPull{Head: "one", Title: "Add one"})
	w.says(n, "smallcloud_server.one", first[:7])
	w.repo.Comment(n, "ann", "holdfast plan")
	w.answered(n, "Planning again")
	w.repo.Comment(n, "eve", "holdfast apply")
	w.answered(n, "need write permission")
	second := w.repo.Push("one", map[string]string{"app/main.tf": app("one", "two")}, "Add two")
	w.says(n, "smallcloud_server.two", second[:7])
	w.repo.Push("closed", map[string]string{"db/main.tf": app("never")}, "Add never")
	m := w.repo.OpenPull(forge.OpenPull{Head: "closed", Title: "Add never"})
	w.says(m, "smallcloud_server.never")
	w.repo.Close(m)
	w.repo.Merge(n, "merge")
	w.says(n, "✅ applied")
	w.repo.Push("open", map[string]string{"db/main.tf": app("later")}, "Add later")
	o := w.repo.OpenPull(forge.OpenPull{Head: "open", Title: "Add later"})
	w.says(o, "smallcloud_server.later")
	w.until("the closed one is known as such", func() bool { return w.stateOf(m) == "closed" })
	w.until("all statuses have come", func() bool {
		return len(w.unsettled()) == 0
	})
}

// says waits until Holdfast's report on a pull request says all of want.
func (w *world) says(number int, want ...string) {
	w.Helper()
	w.until(fmt.Sprintf("the report on #%d says %q", number, want), func() bool {
		for _, c := range w.repo.Comments(number) {
			if strings.HasPrefix(c.Body, "<!-- holdfast -->") && !slices.ContainsFunc(want, func(s string) bool { return !strings.Contains(c.Body, s) }) {
				return true
			}
		}
		return false
	})
}

// answered waits until a command was answered.
func (w *world) answered(number int, want string) {
	w.Helper()
	w.until(fmt.Sprintf("there is an answer %q", want), func() bool {
		return slices.ContainsFunc(w.repo.Comments(number), func(c forge.Comment) bool {
			return strings.HasPrefix(c.Body, "<!-- holdfast answers") && strings.Contains(c.Body, want)
		})
	})
}

// stateOf is what Holdfast knows of a pull request.
func (w *world) stateOf(number int) string {
	st := w.open()
	defer st.Close()
	rec, err := st.Records.Get(w.Context(), fmt.Sprintf("pull/%s#%d", w.repository(), number))
	if err != nil {
		return ""
	}
	if m := regexp.MustCompile(`"state":"(\w+)"`).FindSubmatch(rec.Value); m != nil {
		return string(m[1])
	}
	return ""
}

// unsettled are the statuses that are still pending on heads that have an end.
func (w *world) unsettled() []string {
	var out []string
	for _, p := range w.repo.Pulls() {
		all := w.repo.Statuses(p.HeadSHA)
		if len(all) == 0 {
			out = append(out, p.Head)
		}
		for name, s := range all {
			if (s.State == "pending" || s.State == "INPROGRESS") && p.State == "open" || p.Merged && !strings.HasPrefix(s.Description, "Applied") {
				out = append(out, p.Head+" "+name)
			}
		}
	}
	return out
}

var (
	changing  = regexp.MustCompile(`[0-9A-HJKMNP-TV-Z]{26}|\b[0-9a-f]{7,40}\b|http://127\.0\.0\.1:\d+|127\.0\.0\.1:\d+|holdfast answers \d+`)
	addresses = regexp.MustCompile(`\(HERE[^)]*\)`)
)

// visible is all that people see on the host, without what is another each time.
func (w *world) visible() []string {
	var out []string
	plain := func(s string) string {
		return addresses.ReplaceAllString(changing.ReplaceAllString(s, "HERE"), "(LINK)")
	}
	for _, p := range w.repo.Pulls() {
		out = append(out, fmt.Sprintf("#%d %s %s", p.Number, p.State, p.Title))
		var comments []string
		for _, c := range w.repo.Comments(p.Number) {
			comments = append(comments, fmt.Sprintf("#%d %s: %s", p.Number, c.Author, plain(c.Body)))
		}
		slices.Sort(comments) // answers may come in any order
		out = append(out, comments...)
		all := w.repo.Statuses(p.HeadSHA)
		for _, name := range slices.Sorted(maps.Keys(all)) {
			out = append(out, fmt.Sprintf("#%d status %s: %s %s", p.Number, name, all[name].State, plain(all[name].Description)))
		}
	}
	var servers []string
	for _, r := range w.cloud.resources() {
		servers = append(servers, fmt.Sprintf("%s made %d times", r.Name, w.cloud.created(r.Name)))
	}
	slices.Sort(servers)
	return append(out, servers...)
}

func same(t *testing.T, what string, got, want []string) {
	t.Helper()
	if slices.Equal(got, want) {
		return
	}
	t.Errorf("%s: the hosts show\n%s\n\n---- and not ----\n%s", what, strings.Join(got, "\n"), strings.Join(want, "\n"))
}

var storyFiles = map[string]string{
	"app/main.tf": app(), "db/main.tf": app(),
	"holdfast.hcl": "defaults {\n  drift {\n    schedule = \"0 0 1 1 *\"\n  }\n}\n",
}

// TestHosts plays the story on each host three times: with webhooks, without
// any, and with some that are lost, doubled or late. What people see in the end
// is the same.
func TestHosts(t *testing.T) {
	t.Parallel()
	for name := range fakes {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var want []string
			t.Run("webhooks", func(t *testing.T) {
				w := newWorldOn(t, name, secretSetting, storyFiles)
				w.repo.SetHook(w.url + "/webhooks/" + name)
				w.start()
				w.story()
				w.quiet()
				want = w.visible()
				if text := strings.Join(want, "\n"); !strings.Contains(text, "one made 1 times") || !strings.Contains(text, "two made 1 times") || strings.Contains(text, "never made") {
					t.Fatalf("the story did not go as told:\n%s", text)
				}
			})
			if t.Failed() {
				return
			}
			t.Run("pull", func(t *testing.T) {
				t.Parallel()
				w := newWorldOn(t, name, "  mode = \"pull\"\n  interval = \"1s\"\n", storyFiles)
				w.start()
				w.story()
				same(t, "without webhooks", w.visible(), want)
				w.withinOneInterval(listsOf[name])
				if n := len(w.forge.Deliveries()); n != 0 {
					t.Errorf("%d webhooks were sent", n)
				}
			})
			t.Run("lossy", func(t *testing.T) {
				t.Parallel()
				w := newWorldOn(t, name, secretSetting+"  interval = \"2s\"\n", storyFiles)
				w.repo.SetHook(w.url + "/webhooks/" + name)
				w.forge.Hold()
				w.start()
				network := w.lose()
				w.story()
				network.end()
				t.Log(network)
				w.quietButLooks()
				same(t, "with webhooks lost", w.visible(), want)
			})
		})
	}
}

// listsOf are how many lists of pull requests one look asks for.
var listsOf = map[string]int{"gitea": 2, "github": 2, "gitlab": 3, "bitbucket": 3, "azuredevops": 5}

// withinOneInterval checks that what people did was found by the next look: of
// each first plan, no more than one whole look lies between the push and the run.
func (w *world) withinOneInterval(lists int) {
	w.Helper()
	pulls := w.repo.Pulls()
	runs := w.runs(store.RunFilter{Kind: store.KindPlan})
	for _, p := range pulls {
		opened := w.repo.Opened(p.Number)
		var planned time.Time
		for _, r := range runs { // newest first
			if r.PullRequest == p.Number {
				planned = r.CreatedAt
			}
		}
		looks := 0
		for _, c := range w.forge.Calls("GET", "") {
			isList := strings.HasSuffix(c.Route, "/pulls") || strings.HasSuffix(c.Route, "/merge_requests") || strings.HasSuffix(c.Route, "/pullrequests")
			if isList && c.At.After(opened) && c.At.Before(planned) && c.First {
				looks++
			}
		}
		// Those of the look that found it, and those of one that was under way.
		if planned.IsZero() || looks > 2*lists {
			w.Errorf("#%d was planned after %d lists", p.Number, looks)
		}
	}
}

// quietButLooks waits until nothing is left to be done: looks and what they
// verify go on.
func (w *world) quietButLooks() {
	w.Helper()
	st := w.open()
	defer st.Close()
	w.until("all jobs are done", func() bool {
		for _, j := range w.busy(w.Context(), st) {
			if j.Kind != "reconcile" && !strings.HasSuffix(j.Key, "/verify") {
				return false
			}
		}
		return true
	})
}

// network takes the webhooks from the forge to the server, and loses a fifth of
// them, doubles a fifth, and is late with a fifth.
type network struct {
	stop                     chan struct{}
	late                     sync.WaitGroup
	lost, twice, tardy, sent int
	done                     chan struct{}
}

// lateness is how late: two looks of the test's interval, or what
// HOLDFAST_TEST_LATE says, such as 1m.
func lateness() time.Duration {
	if d, err := time.ParseDuration(os.Getenv("HOLDFAST_TEST_LATE")); err == nil {
		return d
	}
	return 4 * time.Second
}

func (w *world) lose() *network {
	n := &network{stop: make(chan struct{}), done: make(chan struct{})}
	go func() {
		defer close(n.done)
		seen := map[string]bool{}
		for count := 0; ; {
			for _, d := range w.forge.Held() {
				if seen[d.ID] {
					continue
				}
				seen[d.ID] = true
				hash := fnv.New32a()
				fmt.Fprint(hash, count, d.Event, d.Action)
				count++
				switch hash.Sum32() % 5 {
				case 0:
					n.lost++
					w.forge.Drop(d.ID)
				case 1:
					n.twice++
					w.forge.Send(d.ID, d.ID)
				case 2:
					n.tardy++
					n.late.Add(1)
					time.AfterFunc(lateness(), func() {
						defer n.late.Done()
						w.forge.Send(d.ID)
					})
				default:
					n.sent++
					w.forge.Send(d.ID)
				}
			}
			select {
			case <-n.stop:
				return
			case <-time.After(10 * time.Millisecond):
			}
		}
	}()
	return n
}

// end waits for what is late.
func (n *network) end() {
	close(n.stop)
	<-n.done
	n.late.Wait()
}

func (n *network) String() string {
	return fmt.Sprintf("of the webhooks %d were lost, %d doubled, %d late, and %d just sent", n.lost, n.twice, n.tardy, n.sent)
}
