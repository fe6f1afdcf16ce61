package markdown

import (
	"fmt"
	"strings"
	"time"

	"holdfast/runner/plan"
)

// TicketMarker is the first line of the ticket of a workspace: it is found by
// it again.
func TicketMarker(workspace string) string {
	return "<!-- holdfast drift " + strings.ReplaceAll(visible(workspace), "--", "-\u200b-") + " -->"
}

// Ticket is everything that a drift ticket says.
type Ticket struct {
	Workspace string
	Dir       string
	Commit    string // what was checked
	Class     plan.Class
	Began     time.Time
	Ended     time.Time // zero while the drift is there
	Run       string    // the URL of the check's page; empty: no link
	Resources []plan.DriftedResource
	More      int // resources that are not in Resources
	Ignored   []plan.IgnoredDrift
	Who       []TicketCall
	// Correct is the workspace's drift.correct, and Blocked says what keeps it
	// from being corrected.
	Correct string
	Blocked []string
	// Contested is since when something changes back what is corrected.
	Contested time.Time
	// Proposal is the URL of the pull request that takes the drift over, or why
	// there is none in Refused.
	Proposal string
	Refused  []string
	// Acknowledged says who knows of it.
	Acknowledged string
	Fixed        string // how it ended
	Notes        []string
	Corrections  []string
	Commands     bool // comments are read here
}

// TicketCall is a call by which somebody changed a resource.
type TicketCall struct {
	Address, Actor, Call, Source, URL string
	At                                time.Time
}

// TicketTitle is a ticket's title.
func TicketTitle(workspace string) string { return "Drift in " + visible(workspace) }

// RenderTicket returns a ticket's body, in at most max bytes.
func RenderTicket(t Ticket, max int) string {
	w := &writer{max: max, reserve: 900}
	w.add(TicketMarker(t.Workspace) + "\n")
	w.add(ticketLead(t))
	w.list("\n**What drifted**\n\n", ticketResources(t), w.room()*2/3, "resources")
	if t.More > 0 {
		w.add(fmt.Sprintf("- and %d more resources, which the run's page has\n", t.More))
	}
	w.list("\n**Who did it**\n\n", ticketCalls(t.Who), w.room()/3, "who did it")
	if t.Ended.IsZero() {
		w.add(ticketNext(t))
	}
	w.list("\n**Left alone by a rule**\n\n", ticketIgnored(t.Ignored), w.room()/3, "what a rule leaves alone")
	w.list("\n**Corrections within a day**\n\n", bullets(t.Corrections), w.room()/3, "corrections")
	w.list("\n", bullets(t.Notes), w.room()/3, "notes")
	w.reserve = 0
	w.left()
	if t.Commands && t.Ended.IsZero() {
		w.add("\n<sub>`holdfast drift` checks again · `holdfast acknowledge -m \"why\"` keeps this quiet until the drift is another one · `holdfast ignore ADDRESS [ATTRIBUTE …] -m \"why\" --until 30d` leaves it alone · `holdfast help` lists all</sub>\n")
	}
	return fit(w.out.String(), max)
}

// fit cuts a text at a line where it is too long.
func fit(s string, max int) string {
	if len(s) <= max {
		return s
	}
	s = s[:max]
	if i := strings.LastIndexByte(s, '\n'); i > 0 {
		s = s[:i+1]
	}
	return strings.ToValidUTF8(s, "")
}

func ticketLead(t Ticket) string {
	var b strings.Builder
	name := code(t.Workspace)
	switch {
	case !t.Ended.IsZero():
		fmt.Fprintf(&b, "\n✅ Workspace %s is in sync again since %s. %s\n", name, stamp(t.Ended), text(t.Fixed))
	case t.Class == plan.OutputOnly:
		fmt.Fprintf(&b, "\n⚠️ Output values of workspace %s are not what they were applied as. No resource would be changed.\n", name)
	default:
		fmt.Fprintf(&b, "\n⚠️ The cloud is not what Git says in workspace %s.\n", name)
	}
	fmt.Fprintf(&b, "\nFound %s", stamp(t.Began))
	if t.Commit != "" {
		fmt.Fprintf(&b, ", against commit %s", code(shortCommit(t.Commit)))
	}
	if page := link("the check", t.Run); page != "" {
		fmt.Fprintf(&b, " (%s)", page)
	}
	b.WriteString(".\n")
	if t.Acknowledged != "" {
		fmt.Fprintf(&b, "\n%s\n", text(t.Acknowledged))
	}
	return b.String()
}

