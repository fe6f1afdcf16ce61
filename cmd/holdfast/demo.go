package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"strings"
	"syscall"
	"time"

	"github.com/spf13/cobra"

	"holdfast/runner"
	"holdfast/runner/plan"
	"holdfast/smallcloud"
	"holdfast/store"
	"holdfast/vcs/gitea/giteatest"
)

// stepTimeout is how long the demo waits for one step to be observed.
const stepTimeout = 3 * time.Minute

func newDemo() *cobra.Command {
	var auto bool
	var output string
	cmd := &cobra.Command{
		Use:   "demo",
		Short: "Play the whole story on this machine: plan, merge, apply, drift, correction",
		Long: `Start a small forge with a repository of three workspaces, a small cloud and a
Holdfast between them, tell the story step by step, and stay up for playing until
Ctrl-C. Nothing outside this machine is touched, and nothing is left behind.`,
		Args: takes(0, 0),
	}
	cmd.Flags().BoolVar(&auto, "auto", false, "play the whole story and end: exit code 0 only when each step was observed")
	cmd.Flags().StringVarP(&output, "output", "o", "text", `"text" or "json" (one object a line for each step)`)
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		if output != "text" && output != "json" {
			return fmt.Errorf(`--output %q is neither "text" nor "json"`, output)
		}
		// A reader that has enough of the story must not kill the demo, which
		// has to tidy up: its writes fail instead.
		pipe := make(chan os.Signal, 1)
		signal.Notify(pipe, syscall.SIGPIPE)
		defer signal.Stop(pipe)
		ctx, cancel := context.WithCancelCause(cmd.Context())
		defer cancel(nil)
		out := cmd.OutOrStdout()
		d := &demo{out: story{out, cancel}, json: output == "json", auto: auto, p: newProgress(out)}
		err := d.run(ctx, newProgress(cmd.ErrOrStderr()))
		switch {
		case ctx.Err() != nil && cmd.Context().Err() == nil:
			return fmt.Errorf("tell the story: %w", context.Cause(ctx))
		case cmd.Context().Err() != nil && !auto:
			return nil // Ctrl-C is how one leaves
		}
		return err
	}
	return cmd
}

// demo tells the story.
type demo struct {
	*world
	out        io.Writer
	json, auto bool
	p          *progress
}

// story is where the demo is told. Where nobody can hear it any more, it ends.
type story struct {
	w   io.Writer
	end context.CancelCauseFunc
}

func (s story) Write(p []byte) (int, error) {
	n, err := s.w.Write(p)
	if err != nil {
		s.end(err)
	}
	return n, err
}

// step is one observed step.
type step struct {
	Step   string `json:"step"`
	OK     bool   `json:"ok"`
	Detail any    `json:"detail"`
}

// run plays the demo in a world of its own.
func (d *demo) run(ctx context.Context, p *progress) (err error) {
	if d.world, err = newWorld(ctx, p); err != nil {
		if ctx.Err() == nil {
			d.observed("plan", nil, err)
		}
		return err
	}
	defer d.Close()
	return d.play(ctx)
}

// observed writes how a step went, for programs.
func (d *demo) observed(name string, detail any, err error) {
	if !d.json {
		return
	}
	if err != nil {
		hint := hintOf(err)
		failure := map[string]string{"error": withoutHint(err, hint)}
		if hint != "" {
			failure["hint"] = hint
		}
		detail = failure
	}
	// What cannot be written ends the demo by itself.
	_ = json.NewEncoder(d.out).Encode(step{name, err == nil, detail})
}

func (d *demo) play(ctx context.Context) error {
	d.say("%s", d.p.bold("Holdfast demo"))
	d.say("  Holdfast      %s", d.srv.settings.URL)
	d.say("  small cloud   %s   (change something by hand there, later)", d.cloudURL)
	d.say("")
	number := d.openPull()
	for _, s := range []struct {
		name    string
		observe func(context.Context, int) (any, error)
	}{
		{"plan", d.observePlan}, {"comment", d.observeComment}, {"merge", d.merge},
		{"apply", d.observeApply}, {"drift", d.drift}, {"correct", d.observeCorrection},
	} {
		limit, cancel := context.WithTimeout(ctx, stepTimeout)
		detail, err := s.observe(limit, number)
		cancel()
		if ctx.Err() != nil {
			return ctx.Err()
		}
		d.observed(s.name, detail, err)
		if err != nil {
			d.say("  %s", d.p.red("not observed: "+err.Error()))
			return fmt.Errorf("demo step %s: %w", s.name, err)
		}
	}
	if d.auto {
		d.say("%s", d.p.green("Every step was observed."))
		return nil
	}
	d.say("The world stays up. Change or delete a server at %s", d.cloudURL)
	d.say("and watch %s: within some seconds the change is undone,", d.srv.settings.URL)
	d.say("and what was deleted is made again. A correction never destroys anything.")
	d.say("The repository is at %s", d.repo.CloneURL())
	d.say("  (user demo, password %s)", d.token)
	d.say("Ctrl-C ends it.")
	select {
	case <-ctx.Done():
		return nil
	case err := <-d.failed:
		return err
	}
}

