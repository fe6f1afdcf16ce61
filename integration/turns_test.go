package integration

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"time"

	"holdfast/store"
	"holdfast/vcs/gitea/giteatest"
	"holdfast/vcs/vcstest/gittest"
)

// duel is two pull requests, A and B, on one workspace under one lock policy.
type duel struct {
	*world
	policy string
	a, b   int
	merges map[int]string // the commit of each merge
}

func newDuel(t *testing.T, policy string) *duel {
	w := newWorld(t, map[string]string{
		"app/main.tf":  app(),
		"holdfast.hcl": "defaults {\n  apply {\n    lock = \"" + policy + "\"\n  }\n}\n",
	})
	w.repo.Grant("ada", "write")
	w.start()
	return &duel{world: w, policy: policy, merges: map[int]string{}}
}

// propose opens a pull request that adds a server of that name.
func (d *duel) propose(name string, attributes ...string) int {
	d.Helper()
	d.repo.Push(name, map[string]string{"app/" + name + ".tf": server(name, attributes...)}, "Add "+name)
	return d.repo.OpenPull(giteatest.OpenPull{Head: name})
}

// both opens A and B. Under the policy "plan" B's plan waits for A.
func (d *duel) both(attributesOfA ...string) {
	d.Helper()
	d.a = d.propose("a", attributesOfA...)
	d.stands(d.a, "plan planned")
	d.b = d.propose("b")
	if d.policy == "plan" {
		d.waits(d.b, fmt.Sprintf("waits for pull request `#%d`", d.a), "position 1")
		return
	}
	d.stands(d.b, "plan planned")
}

func (d *duel) merge(number int) {
	d.Helper()
	d.merges[number] = d.repo.Merge(number, "merge")
}

// tell comments a command and waits for an answer to it.
func (d *duel) tell(number int, command, answer string) {
	d.Helper()
	d.repo.Comment(number, "ada", command)
	d.replied(number, answer)
}

// stands waits until the latest run of a pull request is as said and its comment
// does not say that it waits.
func (d *duel) stands(number int, want string) {
	d.Helper()
	d.until(fmt.Sprintf("#%d stands at %q", number, want), func() bool {
		runs := d.runs(store.RunFilter{PullRequest: number, Workspace: "app", Limit: 1})
		return len(runs) == 1 && string(runs[0].Kind)+" "+string(runs[0].State) == want && !strings.Contains(d.report(number), "waits for")
	})
}

// waits waits until a pull request says for whom it waits.
func (d *duel) waits(number int, words ...string) {
	d.Helper()
	for _, s := range words {
		d.fork(number, s)
	}
}

// report is Holdfast's own comment on a pull request; empty where there is none.
func (d *duel) report(number int) string {
	for _, c := range d.repo.Comments(number) {
		if strings.HasPrefix(c.Body, "<!-- holdfast -->") {
			return c.Body
		}
	}
	return ""
}

// owned waits until that pull request, and no other, has the workspace; 0 is
// nobody.
func (d *duel) owned(number int) {
	d.Helper()
	d.until(fmt.Sprintf("the workspace is that of #%d", number), func() bool {
		keys := d.owners()
		if number == 0 {
			return len(keys) == 0
		}
		return len(keys) == 1 && strings.HasSuffix(keys[0], fmt.Sprintf("#%d", number))
	})
}

// applied checks that the merge of a pull request is the applied commit, and that
// the cloud has these servers, each made once; without names, whatever it has.
func (d *duel) applied(number int, names ...string) {
	d.Helper()
	d.quietly()
	if got := d.workspace("app").AppliedCommit; got != d.merges[number] {
		d.Errorf("the applied commit is %.8s instead of %.8s, the merge of #%d", got, d.merges[number], number)
	}
	if n := len(d.cloud.resources()); n != len(names) && len(names) > 0 {
		d.Errorf("the cloud has %d servers instead of %v", n, names)
	}
	for _, name := range names {
		if n := d.cloud.created(name); n != 1 {
			d.Errorf("%s was made %d times", name, n)
		}
	}
}

// quietly waits until nothing is to be done any more: nobody is stuck.
func (w *world) quietly() {
	w.Helper()
	st := w.open()
	defer st.Close()
	w.until("nobody waits", func() bool { return len(w.busy(context.Background(), st)) == 0 })
}

