package workspaces

import "slices"

// TrustOnly replaces every workspace's policy, Apply, Drift and RunsOn, by what base
// says, which is the default branch's Config: so that no pull request can
// relax the rules that it is applied under.
//
// A workspace is known again by what it manages, its directory and Terraform
// workspace, before its name: giving a strict workspace's directory to a
// lenient one's name changes nothing. One that base does not have gets base's
// defaults, and the built-in ones where base is nil.
func (c *Config) TrustOnly(base *Config) {
	if base == nil {
		base = &Config{Defaults: builtIn()}
	}
	c.Defaults = base.Defaults
	byName := map[string]Workspace{}
	byPlace := map[place][]Workspace{}
	for _, b := range base.Workspaces {
		byName[b.Name] = b
		at := place{b.Dir, b.Workspace}
		byPlace[at] = append(byPlace[at], b)
	}
	for i := range c.Workspaces {
		w := &c.Workspaces[i]
		trusted := Workspace{Apply: base.Defaults.Apply, Drift: base.Defaults.Drift, RunsOn: base.Defaults.RunsOn}
		if same, ok := byName[w.Name]; ok {
			trusted = same
		}
		if there := byPlace[place{w.Dir, w.Workspace}]; len(there) > 0 {
			trusted = closest(*w, there)
		}
		w.Apply, w.Drift, w.RunsOn = trusted.Apply, trusted.Drift, slices.Clone(trusted.RunsOn)
		w.Apply.Requires = slices.Clone(w.Apply.Requires)
	}
}

// place is what a workspace manages.
type place struct{ dir, workspace string }

// closest picks, among workspaces of one place, the one with w's name, else
// one with its variable files, else the first.
func closest(w Workspace, there []Workspace) Workspace {
	for _, same := range []func(Workspace) bool{
		func(b Workspace) bool { return b.Name == w.Name },
		func(b Workspace) bool { return slices.Equal(b.VarFiles, w.VarFiles) },
	} {
		if i := slices.IndexFunc(there, same); i >= 0 {
			return there[i]
		}
	}
	return there[0]
}

// Stricter returns the policy that lets pass only what both a and b let pass.
// How a pull request is merged is not stricter or less: that stays a's.
func (a Apply) Stricter(b Apply) Apply {
	out := a
	if b.On == "comment" {
		out.On = b.On
	}
	out.Requires = slices.Clone(a.Requires)
	for _, name := range b.Requires {
		if !slices.Contains(out.Requires, name) {
			out.Requires = append(out.Requires, name)
		}
	}
	// A word that is not in the list comes before all that are.
	lenient := []string{"hold", "same_resources", "always"}
	if slices.Index(lenient, b.WhenPlanChanged) < slices.Index(lenient, a.WhenPlanChanged) {
		out.WhenPlanChanged = b.WhenPlanChanged
	}
	out.MaxPlanAge = min(a.MaxPlanAge, b.MaxPlanAge)
	// Here one that is not in the list comes before all that are, and gives way.
	locks := []string{"none", "apply", "plan"}
	if slices.Index(locks, b.Lock) > slices.Index(locks, a.Lock) {
		out.Lock = b.Lock
	}
	out.Automerge = a.Automerge && b.Automerge
	out.OnPush = a.OnPush && b.OnPush
	return out
}