// say prints a line of the story.
func (d *demo) say(format string, args ...any) {
	if !d.json {
		fmt.Fprintf(d.out, format+"\n", args...)
	}
}

// openPull is what a developer does.
func (d *demo) openPull() int {
	d.repo.Push("bigger-servers", demoChange, "Add the first servers")
	number := d.repo.OpenPull(giteatest.OpenPull{Head: "bigger-servers", Title: "Add the first servers", Author: "ada"})
	d.say("%s", d.p.bold("1. Ada opens a pull request that touches three workspaces."))
	return number
}

// observePlan waits until all three workspaces are planned.
func (d *demo) observePlan(ctx context.Context, number int) (any, error) {
	runs, err := d.runs(ctx, store.RunFilter{Kind: store.KindPlan, PullRequest: number}, len(demoWorkspaces), store.Planned)
	if err != nil {
		return nil, err
	}
	detail := map[string]string{}
	for _, r := range runs {
		detail[r.Workspace] = d.link(r)
		d.say("   planned  %-8s %s", r.Workspace, d.link(r))
	}
	return detail, nil
}

// observeComment waits for the one comment with all plans in it.
func (d *demo) observeComment(ctx context.Context, number int) (any, error) {
	var body string
	err := d.until(ctx, func() (bool, error) {
		comments := d.repo.Comments(number)
		if len(comments) > 1 {
			return false, fmt.Errorf("there are %d comments instead of one", len(comments))
		}
		if len(comments) == 0 {
			return false, nil
		}
		body = comments[0].Body
		for _, w := range demoWorkspaces {
			if !strings.Contains(body, w) {
				return false, nil
			}
		}
		status := d.repo.Statuses(d.repo.Git.Head("bigger-servers"))["holdfast"]
		return status.State == "success", nil
	})
	if err != nil {
		return nil, err
	}
	d.say("")
	d.say("%s", d.p.bold("2. The pull request gets one comment:"))
	for _, line := range excerpt(body, 16) {
		d.say("   %s", d.p.faint("│ "+line))
	}
	d.say("   all of it: %s/pulls/%s/%s/%d", d.srv.settings.URL, d.forge.Name, demoRepository, number)
	return map[string]any{"comments": 1, "bytes": len(body), "body": body}, nil
}

// merge is what a reviewer does.
func (d *demo) merge(ctx context.Context, number int) (any, error) {
	sha := d.repo.Merge(number, "merge")
	d.say("")
	d.say("%s", d.p.bold("3. Grace reviews the plan and merges."))
	_, err := d.runs(ctx, store.RunFilter{Kind: store.KindApply, PullRequest: number}, len(demoWorkspaces), "")
	return map[string]string{"commit": sha}, err
}

// observeApply waits until the cloud has what was merged.
func (d *demo) observeApply(ctx context.Context, number int) (any, error) {
	runs, err := d.runs(ctx, store.RunFilter{Kind: store.KindApply, PullRequest: number}, len(demoWorkspaces), store.Applied)
	if err != nil {
		return nil, err
	}
	detail := map[string]any{"resources": len(d.cloud.Resources())}
	for _, r := range runs {
		var result runner.Result
		if err := json.Unmarshal(r.Result, &result); err != nil {
			return nil, err
		}
		if result.Comparison == nil || result.Comparison.Verdict != plan.Identical {
			return nil, fmt.Errorf("%s was applied without an identical plan", r.Workspace)
		}
		detail[r.Workspace] = d.link(r)
		d.say("   applied  %-8s the plan of the merge is the one that was reviewed   %s", r.Workspace, d.link(r))
	}
	if n := len(d.cloud.Resources()); n != demoResources {
		return nil, fmt.Errorf("the cloud has %d resources instead of %d", n, demoResources)
	}
	return detail, nil
}