// owners returns what pull requests have, as the keys of their locks.
func (w *world) owners() (keys []string) {
	w.Helper()
	st := w.open()
	defer st.Close()
	leases, err := st.Locks.List(context.Background(), time.Now(), "owner/")
	if err != nil {
		w.Fatal(err)
	}
	for _, l := range leases {
		keys = append(keys, string(l.Key)+" "+l.Holder.ID)
	}
	return keys
}

// restart is kill -9 and a new start.
func (d *duel) restart() {
	d.Helper()
	d.kill()
	d.start()
}

// TestTurns plays what two pull requests on one workspace can do to each other,
// under each lock policy.
func TestTurns(t *testing.T) {
	t.Parallel()
	for name, play := range map[string]func(d *duel){
		"both open":                 playBothOpen,
		"merge A, B is planned":     playMergeA,
		"merge both at once":        playMergeBoth,
		"A fails, B waits":          playFailure,
		"close A":                   playCloseA,
		"push to A":                 playPushA,
		"unlock":                    playUnlock,
		"hold during both":          playHold,
		"B depends on A":            playDependence,
		"A deletes the workspace":   playDeletion,
		"restarted while one waits": playRestarts,
		"two merges of one second":  playSameSecond,
	} {
		for _, policy := range []string{"apply", "plan", "none"} {
			t.Run(name+"/"+policy, func(t *testing.T) {
				t.Parallel()
				play(newDuel(t, policy))
			})
		}
	}
}

func playBothOpen(d *duel) {
	d.both()
	if d.policy == "plan" {
		d.owned(d.a)
		return
	}
	d.owned(0)
	d.quietly()
}

func playMergeA(d *duel) {
	d.both()
	d.merge(d.a)
	d.stands(d.a, "apply applied")
	d.stands(d.b, "plan planned") // under "plan" from now on
	d.applied(d.a, "a")
	if d.policy == "plan" {
		d.owned(d.b)
	} else {
		d.owned(0)
	}
	d.merge(d.b)
	d.stands(d.b, "apply applied")
	d.applied(d.b, "a", "b")
	d.owned(0)
}

func playMergeBoth(d *duel) {
	d.both()
	d.forge.Hold()
	d.merge(d.a)
	d.merge(d.b)
	d.forge.Release()
	d.endBoth()
}

// endBoth is how two merges end, the first of which was reviewed. Under "plan"
// nobody has seen a plan of the second.
func (d *duel) endBoth() {
	d.Helper()
	d.stands(d.a, "apply applied")
	if d.policy == "plan" && d.ends(d.b) != store.Applied { // its plan may be of the second of the merge
		d.stands(d.b, "apply held")
		d.applied(d.a, "a")
		d.owned(d.b)
		d.tell(d.b, "holdfast apply -w app", "Applying: `app`")
	}
	d.stands(d.b, "apply applied")
	d.applied(d.b, "a", "b")
	d.owned(0)
}

// ends is how the apply of a pull request ends.
func (d *duel) ends(number int) store.State {
	d.Helper()
	return d.ended(1, store.RunFilter{PullRequest: number, Kind: store.KindApply})[0].State
}

func playFailure(d *duel) {
	d.a = d.propose("a", `fail = "create"`)
	d.stands(d.a, "plan planned")
	d.merge(d.a)
	d.stands(d.a, "apply failed")
	// B mends what A broke.
	d.repo.PushChange(gittest.Change{Branch: "b", From: "main", Files: map[string]string{"app/a.tf": server("a")}})
	d.b = d.repo.OpenPull(giteatest.OpenPull{Head: "b"})
	failed := []string{fmt.Sprintf("waits for pull request `#%d`", d.a), "Its apply failed", "`holdfast unlock` there"}
	switch d.policy {
	case "plan":
		d.waits(d.b, failed...)
		d.owned(d.a)
		d.tell(d.a, `holdfast unlock -m "b mends it"`, "Unlocked: `app`")
		d.stands(d.b, "plan planned")
		d.merge(d.b)
	case "apply":
		d.stands(d.b, "plan planned")
		d.merge(d.b)
		d.waits(d.b, failed...)
		d.owned(d.a)
		d.tell(d.a, "holdfast unlock", "Unlocked: `app`")
	default:
		d.stands(d.b, "plan planned")
		d.merge(d.b)
	}
	d.stands(d.b, "apply applied")
	d.stands(d.a, "apply failed")
	d.applied(d.b)
	d.owned(0)
	// What A wanted is done: trying it again changes nothing.
	d.tell(d.a, "holdfast apply", "Applying: `app`")
	d.stands(d.a, "apply no_changes")
	d.applied(d.b)
	d.owned(0)
	if n := len(d.cloud.resources()); n != 1 {
		d.Errorf("the cloud has %d servers", n)
	}
}

