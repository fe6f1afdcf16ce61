package plan

// Empty reports whether applying the plan would do nothing. Data sources that
// would be read again do not count, and a plan that failed half way is never
// empty: nobody knows the rest of it.
func (p *Plan) Empty() bool {
	if p == nil {
		return true
	}
	return !p.Errored && len(p.Changes) == 0 && len(p.Outputs) == 0 && len(p.Invocations) == 0
}

// Summary counts the changes. A nil plan has none.
func (p *Plan) Summary() Summary {
	var s Summary
	if p == nil {
		return s
	}
	for _, c := range p.Changes {
		s.count(c.Action)
		if c.Import != "" || c.Action == Import {
			s.Import++
		}
		if c.Previous != "" {
			s.Move++
		}
	}
	s.Outputs = len(p.Outputs)
	return s
}

func (s *Summary) count(a Action) {
	switch a {
	case Create:
		s.Add++
	case Update:
		s.Change++
	case Delete:
		s.Destroy++
	case Replace, ReplaceCreateFirst:
		s.Replace++
	case ReplaceForget:
		s.Add++
		s.Forget++
	case Forget:
		s.Forget++
	case Move, Import:
	default: // a word of a later engine: something happens to the resource
		s.Change++
	}
}
