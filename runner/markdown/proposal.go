package markdown

import (
	"fmt"
	"strings"

	"holdfast/runner/plan"
)

// Proposal is what a pull request says that takes drift into the configuration.
type Proposal struct {
	Workspace string         `json:"workspace"`
	Edits     []ProposalEdit `json:"edits,omitempty"`
	Refused   []string       `json:"refused,omitempty"` // what could not be written, and why
	Left      *plan.Plan     `json:"left,omitempty"`    // the plan of the edited configuration
}

// ProposalEdit is one value that was written.
type ProposalEdit struct {
	Address   string `json:"address"`
	Attribute string `json:"attribute"`
	File      string `json:"file"`
	Line      int    `json:"line"`
	From      string `json:"from"`
	To        string `json:"to"`
	Via       string `json:"via,omitempty"`
}

// maxProposal bounds a proposal's text, in bytes, so that every host takes it.
const maxProposal = 30_000

// ProposalTitle is the title of the pull request.
func ProposalTitle(workspace string) string {
	return "Keep what was changed in the cloud: " + visible(workspace)
}

// ProposalMessage is the body of its commit: which values are another now.
func ProposalMessage(p Proposal) string {
	var b strings.Builder
	for i, e := range p.Edits {
		if i == 50 {
			fmt.Fprintf(&b, "and %d more\n", len(p.Edits)-i)
			break
		}
		fmt.Fprintf(&b, "%s, %s (%s:%d)\n", visible(e.Address), visible(e.Attribute), visible(e.File), e.Line)
	}
	return b.String()
}

// RenderProposal is the text of the pull request. check and ticket are URLs, or
// empty.
func RenderProposal(p Proposal, check, ticket string) string {
	w := &writer{max: maxProposal, reserve: 1500}
	fmt.Fprintf(&w.out, "Somebody changed workspace %s in the cloud. This writes the cloud's values into the configuration. Merge it to keep them; close it to leave the configuration as it is.\n", code(p.Workspace))
	for _, l := range []string{link("The check that found it", check), link("The ticket", ticket)} {
		if l != "" {
			w.add("\n" + l + "\n")
		}
	}
	var edits []string
	for _, e := range p.Edits {
		item := fmt.Sprintf("- %s %s: %s → %s, in %s", code(e.Address), code(e.Attribute), codeOrNothing(e.From), codeOrNothing(e.To), code(fmt.Sprintf("%s:%d", e.File, e.Line)))
		if e.Via != "" {
			item += " (" + code(e.Via) + ")"
		}
		edits = append(edits, item+"\n")
	}
	w.list("\n**Written**\n\n", edits, w.room()/2, "edits")
	w.list("\n**Not written**\n\n", bullets(p.Refused), w.room()/2, "what could not be written")
	w.reserve = 0
	if p.Left.Empty() {
		w.add("\nWith this the plan has nothing left to do.\n")
	} else {
		w.add("\nWith this the plan still has " + SummaryText(p.Left.Summary()) + ": what is under “Not written” would be undone by the next apply.\n")
	}
	w.left()
	return fit(w.out.String(), maxProposal)
}

func codeOrNothing(s string) string {
	if s == "" {
		return "nothing"
	}
	return code(s)
}
