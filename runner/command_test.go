package runner

import (
	"errors"
	"slices"
	"strings"
	"testing"
	"time"
)

func TestParseCommand(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		body  string
		verb  string // empty: no command
		match []string
		wrong string // part of the answer
	}{
		{body: "looks good"},
		{body: "> holdfast apply"},
		{body: "please holdfast apply"},
		{body: "holdfasts apply"},
		{body: "Holdfast apply"},
		{body: ""},
		{body: "holdfast", verb: "help"},
		{body: "/holdfast help", verb: "help"},
		{body: "  \nholdfast plan\nbecause I say so", verb: "plan"},
		{body: "holdfast apply -w prod-vpc -w 'live/*'", verb: "apply", match: []string{"prod-vpc", "live/*"}},
		{body: "holdfast apply -w=a", verb: "apply", match: []string{"a"}},
		{body: "holdfast hold 4h -m \"incident 42\" -w x", verb: "hold", match: []string{"x"}},
		{body: "holdfast release -w x", verb: "release", match: []string{"x"}},
		{body: "holdfast hold", wrong: "For how long?"},
		{body: "holdfast hold forever", wrong: "For how long?"},
		{body: "holdfast hold -4h", wrong: "For how long?"},
		{body: "holdfast hold 91d", wrong: "For how long?"},
		{body: "holdfast plan -m why", wrong: "`-m` is not understood"},
		{body: "holdfast aply", wrong: `Did you mean "apply"?`},
		{body: "holdfast rm -rf /", wrong: "There is no command `rm`"},
		{body: "holdfast plan everything", wrong: "`everything` is not understood"},
		{body: "holdfast plan -w", wrong: "`-w` is not understood"},
		{body: "holdfast plan -w [", wrong: "not a name or a glob"},
		{body: "holdfast `@everybody`\u202e", wrong: "`?@everybody??`"},
	} {
		c, ok, err := parseCommand(test.body)
		var wrong *commandError
		switch {
		case test.wrong != "":
			if !ok || !errors.As(err, &wrong) || !strings.Contains(wrong.text, test.wrong) {
				t.Errorf("%q: %t %v, want %q", test.body, ok, err, test.wrong)
			}
		case err != nil || ok != (test.verb != "") || c.verb != test.verb || !slices.Equal(c.match, test.match):
			t.Errorf("%q: %+v %t %v", test.body, c, ok, err)
		}
	}
}

func TestHoldLength(t *testing.T) {
	t.Parallel()
	c, _, err := parseCommand(`holdfast hold 2d -m 'it is "bad"'`)
	if err != nil || c.length != 48*time.Hour || c.why != `it is "bad"` {
		t.Errorf("%+v %v", c, err)
	}
	for s, ok := range map[string]bool{"90m": true, "1h30m": true, "90d": true, "d": false, "": false, "9999999d": false, "1e3h": false} {
		if _, err := ParseHold(s); (err == nil) != ok {
			t.Errorf("%q: %v", s, err)
		}
	}
}

func TestCommandAsks(t *testing.T) {
	t.Parallel()
	all, some := command{verb: verbApply}, command{verb: verbApply, match: []string{"live/*", "x@blue"}}
	for name, want := range map[string][2]bool{"live/a": {true, true}, "live/a/b": {true, false}, "x@blue": {true, true}, "y": {true, false}} {
		if got := [2]bool{all.asks(verbApply, name), some.asks(verbApply, name)}; got != want {
			t.Errorf("%s: %v, want %v", name, got, want)
		}
		if all.asks(verbPlan, name) || (command{}).asks(verbPlan, name) {
			t.Errorf("%s: asked to plan by an apply, or by nobody", name)
		}
	}
}

func FuzzParseCommand(f *testing.F) {
	f.Add("holdfast apply -w 'live/*'")
	f.Add("/holdfast hold 4h -m \"why\"")
	f.Fuzz(func(t *testing.T, body string) {
		c, ok, err := parseCommand(body)
		if err != nil && (!ok || strings.Count(err.Error(), "`")%2 != 0) {
			t.Errorf("%t %v", ok, err)
		}
		c.asks(verbPlan, "live/a")
	})
}
