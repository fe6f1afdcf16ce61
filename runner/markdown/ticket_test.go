package markdown

import (
	"os"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"holdfast/runner/plan"
)

var noon = time.Date(2026, 3, 4, 12, 0, 0, 0, time.UTC)

// tickets are what a ticket says in its life.
var tickets = []struct {
	name   string
	ticket Ticket
}{
	{"reported", Ticket{
		Workspace: "prod-vpc", Commit: "0123456789abcdef0123456789abcdef01234567", Class: plan.CloudChange, Began: noon, Run: "https://holdfast.test/runs/1", Correct: "off", Commands: true,
		Resources: []plan.DriftedResource{
			{Address: "aws_security_group.web", Change: "changed", Type: "aws_security_group", Action: plan.Update, Attributes: []string{"description", "tags.env"}, Values: []plan.DriftedValue{
				{Attribute: "description", Cloud: `"by hand"`, Git: `"web"`}, {Attribute: "tags.env", Cloud: "null", Git: `"prod"`},
			}},
			{Address: "aws_instance.db", Change: "deleted", Type: "aws_instance", Action: plan.Create},
			{Address: "aws_instance.old", Change: "created", Type: "aws_instance", Action: plan.Delete},
			{Address: "aws_subnet.a", Change: "changed", Type: "aws_subnet", Action: plan.Replace, Attributes: []string{"cidr"}, Values: []plan.DriftedValue{{Attribute: "cidr", Cloud: `"10.9.0.0/16"`, Git: `"10.0.0.0/16"`}}},
		},
		Who:     []TicketCall{{Address: "aws_security_group.web", Actor: "kim", Call: "ec2:ModifySecurityGroup", Source: "console", At: noon.Add(-time.Hour)}},
		Ignored: []plan.IgnoredDrift{{Address: "aws_autoscaling_group.a", Attributes: []string{"desired_capacity"}, Reason: "the scaler owns it"}},
		Notes:   []string{"The rule that left aws_x.* alone (a test) ended on 2026-03-01 00:00 UTC."},
	}},
	{"gates", Ticket{
		Workspace: "prod-vpc", Class: plan.CloudChange, Began: noon, Correct: "apply", Contested: noon.Add(time.Hour),
		Resources:   []plan.DriftedResource{{Address: "aws_x.a", Change: "changed", Type: "aws_x", Attributes: []string{"size"}, Values: []plan.DriftedValue{{Attribute: "size", Cloud: "2", Git: "1"}}}},
		Blocked:     []string{"The correction would change 12 resources, and drift.max_changes is 10. (gate: max_changes)", "The workspace is on hold by kim: incident 42. (gate: hold)"},
		Corrections: []string{"11:00 UTC: applied, aws_x.a size"}, Acknowledged: "Acknowledged by kim on 2026-03-04 12:00 UTC; this stays quiet until the drift is another one.",
	}},
	{"proposed", Ticket{
		Workspace: "prod-vpc", Class: plan.CloudChange, Began: noon, Correct: "propose", Proposal: "https://git.test/pulls/7",
		Resources: []plan.DriftedResource{{Address: "aws_x.a", Change: "changed", Type: "aws_x", Attributes: []string{"size"}, Values: []plan.DriftedValue{{Attribute: "size", Cloud: "2", Git: "1"}}}},
		Refused:   []string{"aws_x.b, name: it is computed from \"${var.env}-web\""},
	}},
	{"closed", Ticket{Workspace: "prod-vpc", Class: plan.CloudChange, Began: noon, Ended: noon.Add(time.Hour), Fixed: "Holdfast corrected it.", Commands: true}},
	{"outputs", Ticket{Workspace: "prod-vpc", Class: plan.OutputOnly, Began: noon, Correct: "apply", Resources: []plan.DriftedResource{{Address: "output.size", Change: "changed", Values: []plan.DriftedValue{{Cloud: "1", Git: "2"}}}}}},
	{"hostile", Ticket{
		Workspace: "a--><script>", Class: plan.CloudChange, Began: noon, Run: "javascript:alert(1)", Correct: "off",
		Resources: []plan.DriftedResource{{Address: "x.a[\"`@everyone`\n# heading\"]", Change: "changed", Type: "x", Attributes: []string{"a"}, Values: []plan.DriftedValue{{Attribute: "a`b", Cloud: "\"``` </details> @kim [x](http://evil)\"", Git: "null"}}}},
		Who:       []TicketCall{{Address: "x.a", Actor: "@all `x`", Call: "<img src=x>", Source: "\u202egnp", URL: "javascript:alert(1)", At: noon}},
		Ignored:   []plan.IgnoredDrift{{Address: "x.b", Reason: "see [this](http://evil) @kim"}}, Notes: []string{"<b>bold</b> @kim"},
	}},
}

func TestTickets(t *testing.T) {
	for _, tc := range tickets {
		t.Run(tc.name, func(t *testing.T) {
			got := RenderTicket(tc.ticket, 65536)
			file := "testdata/ticket-" + tc.name + ".md"
			if *update {
				if err := os.WriteFile(file, []byte(got), 0o644); err != nil {
					t.Fatal(err)
				}
			}
			want, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(string(want), got); diff != "" {
				t.Errorf("differs (-want +got):\n%s", diff)
			}
			first, _, _ := strings.Cut(got, "\n")
			if first != TicketMarker(tc.ticket.Workspace) || strings.Count(first, "-->") != 1 || strings.Count(got, "<!--") != 1 {
				t.Error("the marker is not the first line, and the only comment")
			}
		})
	}
}

// A ticket of any size fits, and says what is left out.
func TestTicketFits(t *testing.T) {
	big := Ticket{Workspace: "w", Class: plan.CloudChange, Began: noon, Correct: "off", Commands: true, More: 1000}
	for range 300 {
		r := plan.DriftedResource{Address: "aws_x." + strings.Repeat("a", 100), Change: "changed", Type: "x"}
		for range 20 {
			r.Attributes = append(r.Attributes, "size")
			r.Values = append(r.Values, plan.DriftedValue{Attribute: "size", Cloud: strings.Repeat("c", 200), Git: strings.Repeat("g", 200)})
		}
		big.Resources = append(big.Resources, r)
	}
	for _, size := range []int{1000, 3000, 65536, 1 << 20} {
		got := RenderTicket(big, size)
		if len(got) > size || !strings.Contains(got, "What happens next") {
			t.Errorf("%d bytes of %d:\n%.300s", len(got), size, got)
		}
	}
}
