package runner

import (
	"holdfast/store"
	"holdfast/vcs"
)

// told is a run in the comment of its pull request.
type told struct {
	pull pullRecord
	pw   pullWorkspace
	run  store.Run
	// own is set where the run has a plan of its own, began where an engine was
	// started to apply it, commands where people can comment.
	own, began, commands bool
}

// next says what happens next with the run.
func (t told) next() string {
	switch {
	case t.run.State == store.Unknown:
		return "Holdfast is finding out what was done."
	case t.run.Kind == store.KindPlan:
		return t.nextOfPlan()
	case t.pull.State == vcs.Closed:
		return t.nextOfClosed(t.run.State)
	case t.pull.State == vcs.Open:
		return t.nextOfEarly(t.run.State)
	case t.commands:
		return t.nextOfMerged()
	case t.run.State == store.Failed:
		return "What was applied is in the state. Run `holdfast unlock` on the server, and open a pull request that mends the rest."
	case t.run.State == store.Held:
		return "Nothing more is applied. Run `holdfast unlock` on the server, and open a pull request to have the plan of now reviewed."
	}
	return ""
}

// again is the command that goes on with the run's workspace.
func (t told) again() string { return "comment `holdfast apply -w " + plainWord(t.run.Workspace) + "`" }

// nextOfMerged is next for the apply of a merge.
func (t told) nextOfMerged() string {
	name := plainWord(t.run.Workspace)
	switch {
	case t.run.State == store.Failed && !t.began:
		return "Nothing was applied. Comment `holdfast apply` to try again. To mend it with another pull request, comment `holdfast unlock` here: until then this workspace is kept from others."
	case t.run.State == store.Failed:
		return "What was applied is in the state. Comment `holdfast apply` to try the rest again. To mend it with another pull request, comment `holdfast unlock` here: until then this workspace is kept from others."
	case t.run.State == store.Held && t.pw.Deleted:
		return "Comment `holdfast apply -w " + name + "` to destroy exactly what is shown here, or `holdfast unlock -w " + name + "` to keep it in the cloud and have Holdfast forget it."
	case t.run.State == store.Held && !t.own:
		return "Nothing more is applied. Once that is settled, " + t.again() + "; or comment `holdfast unlock` to let another pull request go first."
	case t.run.State == store.Held:
		return "Nothing more is applied. Comment `holdfast apply -w " + name + "` to apply exactly the plan shown here, or `holdfast unlock` to let another pull request go first."
	}
	return ""
}

// nextOfPlan is next for a plan.
func (t told) nextOfPlan() string {
	state := t.run.State
	switch {
	case t.pull.State == vcs.Closed && t.pw.Applied != "":
		return t.nextOfClosed(store.Applied)
	case state == store.Failed:
		return "Push a commit that mends it; it is then planned again."
	case state == store.NoChanges && t.pull.State == vcs.Open && t.pw.Applied != "":
		return t.nextOfEarly(store.Applied)
	case state != store.Planned:
		return ""
	case t.pull.State == vcs.Closed:
		return "The pull request is closed, so nothing is applied."
	case t.pull.State != vcs.Open:
		return ""
	case t.pw.On == onNever:
		return "Nothing of it is applied: this pull request does not go to the default branch."
	case t.pw.Deleted:
		return "Merging this pull request destroys nothing yet: that needs a `holdfast apply -w " + plainWord(t.run.Workspace) + "` after the merge."
	case t.pw.On == "comment" && t.pw.Automerge:
		return "Comment `holdfast apply` to apply this plan; the pull request is merged when everything is applied."
	case t.pw.On == "comment":
		return "Comment `holdfast apply` to apply this plan, and merge the pull request after that."
	}
	return "Merging this pull request applies this plan."
}

// nextOfEarly is next for an apply before the merge that is in that state.
func (t told) nextOfEarly(state store.State) string {
	switch {
	case state == store.Applied || state == store.NoChanges:
		switch {
		case t.pw.Automerge && t.pull.Merges > 0:
			return "" // what became of the merge stands above
		case t.pw.Automerge:
			return "The pull request is merged when everything is applied."
		}
		return "Merge this pull request now: until then no other one may touch this workspace."
	case state == store.Failed && !t.began:
		return "Nothing was applied. Push a commit that mends it, or " + t.again() + " to try again."
	case state == store.Failed:
		return "What was applied is in the state, and this workspace is kept from other pull requests. Push a commit that mends it, or " + t.again() + " to try the rest again; `holdfast unlock` lets others go first."
	case state == store.Canceled:
		return "To try again, " + t.again() + "."
	case state == store.Held && !t.own:
		return "Nothing more is applied. Once that is settled, " + t.again() + "."
	case state == store.Held:
		return "Nothing more is applied. To apply exactly the plan shown here, " + t.again() + "."
	}
	return ""
}

// nextOfClosed is next for what a pull request applied before it was closed.
func (t told) nextOfClosed(state store.State) string {
	switch {
	case state == store.Applied || state == store.NoChanges:
		return "This pull request was closed without a merge, but what it applied is in the cloud. Reopen and merge it, or open another pull request that touches this workspace: its apply undoes it."
	case state == store.Failed && t.began:
		return "This pull request was closed without a merge, but what it applied before it failed is in the cloud. Open another pull request that touches this workspace: its apply undoes it."
	case state == store.Failed || state == store.Held || state == store.Canceled:
		return "The pull request is closed, so nothing more is applied."
	}
	return ""
}
