package terraform

import (
	"regexp"
	"strings"
)

// refusals are the beginnings of the diagnostics with which Terraform and
// OpenTofu decline a saved plan before they do anything, unwrapped: summary and
// detail. An engine's diagnostic about a resource or a provider has its place
// in the configuration between the two, so that no provider can say the same.
var refusals = regexp.MustCompile(`^(` + strings.Join([]string{
	// The state has moved on, or is another.
	`saved plan is stale the given plan file can no longer be applied`,
	`saved plan does not match the given state the given plan file can not be applied`,
	// Made for something else: other versions, checksums, Terraform workspaces.
	`inconsistent dependency lock file the (given plan file was created with|following dependency selections recorded in)`,
	`the plan file describes changes to the ".*" workspace, but the ".*" workspace is currently in use`,
	`error: using a saved cloud plan when executing`,
	// Another version of the engine, damaged, or not there.
	`failed to load ".*" as a plan file`,
	`failed to read plan from plan file (cannot read the plan from the given plan file:|the given plan file )`,
	`invalid plan file failed to read `,
	`saved plan has no dependency lock information the specified saved plan file`,
	`failed to read dependency locks from plan file couldn't read`,
	`cannot apply incomplete plan (terraform|opentofu) encountered an error when generating this plan`,
	// What init made for the plan is not here.
	`required plugins are not installed the installed provider plugins are not consistent`,
	`missing or corrupted provider plugins: - `,
	`\S+/\S+/\S+: (there is no package for|the cached package for|failed to verify checksum of) \S+/\S+/\S+ `,
	`[a-z ]{0,60}initialization required[,:] please run "(terraform|tofu) init"`,
	`initialization required reason:`,
	`backend configuration changed a change in the backend configuration has been detected`,
}, "|") + `)`)

// lockErrors is how the diagnostic of a state that is locked begins.
var lockErrors = regexp.MustCompile(`^(error locking state: )?error acquiring the state lock`)

// declined says whether an apply that ended with errText on its standard error,
// and printed on its standard output, did nothing for one of these reasons
// alone.
func declined(reasons *regexp.Regexp, errText, printed string) bool {
	found := diagnostics(errText)
	for _, d := range found {
		if !reasons.MatchString(d) {
			return false
		}
	}
	return len(found) > 0 && !begun(printed)
}

// notLoaded begins a refusal whose detail looks like a diagnostic of its own:
// "Error: stat /plan: no such file or directory".
const notLoaded = "failed to load "

// diagnostics returns the engine's errors in a text, unwrapped and without
// "Error: ".
func diagnostics(text string) []string {
	var found []string
	for d := range strings.SplitSeq("\n"+strings.ReplaceAll(text, "│ ", ""), "\nError: ") {
		d = unwrap(d)
		last := len(found) - 1
		if last >= 0 && strings.HasPrefix(found[last], notLoaded) && strings.HasSuffix(found[last], " as a plan file") {
			found[last] += " " + d
		} else {
			found = append(found, d)
		}
	}
	return found[1:]
}

var (
	// waiting is all that an engine prints before it begins to apply, but
	// for warnings.
	waiting = regexp.MustCompile(`^((Acquiring|Releasing) state lock\. This may take a few moments\.\.\.)?$`)
	warning = regexp.MustCompile(`^(Warning: |Warnings:$)`)
	// progress is what it prints about what it does. A warning has no such
	// line, or is taken for one.
	progress = regexp.MustCompile(`: [A-Z][a-z]+ing\b|: [A-Z][a-z]+ complete\b|: (Configuration unknown|Deferred|Import|Removed)|^Action |^\(Unknown action`)
	// leftOut stands for what an output was too long for.
	leftOut = regexp.MustCompile(`\n\[\d+ bytes left out\]\n`)
)

// begun says whether an apply that printed this may have begun. The engine says
// what it does before it does it, and a provisioner can print whatever it likes,
// but only after that. So what is not known to come before counts as begun.
func begun(printed string) bool {
	if leftOut.MatchString(printed) {
		return true
	}
	warned := false
	for line := range strings.Lines(clean(printed)) {
		line = strings.Trim(line, "│╷╵ \t\n")
		switch {
		case waiting.MatchString(line):
		case progress.MatchString(line):
			return true
		case warning.MatchString(line):
			warned = true
		case !warned:
			return true
		}
	}
	return false
}