// drift changes a server by hand and waits for the scheduled check to find it.
func (d *demo) drift(ctx context.Context, _ int) (any, error) {
	server, err := d.cloud.Find("server", "web-1")
	if err != nil {
		return nil, err
	}
	if err := d.cloud.Set(server.ID, "size", "enormous"); err != nil {
		return nil, err
	}
	d.say("")
	d.say("%s", d.p.bold("4. Somebody makes web-1 enormous by hand, in the cloud's console."))
	var found store.Run
	var result runner.Result
	err = d.until(ctx, func() (bool, error) {
		runs, err := d.srv.store.Runs.List(ctx, store.RunFilter{Kind: store.KindDrift, Workspace: "web", States: []store.State{store.Planned}})
		for _, r := range runs {
			if err := json.Unmarshal(r.Result, &result); err != nil {
				return false, err
			}
			if result.Drift != nil && result.Drift.Class == plan.CloudChange {
				found = r
				return true, nil
			}
		}
		return false, err
	})
	if err != nil {
		return nil, err
	}
	for _, r := range result.Drift.Resources {
		d.say("   found    %s was %s in the cloud: %s (%s)   %s", r.Address, r.Change, strings.Join(r.Attributes, ", "), result.Drift.Class, d.link(found))
	}
	return map[string]any{"class": result.Drift.Class, "resources": result.Drift.Resources, "run": d.link(found)}, nil
}

// observeCorrection waits until the change is undone and a check has seen it.
func (d *demo) observeCorrection(ctx context.Context, _ int) (any, error) {
	d.say("")
	d.say("%s", d.p.bold("5. This workspace has drift.correct = \"apply\", so the change is undone."))
	runs, err := d.runs(ctx, store.RunFilter{Kind: store.KindCorrect, Workspace: "web"}, 1, store.Applied)
	if err != nil {
		return nil, err
	}
	var server smallcloud.Resource
	err = d.until(ctx, func() (bool, error) {
		rec, err := d.srv.store.Records.Get(ctx, "workspace/"+d.forge.Name+"/"+demoRepository+"/web")
		if err != nil {
			return false, err
		}
		var w runner.WorkspaceRecord
		if err := json.Unmarshal(rec.Value, &w); err != nil {
			return false, err
		}
		if server, err = d.cloud.Find("server", "web-1"); err != nil {
			return false, err
		}
		return w.State == runner.InSync && server.Attributes["size"] == "small", nil
	})
	if err != nil {
		return nil, err
	}
	d.say("   corrected %s", d.link(runs[0]))
	d.say("   %s", d.p.green("web is in sync again."))
	d.say("")
	return map[string]string{"run": d.link(runs[0]), "state": string(runner.InSync), "size": fmt.Sprint(server.Attributes["size"])}, nil
}

// runs waits for at least n runs that match, all in state where it is set. A
// run that failed ends the wait.
func (d *demo) runs(ctx context.Context, f store.RunFilter, n int, state store.State) ([]store.Run, error) {
	var runs []store.Run
	err := d.until(ctx, func() (bool, error) {
		var err error
		if runs, err = d.srv.store.Runs.List(ctx, f); err != nil || len(runs) < n {
			return false, err
		}
		for _, r := range runs {
			if state != "" && r.State.Ended() && r.State != state && r.State != store.Superseded {
				return false, fmt.Errorf("%s of %s is %s: %s", r.Kind, r.Workspace, r.State, r.Error)
			}
			if state != "" && r.State != state {
				return false, nil
			}
		}
		return true, nil
	})
	return runs, err
}

// until asks again and again until it is true.
func (d *demo) until(ctx context.Context, ask func() (bool, error)) error {
	tick := time.NewTicker(100 * time.Millisecond)
	defer tick.Stop()
	for {
		ok, err := ask()
		if ok || err != nil {
			return err
		}
		select {
		case <-ctx.Done():
			if errors.Is(ctx.Err(), context.DeadlineExceeded) {
				return fmt.Errorf("nothing was seen within %s; the server's log is below\n%s", stepTimeout, d.logs.String())
			}
			return ctx.Err()
		case err := <-d.failed:
			return err
		case <-tick.C:
		}
	}
}

func (d *demo) link(r store.Run) string { return d.srv.settings.URL + "/runs/" + r.ID }

// excerpt returns the first lines of a comment, without its HTML.
func excerpt(body string, n int) []string {
	var out []string
	for line := range strings.SplitSeq(body, "\n") {
		if t := strings.TrimSpace(line); t == "" || strings.HasPrefix(t, "<") {
			continue
		}
		if len(out) == n {
			return append(out, "…")
		}
		out = append(out, line)
	}
	return out
}
