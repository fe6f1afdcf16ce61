package terraform

import (
	"regexp"
	"slices"
	"strings"
)

// Step is something that an apply completed, or failed in.
type Step struct {
	// Address as the engine writes it: module.a["x y"].aws_instance.b[0].
	Address string
	// Deposed is the key of the object that was replaced before, where the
	// step was its destruction.
	Deposed string
	// Verb is "created", "modified", "destroyed", "imported" or "invoked" (an
	// action). It is empty where Failed.
	Verb   string
	Failed bool
	// Error is the summary of what the engine complained of, where Failed: a
	// line of 500 bytes at most.
	Error string
}

// Done reads from what an apply of Terraform or OpenTofu printed, on both of
// its outputs, what was completed and what failed, in order. It is for people
// alone and nothing may be decided by it: providers and provisioners write into
// the same log, and can imitate each of its lines. What is not there may have
// been done all the same, as a log may be cut; forgotten objects are never
// there, as the engine does not speak of them.
func Done(log []byte) []Step {
	var steps []Step
	var failure string // the summary of an error whose address may follow
	half := false      // the line is the end of one whose beginning was left out
	for line := range strings.Lines(clean(string(log))) {
		line = strings.TrimRight(strings.TrimPrefix(strings.TrimPrefix(line, "│"), " "), " \n")
		if half || cut.MatchString(line) {
			half, failure = !half, ""
			continue
		}
		if step, ok := completed(line); ok {
			steps = append(steps, step)
			failure = ""
			continue
		}
		if summary, ok := strings.CutPrefix(line, "Error: "); ok {
			failure = shorten(summary)
			continue
		}
		// With the rest of an error comes no address any more.
		if line != "" && failure != "" {
			if address, ok := failedAt(line); ok {
				steps = append(steps, Step{Address: address, Failed: true, Error: failure})
			}
			failure = ""
		}
	}
	return steps
}

var (
	cut      = regexp.MustCompile(`^\[\d+ bytes left out\]$`)
	deposed  = regexp.MustCompile(`^ \(deposed object ([0-9a-f]{1,32})\)`)
	ended    = regexp.MustCompile(`^: (Creation|Modifications|Destruction|Import) complete($| after | \[)`)
	atAction = regexp.MustCompile(`^Action (complete|failed): (.*)$`)
	verbs    = map[string]string{"Creation": "created", "Modifications": "modified", "Destruction": "destroyed", "Import": "imported"}
)

// completed reads a line about something that has ended.
func completed(line string) (Step, bool) {
	if m := atAction.FindStringSubmatch(line); m != nil {
		return action(m[1], m[2])
	}
	address, mode, rest := scanAddress(line)
	if mode != "" || address == "" {
		return Step{}, false
	}
	s := Step{Address: address}
	if m := deposed.FindStringSubmatch(rest); m != nil {
		s.Deposed, rest = m[1], rest[len(m[0]):]
	}
	m := ended.FindStringSubmatch(rest)
	if m == nil {
		return Step{}, false
	}
	s.Verb = verbs[m[1]]
	return s, true
}

// action reads how an action ended: its address, what triggered it, and how it
// failed.
func action(how, line string) (Step, bool) {
	address, mode, rest := scanAddress(line)
	if mode != "action" || !strings.HasPrefix(rest, " (triggered by ") {
		return Step{}, false
	}
	if how == "failed" {
		_, why, _ := strings.Cut(rest, ") - ")
		return Step{Address: address, Failed: true, Error: shorten(why)}, true
	}
	return Step{Address: address, Verb: "invoked"}, true
}

// failedAt reads the line of an error that has the address.
func failedAt(line string) (string, bool) {
	rest, ok := strings.CutPrefix(strings.TrimLeft(line, " "), "with ")
	if !ok {
		return "", false
	}
	address, _, rest := scanAddress(rest)
	return address, address != "" && rest == ","
}

// shorten bounds a line for people.
func shorten(s string) string {
	if s = strings.TrimSpace(s); len(s) > maxWords {
		s = strings.ToValidUTF8(s[:maxWords-len("…")], "") + "…"
	}
	return s
}

// maxAddress bounds what is taken for an address, in bytes.
const maxAddress = 4 << 10

var (
	word = `[\pL\pN_][\pL\pN\pM_-]*`
	// instance is an instance's key: a number, or a string with escapes.
	instance = `(?:\[(?:[0-9]+|"(?:[^"\\]|\\.)*")\])?`
	// address is that of an instance in the engine's form: its path, mode, type
	// and the rest.
	address = regexp.MustCompile(`^(?:module\.` + word + instance + `\.)*(?:(data|ephemeral|action)\.)?(` + word + `)\.` + word + instance)
)

// scanAddress reads the address of an instance at the beginning of s, and
// returns it with its mode, empty for a managed resource, and what follows. It
// is empty where there is none.
func scanAddress(s string) (found, mode, rest string) {
	m := address.FindStringSubmatch(s[:min(len(s), maxAddress)])
	if m == nil || slices.Contains([]string{"module", "data", "ephemeral", "action", "provider"}, m[2]) {
		return "", "", s
	}
	return m[0], m[1], s[len(m[0]):]
}