func ticketResources(t Ticket) (items []string) {
	for _, r := range t.Resources {
		item := "- " + code(r.Address) + " was " + r.Change
		switch {
		case r.Change == "created":
			item = "- " + code(r.Address) + " is in the state and not in the configuration"
		case r.Change == "changed" && len(r.Values) == 0 && r.Type != "":
			item = "- " + code(r.Address) + " would follow"
		case r.Type == "":
			item = "- " + code(r.Address) + " has another value"
		}
		if r.Action == plan.Replace || r.Action == plan.ReplaceCreateFirst {
			item += " (putting it right **replaces** it)"
		}
		item += "\n"
		for _, v := range r.Values {
			name := ""
			if v.Attribute != "" {
				name = code(v.Attribute) + ": "
			}
			item += "  - " + name + "in the cloud " + code(v.Cloud) + ", in Git " + code(v.Git) + "\n"
		}
		if more := len(r.Attributes) - len(r.Values); more > 0 && len(r.Values) > 0 {
			item += fmt.Sprintf("  - and %d more attributes\n", more)
		}
		items = append(items, item)
	}
	return items
}

func ticketCalls(calls []TicketCall) (items []string) {
	for _, c := range calls {
		item := "- " + code(c.Address) + ": " + code(c.Actor) + " called " + code(c.Call) + ", " + stamp(c.At)
		if c.Source != "" {
			item += ", from " + code(c.Source)
		}
		if l := link("event", c.URL); l != "" {
			item += " (" + l + ")"
		}
		items = append(items, item+"\n")
	}
	return items
}

func ticketIgnored(ignored []plan.IgnoredDrift) (items []string) {
	for _, i := range ignored {
		item := "- " + code(i.Address)
		if len(i.Attributes) > 0 {
			item += ": " + names(i.Attributes, maxNamed)
		}
		items = append(items, item+": "+text(i.Reason)+"\n")
	}
	return items
}

// ticketNext says what happens next.
func ticketNext(t Ticket) string {
	var b strings.Builder
	b.WriteString("\n**What happens next**\n\n")
	switch {
	case !t.Contested.IsZero():
		fmt.Fprintf(&b, "🛑 **Contested** since %s: something keeps changing this back.\n", stamp(t.Contested))
		for _, s := range t.Blocked {
			b.WriteString("\n- " + text(s))
		}
		b.WriteString("\n")
	case t.Proposal != "":
		b.WriteString("A pull request takes the cloud's values into the configuration: " + or(link("look at it", t.Proposal), text(t.Proposal)) + ". Merge it to keep them, or apply the workspace to undo them.\n")
	case len(t.Blocked) > 0:
		b.WriteString("It is not corrected:\n")
		for _, s := range t.Blocked {
			b.WriteString("\n- " + text(s))
		}
		b.WriteString("\n")
	case t.Correct == "apply" && t.Class == plan.CloudChange:
		b.WriteString("Holdfast corrects it now.\n")
	case t.Correct == "propose" && t.Class == plan.CloudChange:
		b.WriteString("Holdfast looks for the values in the configuration, and opens a pull request with the cloud's.\n")
	default:
		b.WriteString("Nothing by itself: `drift.correct` is off here. Undo it in the cloud, or take it into the configuration. This ticket is closed when a check finds the workspace in sync.\n")
	}
	for i, s := range t.Refused {
		if i == 0 {
			b.WriteString("\nNot written into the configuration:\n")
		}
		b.WriteString("\n- " + text(s))
	}
	if len(t.Refused) > 0 {
		b.WriteString("\n")
	}
	return b.String()
}

func bullets(list []string) (items []string) {
	for _, s := range list {
		items = append(items, "- "+text(s)+"\n")
	}
	return items
}

func stamp(t time.Time) string { return t.UTC().Format("2006-01-02 15:04 MST") }

func or(s, otherwise string) string {
	if s == "" {
		return otherwise
	}
	return s
}
