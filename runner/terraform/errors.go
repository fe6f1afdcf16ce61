package terraform

import (
	"regexp"
	"strings"
	"time"
)

// What Terraform and OpenTofu say, in one line and lower case. Their texts are
// wrapped at the width of a terminal, so they are compared after unwrapping.
var (
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
	lockInfo         = regexp.MustCompile(`(?m)^[│ ]*(ID|Path|Operation|Who|Created|Info):[ \t]*(.*?)[ \t]*$`)
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

// needsInit says whether an unwrapped error text asks for init.
func needsInit(text string) bool { return containsAny(text, initPhrases) }

// needsWorkspace says whether an unwrapped error text misses the Terraform
// workspace.
func needsWorkspace(text string) bool { return missingWorkspace.MatchString(text) }

// stateLocked reads what the engine knows of the lock that it met. Of a field
// that is there twice the first counts: the last one, Info, may hold anything,
// lines that look like other fields too.
func stateLocked(e *EngineError) *StateLockedError {
	l := &StateLockedError{Err: e}
	_, info, _ := strings.Cut(e.Output, "Lock Info:")
	seen := map[string]bool{}
	for _, m := range lockInfo.FindAllStringSubmatch(info, -1) {
		name, value := m[1], m[2]
		if seen[name] {
			continue
		}
		seen[name] = true
		switch name {
		case "ID":
			l.ID = value
		case "Path":
			l.Path = value
		case "Operation":
			l.Operation = value
		case "Who":
			l.Who = value
		case "Created":
			// The form of time.Time.String; a text that is none leaves it zero.
			l.Created, _ = time.Parse("2006-01-02 15:04:05.999999999 -0700 MST", value)
		case "Info":
			l.Info = value
		}
	}
	return l
}