func playCloseA(d *duel) {
	d.both()
	d.repo.Close(d.a)
	d.stands(d.b, "plan planned")
	d.fork(d.a, "closed")
	if d.policy == "plan" {
		d.owned(d.b)
	} else {
		d.owned(0)
	}
	d.merge(d.b)
	d.stands(d.b, "apply applied")
	d.applied(d.b, "b")
	d.owned(0)
}

func playPushA(d *duel) {
	d.both()
	sha := d.repo.Push("a", map[string]string{"app/a.tf": server("a", `size = "large"`)}, "Larger")
	d.until("A is planned anew", func() bool {
		runs := d.runs(store.RunFilter{PullRequest: d.a, Limit: 1})
		return runs[0].Commit == sha && runs[0].State == store.Planned
	})
	if d.policy == "plan" {
		d.owned(d.a)
		d.waits(d.b, "position 1")
	}
	// A push of the one that waits keeps its place.
	d.repo.Push("b", map[string]string{"app/b.tf": server("b", `size = "large"`)}, "Larger")
	if d.policy == "plan" {
		d.waits(d.b, "position 1")
	}
	d.merge(d.a)
	d.stands(d.a, "apply applied")
	d.stands(d.b, "plan planned")
	d.merge(d.b)
	d.stands(d.b, "apply applied")
	d.applied(d.b, "a", "b")
	d.owned(0)
}

func playUnlock(d *duel) {
	if d.policy == "plan" {
		d.both()
		d.repo.Comment(d.b, "ada", "holdfast unlock")
		d.replied(d.b, fmt.Sprintf("is locked by pull request #%d", d.a))
		d.tell(d.a, "holdfast unlock", "Unlocked: `app`")
		d.stands(d.b, "plan planned")
		d.fork(d.a, "ada unlocked this workspace")
		d.owned(d.b)
		// B goes first now; A is merged after it and waits for its turn.
		d.merge(d.b)
		d.merge(d.a)
		d.stands(d.b, "apply applied")
		d.stands(d.a, "apply applied")
		d.applied(d.a, "a", "b")
		d.owned(0)
		return
	}
	// A is merged before anybody has seen its plan, so it is held.
	d.forge.Hold()
	d.a = d.propose("a")
	d.merge(d.a)
	d.forge.Release()
	d.stands(d.a, "apply held")
	d.repo.PushChange(gittest.Change{Branch: "b", From: "main", Files: map[string]string{"app/b.tf": server("b")}})
	d.b = d.repo.OpenPull(giteatest.OpenPull{Head: "b"})
	d.stands(d.b, "plan planned")
	d.merge(d.b)
	if d.policy == "apply" {
		d.waits(d.b, "Its apply is held")
		d.owned(d.a)
		out := d.holdfast("unlock", d.repository(), "-w", "app", "-m", "b has all of it")
		if !strings.Contains(out, fmt.Sprintf("unlocked app (pull request #%d)", d.a)) {
			d.Errorf("unlock says %q", out)
		}
		d.audited("unlock", "b has all of it")
	}
	// B was planned with A's change in it, as it came after A's merge.
	d.stands(d.b, "apply applied")
	d.stands(d.a, "apply held")
	d.applied(d.b, "a", "b")
	d.owned(0)
}

// audited checks that the audit trail has such an entry.
func (d *duel) audited(action, why string) {
	d.Helper()
	st := d.open()
	defer st.Close()
	entries, err := st.Audit.List(context.Background(), d.repository(), 100)
	if err != nil {
		d.Fatal(err)
	}
	for _, e := range entries {
		if e.Action == action && strings.Contains(e.Why, why) && e.Who != "" && e.Who != "holdfast" {
			return
		}
	}
	d.Errorf("the audit trail has no %s because of %q: %+v", action, why, entries)
}

func playHold(d *duel) {
	d.both()
	d.tell(d.a, `holdfast hold 1h -m "incident"`, "all workspaces")
	d.merge(d.a)
	d.waits(d.a, "on hold by ada")
	d.merge(d.b)
	d.waits(d.b, "waits for")
	if d.policy != "none" {
		d.owned(d.a) // kept while it waits
	}
	if n := len(d.cloud.resources()); n != 0 {
		d.Errorf("the cloud has %d servers on hold", n)
	}
	d.tell(d.b, "holdfast release", "Released")
	d.endBoth()
}

