package terraform

import (
	"regexp"
	"strings"
	"time"
)

// What Terraform and OpenTofu say, in one line and lower case. Their texts are
// wrapped at the width of a terminal, so they are compared after unwrapping.
var (
	stalePhrases = []string{
		"saved plan is stale",
		"saved plan does not match the given state",
		"does not match the current state lineage",
		"plan file can no longer be applied because the state was changed",
		"plan file was created with a different set of external dependency selections",
		"plan file was created by a different version of",
	}
	initPhrases = []string{
		"terraform init",
		"tofu init",
		"inconsistent dependency lock file",
		"required plugins are not installed",
		"module not installed",
		"module source has changed",
		"module version requirements have changed",
		"backend initialization required",
		"backend configuration changed",
		"missing required provider",
		"could not load plugin",
		"failed to instantiate provider",
		"missing resource schema from provider",
		"initialization required",
	}
	lockPhrase       = "error acquiring the state lock"
	missingWorkspace = regexp.MustCompile(`workspace "?[^" ]+"? (does not exist|doesn't exist|not found)`)
	lockInfo         = regexp.MustCompile(`(?m)^[│ ]*(ID|Who|Operation|Created):[ \t]*(.*?)[ \t]*$`)
)

// unwrap makes a text comparable: box drawing away, one space between words.
func unwrap(text string) string {
	text = strings.NewReplacer("│", " ", "╷", " ", "╵", " ").Replace(text)
	return strings.ToLower(strings.Join(strings.Fields(text), " "))
}

func containsAny(text string, phrases []string) bool {
	for _, p := range phrases {
		if strings.Contains(text, p) {
			return true
		}
	}
	return false
}

// classify gives an engine's error the type that it deserves.
func classify(e *EngineError) error {
	text := unwrap(e.Output)
	if strings.Contains(text, lockPhrase) {
		return stateLocked(e)
	}
	return e
}

// refused says whether an error text is the engine's refusal of a saved plan.
// One that lacks what init had made when it was planned cannot be applied
// either, and has to be made again.
func refused(text string) bool {
	text = unwrap(text)
	return containsAny(text, stalePhrases) || needsInit(text)
}

// needsInit says whether an unwrapped error text asks for init.
func needsInit(text string) bool { return containsAny(text, initPhrases) }

// needsWorkspace says whether an unwrapped error text misses the Terraform
// workspace.
func needsWorkspace(text string) bool { return missingWorkspace.MatchString(text) }

func stateLocked(e *EngineError) *StateLockedError {
	l := &StateLockedError{Err: e}
	for _, m := range lockInfo.FindAllStringSubmatch(e.Output, -1) {
		switch m[1] {
		case "ID":
			l.ID = m[2]
		case "Who":
			l.Who = m[2]
		case "Operation":
			l.Operation = m[2]
		case "Created":
			// The form of time.Time.String; a text that is none leaves it zero.
			l.Created, _ = time.Parse("2006-01-02 15:04:05.999999999 -0700 MST", m[2])
		}
	}
	return l
}
