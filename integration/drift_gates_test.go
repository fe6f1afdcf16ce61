package integration

import (
	"strings"
	"testing"
	"time"

	"holdfast/runner"
	"holdfast/store"
	"holdfast/vcs/gitea/giteatest"
)

// gated are workspaces of which each has one reason not to be corrected.
var gated = []struct {
	name, policy, config string
	gate, says           string
	hand                 func(w *world) // what somebody does in the cloud
	still                func(w *world) bool
}{
	{
		name: "destroy", config: "resource \"smallcloud_network\" \"net\" {\n  name = \"destroy\"\n  cidr = \"10.0.0.0/16\"\n}\n",
		gate: "destroy", says: "drift.allow_destroy",
		hand:  func(w *world) { w.cloud.set("destroy", "cidr", "10.9.0.0/16") },
		still: func(w *world) bool { return w.cloud.attribute("destroy", "cidr") == "10.9.0.0/16" },
	},
	{
		name: "many", policy: "max_changes = 1", config: server("many1", `size = "s"`) + server("many2", `size = "s"`),
		gate: "max_changes", says: "2 resources",
		hand:  func(w *world) { w.cloud.set("many1", "size", "xl"); w.cloud.set("many2", "size", "xl") },
		still: func(w *world) bool { return w.cloud.attribute("many1", "size") == "xl" },
	},
	{
		name: "held", config: server("held", `size = "s"`), gate: "hold", says: "incident 42",
		hand:  func(w *world) { w.cloud.set("held", "size", "xl") },
		still: func(w *world) bool { return w.cloud.attribute("held", "size") == "xl" },
	},
	{
		name: "window", policy: `windows = ["DAY 03:00-03:01"]`, config: server("window", `size = "s"`), gate: "windows", says: "the next one opens at",
		hand:  func(w *world) { w.cloud.set("window", "size", "xl") },
		still: func(w *world) bool { return w.cloud.attribute("window", "size") == "xl" },
	},
	{
		name: "pulls", config: server("pulls", `size = "s"`), gate: "pull_requests", says: "Somebody works on this workspace",
		hand:  func(w *world) { w.cloud.set("pulls", "size", "xl") },
		still: func(w *world) bool { return w.cloud.attribute("pulls", "size") == "xl" },
	},
	{
		name: "ignored", policy: "ignore \"smallcloud_server.*\" {\n      attributes = [\"tags\"]\n      reason = \"the tagger owns them\"\n    }",
		config: server("ignored", `size = "s"`, `tags = { env = "prod" }`), gate: "ignored", says: "a rule leaves alone",
		hand:  func(w *world) { w.cloud.set("ignored", "size", "xl"); w.cloud.set("ignored", "tags.env", "dev") },
		still: func(w *world) bool { return w.cloud.attribute("ignored", "size") == "xl" },
	},
	{
		name: "follows", config: server("follows", "lifecycle {\n    ignore_changes = [size]\n  }") + server("copy", "size = smallcloud_server.follows.size"),
		gate: "unexplained", says: "do more than put back",
		hand:  func(w *world) { w.cloud.set("follows", "size", "xl") },
		still: func(w *world) bool { return w.cloud.attribute("copy", "size") == nil },
	},
}

// Each gate alone stops a correction, says which one in the ticket, and nothing
// is applied.
func TestDriftGates(t *testing.T) {
	t.Parallel()
	var config strings.Builder
	config.WriteString("defaults {\n  apply {\n    on_push = true\n  }\n  drift {\n    " + never + "correct = \"apply\"\n  }\n}\n")
	files, filled := map[string]string{}, map[string]string{}
	// A day that is neither today nor tomorrow anywhere.
	day := time.Now().UTC().AddDate(0, 0, 3).Format("Mon")
	for _, g := range gated {
		config.WriteString("workspace \"" + g.name + "\" {\n  dir = \"" + g.name + "\"\n  drift {\n    " + strings.ReplaceAll(g.policy, "DAY", day) + "\n  }\n}\n")
		head := providers + "provider \"smallcloud\" {}\n"
		files[g.name+"/main.tf"], filled[g.name+"/main.tf"] = head, head+g.config
	}
	files["holdfast.hcl"] = config.String()
	w := newWorld(t, files)
	w.repo.Grant("ada", "write")
	w.start()
	w.repo.Push("all", filled, "all")
	number := w.repo.OpenPull(giteatest.OpenPull{Head: "all", Title: "all"})
	w.ended(len(gated), store.RunFilter{Kind: store.KindPlan, PullRequest: number})
	w.repo.Merge(number, "merge")
	for _, r := range w.ended(len(gated), store.RunFilter{Kind: store.KindApply, PullRequest: number}) {
		if r.State != store.Applied {
			t.Fatalf("apply of %s: %s %s", r.Workspace, r.State, r.Error)
		}
	}
	for _, g := range gated {
		w.until(g.name+" is in sync", func() bool { return w.workspace(g.name).State == runner.InSync })
	}

	w.repo.Push("work", map[string]string{"pulls/main.tf": providers + "provider \"smallcloud\" {}\n" + server("pulls", `size = "medium"`)}, "work")
	open := w.repo.OpenPull(giteatest.OpenPull{Head: "work", Title: "work"})
	w.ended(1, store.RunFilter{Kind: store.KindPlan, PullRequest: open})
	w.repo.Comment(open, "ada", `holdfast hold 4h -w held -m "incident 42"`)
	w.until("held is on hold", func() bool { return strings.Contains(w.holdfast("locks"), "incident 42") })

	before := len(w.cloud.journal())
	for _, g := range gated {
		g.hand(w)
	}
	hands := len(w.cloud.journal()) - before
	w.holdfast("drift", "check", w.repository())
	for _, g := range gated {
		body := ""
		w.until(g.name+" has a ticket that names its gate", func() bool {
			for _, i := range w.repo.AllIssues() {
				if i.Title == "Drift in "+g.name {
					body = i.Body
				}
			}
			return strings.Contains(body, "(gate: ")
		})
		plain := strings.NewReplacer("`", "", "\\", "").Replace(body)
		if n := strings.Count(plain, "(gate: "); n != 1 || !strings.Contains(plain, "(gate: "+g.gate+")") || !strings.Contains(plain, g.says) {
			t.Errorf("%s: %d gates:\n%s", g.name, n, body)
		}
	}
	w.until("all checks have ended", func() bool {
		for _, r := range w.runs(store.RunFilter{Kind: store.KindDrift}) {
			if !r.State.Ended() && r.Workspace != "window" {
				return false
			}
		}
		return true
	})
	if runs := w.runs(store.RunFilter{Kind: store.KindCorrect}); len(runs) > 0 {
		t.Errorf("%d corrections:\n%s", len(runs), w.describe())
	}
	for _, g := range gated {
		if !g.still(w) {
			t.Errorf("%s was corrected", g.name)
		}
	}
	if n := len(w.cloud.journal()) - before; n != hands {
		t.Errorf("the cloud was changed %d times, %d of them by hand", n, hands)
	}
}