func playDependence(d *duel) {
	d.repo.Push("main", map[string]string{
		"net/main.tf": app(),
		"holdfast.hcl": "defaults {\n  apply {\n    lock = \"" + d.policy + "\"\n  }\n}\nworkspace \"net\" {\n  dir = \"net\"\n}\n" +
			"workspace \"app\" {\n  dir = \"app\"\n  depends_on = [\"net\"]\n}\n",
	}, "app depends on net")
	d.repo.PushChange(gittest.Change{Branch: "a", From: "main", Files: map[string]string{"net/n.tf": server("n", `delay = "1s"`), "app/a.tf": server("a")}})
	d.a = d.repo.OpenPull(giteatest.OpenPull{Head: "a"})
	d.stands(d.a, "plan planned")
	d.repo.PushChange(gittest.Change{Branch: "b", From: "main", Files: map[string]string{"app/b.tf": server("b")}})
	d.b = d.repo.OpenPull(giteatest.OpenPull{Head: "b"})
	if d.policy != "plan" {
		d.stands(d.b, "plan planned")
	}
	d.merge(d.a)
	if d.policy == "plan" {
		d.stands(d.a, "apply applied")
		d.stands(d.b, "plan planned")
	}
	d.merge(d.b)
	d.stands(d.a, "apply applied")
	d.stands(d.b, "apply applied")
	d.applied(d.b, "n", "a", "b")
	d.owned(0)
	order := ""
	for _, e := range d.cloud.journal() {
		if e.Op == "create" {
			order += e.Name
		}
	}
	if order != "nab" {
		d.Errorf("made in the order %s", order)
	}
}

func playDeletion(d *duel) {
	first := d.propose("old")
	d.stands(first, "plan planned")
	d.merge(first)
	d.stands(first, "apply applied")
	d.repo.PushChange(gittest.Change{Branch: "a", From: "main", Delete: []string{"app/main.tf", "app/old.tf"}})
	d.a = d.repo.OpenPull(giteatest.OpenPull{Head: "a"})
	d.stands(d.a, "plan planned")
	d.repo.PushChange(gittest.Change{Branch: "b", From: "main", Files: map[string]string{"app/b.tf": server("b")}})
	d.b = d.repo.OpenPull(giteatest.OpenPull{Head: "b"})
	if d.policy == "plan" {
		d.waits(d.b, "waits for")
	}
	d.merge(d.a)
	d.stands(d.a, "apply held")
	if n := d.cloud.created("old"); n != 1 || len(d.cloud.resources()) != 1 {
		d.Errorf("something was destroyed unasked: %+v", d.cloud.journal())
	}
	if d.policy == "none" {
		d.owned(0)
	} else {
		d.owned(d.a)
	}
	d.tell(d.a, "holdfast apply -w app", "Applying: `app`")
	d.stands(d.a, "apply applied")
	if n := len(d.cloud.resources()); n != 0 {
		d.Errorf("the cloud has %d servers after the destruction", n)
	}
	d.stands(d.b, "plan planned")
	d.repo.Close(d.b)
	d.owned(0)
	d.quietly()
	if rec := d.workspace("app"); rec.Name != "" {
		d.Errorf("the workspace is still known: %+v", rec)
	}
}

func playRestarts(d *duel) {
	d.both()
	d.restart() // while B's plan waits, under "plan"
	d.tell(d.a, "holdfast hold 1h", "all workspaces")
	d.merge(d.a)
	d.waits(d.a, "on hold by ada")
	d.restart() // while A waits for the release
	d.merge(d.b)
	d.until("the merge of B is handled", func() bool {
		return len(d.runs(store.RunFilter{PullRequest: d.b, Kind: store.KindApply})) == 1
	})
	d.waits(d.b, "waits for")
	d.restart() // while B waits for A
	d.tell(d.b, "holdfast release", "Released")
	d.endBoth()
}

// playSameSecond has the event of the later merge come first.
func playSameSecond(d *duel) {
	d.both()
	d.forge.Hold()
	d.merge(d.a)
	ofA := d.forge.Held()
	d.merge(d.b)
	for _, delivery := range d.forge.Held()[len(ofA):] {
		d.forge.Send(delivery.ID)
	}
	d.forge.Release()
	d.endBoth()
}
