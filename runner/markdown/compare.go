package markdown

import (
	"fmt"
	"strings"

	"holdfast/runner/plan"
)

// CompareText shows a comparison as plain text: the verdict, what differs by
// address and attribute, and what each plan does.
func CompareText(c plan.Comparison, reviewed, now *plan.Plan) string {
	var out []string
	switch c.Verdict {
	case plan.Identical:
		out = append(out, "Identical: both plans make the same change.")
	case plan.Narrower:
		out = append(out, "Narrower: the new plan does only a part of what was reviewed, and nothing else.")
	default:
		out = append(out, "Changed: the new plan does something that was not reviewed.")
		if c.SameResources {
			out = append(out, "It does the same actions to the same resources, with other values.")
		}
	}
	if d := differences(c); d != "" {
		out = append(out, "", strings.TrimSuffix(d, "\n"))
	}
	out = append(out, "",
		"Reviewed: "+SummaryText(reviewed.Summary()),
		"Now:      "+SummaryText(now.Summary()))
	return strings.Join(out, "\n") + "\n"
}

// differences lists what differs, under each address once.
func differences(c plan.Comparison) string {
	var b strings.Builder
	last := ""
	for i, d := range c.Differences {
		if i == 0 || d.Address != last {
			b.WriteString(visible(d.Address) + "\n")
			last = d.Address
		}
		indent := "  "
		if d.Attribute != "" {
			b.WriteString("  " + visible(d.Attribute) + "\n")
			indent = "    "
		}
		b.WriteString(indent + "reviewed: " + visible(d.Reviewed) + "\n")
		b.WriteString(indent + "now:      " + visible(d.Now) + "\n")
	}
	if c.More > 0 {
		fmt.Fprintf(&b, "and %s\n", count(c.More, "more difference"))
	}
	return b.String()
}
