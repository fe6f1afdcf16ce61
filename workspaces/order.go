package workspaces

import (
	"fmt"
	"slices"
	"strings"
)

// CycleError says that workspaces depend on each other.
type CycleError struct {
	// Names go round: each one depends on the next, and the last on the first.
	Names []string
}

// Error prints the cycle: "a → b → a".
func (e *CycleError) Error() string {
	names := append(slices.Clone(e.Names), e.Names[0])
	if len(names) > 12 {
		names = append(append(names[:10:10], "…"), names[len(names)-1])
	}
	return "workspaces depend on each other: " + strings.Join(names, " → ")
}

// Order arranges workspaces in levels: those of a level need only what is in
// earlier ones, also by way of workspaces that are not among names. Each level
// is sorted. A cycle that one of names is in is a *CycleError; a name that
// Config does not have is an error.
func (c *Config) Order(names []string) ([][]string, error) {
	g := c.graph()
	asked := map[int]bool{}
	for _, name := range names {
		i, ok := g.index[name]
		if !ok {
			return nil, fmt.Errorf("there is no workspace %q", name)
		}
		if cycle := g.cycle(i); cycle != nil {
			return nil, &CycleError{Names: cycle}
		}
		asked[i] = true
	}
	// Components come with the needed ones first, so that a rank is known
	// before it is asked for.
	ranks := make([]int, len(g.names))
	var levels [][]string
	for _, component := range g.components {
		for _, i := range component {
			for _, d := range g.needs[i] {
				if g.component[d] == g.component[i] {
					continue // of a cycle that nobody asked about
				}
				rank := ranks[d]
				if asked[d] {
					rank++
				}
				ranks[i] = max(ranks[i], rank)
			}
			if asked[i] {
				for len(levels) <= ranks[i] {
					levels = append(levels, nil)
				}
				levels[ranks[i]] = append(levels[ranks[i]], g.names[i])
			}
		}
	}
	for _, level := range levels {
		slices.Sort(level)
	}
	return levels, nil
}

// graph is the workspaces and what they need, with Tarjan's strongly connected
// components: one of several members, or one that needs itself, is a cycle.
type graph struct {
	names      []string
	index      map[string]int
	needs      [][]int
	components [][]int // needed ones first
	component  []int   // the number of each one's
}

// graph makes the graph of all workspaces; unknown dependencies are left out.
func (c *Config) graph() *graph {
	g := &graph{index: map[string]int{}, needs: make([][]int, len(c.Workspaces)), component: make([]int, len(c.Workspaces))}
	for i, w := range c.Workspaces {
		g.names = append(g.names, w.Name)
		g.index[w.Name] = i
	}
	for i, w := range c.Workspaces {
		for _, d := range w.DependsOn {
			if j, ok := g.index[d]; ok {
				g.needs[i] = append(g.needs[i], j)
			}
		}
	}
	t := &tarjan{graph: g, number: make([]int, len(g.names)), low: make([]int, len(g.names)), onStack: make([]bool, len(g.names))}
	for i := range g.names {
		if t.number[i] == 0 {
			t.visit(i)
		}
	}
	return g
}

// tarjan is the state of Tarjan's algorithm.
type tarjan struct {
	*graph
	count       int
	number, low []int
	stack       []int
	onStack     []bool
}

func (t *tarjan) visit(i int) {
	t.count++
	t.number[i], t.low[i] = t.count, t.count
	t.stack, t.onStack[i] = append(t.stack, i), true
	for _, d := range t.needs[i] {
		if t.number[d] == 0 {
			t.visit(d)
			t.low[i] = min(t.low[i], t.low[d])
		} else if t.onStack[d] {
			t.low[i] = min(t.low[i], t.number[d])
		}
	}
	if t.low[i] != t.number[i] {
		return
	}
	start := len(t.stack) - 1
	for t.stack[start] != i {
		start--
	}
	members := slices.Clone(t.stack[start:])
	t.stack = t.stack[:start]
	for _, m := range members {
		t.onStack[m] = false
		t.component[m] = len(t.components)
	}
	t.components = append(t.components, members)
}

// cycle returns the names of a shortest cycle that i is in, from i on, or nil.
func (g *graph) cycle(i int) []string {
	// Breadth first, within the component, until something needs i.
	from := map[int]int{i: -1}
	for queue := []int{i}; len(queue) > 0; queue = queue[1:] {
		at := queue[0]
		for _, d := range g.needs[at] {
			if d == i {
				var names []string
				for ; at >= 0; at = from[at] {
					names = append(names, g.names[at])
				}
				slices.Reverse(names)
				return names
			}
			if _, seen := from[d]; !seen && g.component[d] == g.component[i] {
				from[d] = at
				queue = append(queue, d)
			}
		}
	}
	return nil
}

// dependencies looks for dependencies that are unknown or circular.
func (l *loader) dependencies() {
	g := l.c.graph()
	described := map[int][]string{} // a cycle of each component
	for _, b := range l.deps {
		for i, d := range b.DependsOn {
			if _, ok := g.index[d]; ok {
				continue
			}
			hint := ""
			if len(g.names) <= 2000 && len(l.c.Problems) <= maxProblems {
				hint = near(d, slices.Sorted(slices.Values(g.names)))
			}
			l.c.Problems = append(l.c.Problems, b.depends[i].problem(b.Name, fmt.Sprintf("depends_on has %q, which is no workspace", cut(d, 60)), hint))
		}
		i := g.index[b.Name]
		of := g.component[i]
		cycle, known := described[of]
		// Each member sees a cycle that it is in, unless there are so many
		// that looking would take long.
		if !known || len(g.components[of]) <= 50 {
			cycle = g.cycle(i)
			described[of] = cycle
		}
		if cycle == nil {
			continue
		}
		at := b.at
		if len(b.depends) > 0 {
			at = b.depends[0]
		}
		for j, d := range b.DependsOn {
			if k, ok := g.index[d]; ok && g.component[k] == of {
				at = b.depends[j]
				break
			}
		}
		l.c.Problems = append(l.c.Problems, at.problem(b.Name, (&CycleError{Names: cycle}).Error(), "take one of these out of depends_on"))
	}
}
