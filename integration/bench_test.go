package integration

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/sync/errgroup"

	"holdfast/store"
	"holdfast/vcs/gitea/giteatest"
)

const (
	benchWorkspaces = 20
	benchParallel   = 4  // the server's workers, and the floor's
	benchPairs      = 15 // measured pairs, after one of each that warms up
)

// content writes the files of a workspace; n is another change each time.
type content func(name string, n int) string

// plain has nothing but what is built into the engine, so that what Holdfast
// adds weighs most.
func plain(name string, n int) string {
	return fmt.Sprintf("resource \"terraform_data\" %q {\n  input = \"change %d\"\n}\n", name, n)
}

// cloudy has a provider, which both sides reach in a process that runs already.
func cloudy(name string, n int) string {
	return providers + "provider \"smallcloud\" {}\n" + server(name, fmt.Sprintf("size = \"size-%d\"", n))
}

// bench is a world with a pull request of many workspaces, and beside it the
// same root modules in plain directories.
type bench struct {
	*world
	content content
	count   int // of root modules
	number  int
	floor   string
	engine  *countedEngine
}

func newBench(t testing.TB, c content, count int) *bench {
	t.Helper()
	b := &bench{world: newWorld(t, map[string]string{"README.md": "measured\n"}), content: c, count: count, engine: newCountedEngine(t)}
	b.env = append(b.env, "PATH="+b.engine.path())
	b.start()
	return b
}

// files are all root modules with change n, below a directory for Git.
func (b *bench) files(n int) map[string]string {
	files := map[string]string{}
	for i := range b.count {
		name := fmt.Sprintf("ws%02d", i)
		files[name+"/main.tf"] = b.content(name, n)
	}
	return files
}

// took is where the time of one pull request went.
type took struct {
	all    time.Duration // from webhook to posted
	told   time.Duration // from webhook to the first status, which says that plans are made
	start  time.Duration // from webhook to the first run's start
	report time.Duration // from the last run's end to posted
}

// pullRequest pushes change n and returns how long it took from the webhook
// until comment and statuses said how all of it ended.
func (b *bench) pullRequest(n int) took {
	b.Helper()
	b.forge.Hold()
	sha := b.repo.Push("change", b.files(n), fmt.Sprint("Change ", n))
	if b.number == 0 {
		b.number = b.repo.OpenPull(giteatest.OpenPull{Head: "change"})
	}
	began := time.Now()
	b.forge.Release()
	var told time.Time
	b.until("everything is posted", func() bool {
		state := b.repo.Statuses(sha)["holdfast"].State
		if state != "" && told.IsZero() {
			told = time.Now()
		}
		return state == "success"
	})
	posted := time.Now()
	comments := b.repo.Comments(b.number)
	if len(comments) != 1 || !strings.Contains(comments[0].Body, sha[:7]) {
		b.Fatalf("comments: %+v", comments)
	}
	var first, last time.Time
	runs := b.runs(store.RunFilter{Commit: sha})
	for _, r := range runs {
		if first.IsZero() || r.StartedAt.Before(first) {
			first = r.StartedAt
		}
		if r.EndedAt.After(last) {
			last = r.EndedAt
		}
		if r.State != store.Planned {
			b.Fatalf("%s is %s: %s", r.Workspace, r.State, r.Error)
		}
	}
	if len(runs) != b.count {
		b.Fatalf("there are %d runs instead of %d", len(runs), b.count)
	}
	b.quiet()
	return took{posted.Sub(began), told.Sub(began), first.Sub(began), posted.Sub(last)}
}

// plainTerraform does the same with Terraform alone: plan and `show -json` in
// directories that are initialised, and returns how long that took.
func (b *bench) plainTerraform(n int) time.Duration {
	b.Helper()
	fresh := b.floor == ""
	if fresh {
		b.floor = b.TempDir()
	}
	for name, text := range b.files(n) {
		file := filepath.Join(b.floor, name)
		if err := os.MkdirAll(filepath.Dir(file), 0o700); err != nil {
			b.Fatal(err)
		}
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			b.Fatal(err)
		}
	}
	if fresh {
		b.inAll([]string{"init", "-input=false", "-no-color"})
	}
	began := time.Now()
	b.inAll([]string{"plan", "-input=false", "-no-color", "-out=plan.tfplan"}, []string{"show", "-json", "-no-color", "plan.tfplan"})
	return time.Since(began)
}

// inAll runs commands one after the other in each of the floor's directories,
// with the environment that Holdfast gives its engines.
func (b *bench) inAll(commands ...[]string) {
	b.Helper()
	var group errgroup.Group
	group.SetLimit(benchParallel)
	for i := range b.count {
		group.Go(func() error {
			for _, args := range commands {
				cmd := exec.Command(b.engine.file(), args...)
				cmd.Dir = filepath.Join(b.floor, fmt.Sprintf("ws%02d", i))
				cmd.Env = append(os.Environ(), "TF_IN_AUTOMATION=1", "TF_INPUT=0", "CHECKPOINT_DISABLE=1", "GOGC=off", "TF_REATTACH_PROVIDERS="+b.cloud.reattach)
				if out, err := cmd.CombinedOutput(); err != nil {
					return fmt.Errorf("terraform %s: %w\n%s", args[0], err, out)
				}
			}
			return nil
		})
	}
	if err := group.Wait(); err != nil {
		b.Fatal(err)
	}
}

// BenchmarkPullRequest measures a pull request of 20 workspaces, from its
// webhook to its posted comment and statuses, beside what Terraform alone needs
// for the same plans with the same parallelism. The two alternate in one run,
// so that what else the machine does meets both. It ignores b.N.
func BenchmarkPullRequest(b *testing.B) {
	for _, variant := range []struct {
		name    string
		content content
	}{{"terraform_data", plain}, {"provider", cloudy}} {
		name := variant.name
		b.Run(name, func(b *testing.B) {
			x := newBench(b, variant.content, benchWorkspaces)
			x.pullRequest(0)
			x.plainTerraform(0)
			x.engine.reset()
			var ours, tolds, starts, reports, floors, ratios []time.Duration
			started := map[string]int{}
			for n := 1; n <= benchPairs; n++ {
				t := x.pullRequest(n)
				for command, count := range x.engine.take() {
					started[command] += count
				}
				f := x.plainTerraform(n)
				x.engine.reset()
				ours, tolds, starts, reports, floors = append(ours, t.all), append(tolds, t.told), append(starts, t.start), append(reports, t.report), append(floors, f)
				ratios = append(ratios, t.all*1000/f)
			}
			x.engine.reset()
			x.merge()
			applied := x.engine.take()
			x.pushUnchanged(benchPairs)
			unchanged := x.engine.take()
			ratio := float64(median(ratios)) / 1000
			b.ReportMetric(median(ours).Seconds(), "s/pull-request")
			b.ReportMetric(median(floors).Seconds(), "s/floor")
			b.ReportMetric(ratio, "ratio")
			b.ReportMetric(perWorkspace(started)/benchPairs, "engines/workspace")
			b.ReportMetric(perWorkspace(unchanged), "engines/unchanged")
			b.ReportMetric(0, "ns/op") // says nothing here
			b.Logf(`a pull request of %d workspaces, %d at once (%s), medians of %d:
  webhook to posted       %6.2f s   %s
    webhook to first run  %6.2f s   %s
    webhook to first word %6.2f s   %s
    last run to posted    %6.2f s   %s
  plain plan and show     %6.2f s   %s
  ratio                   %6.2f     (each pair: %s thousandths)
  engine processes for each workspace: with changes %.2f %v, without %.2f %v, in its apply %.2f %v`, benchWorkspaces, benchParallel, name, benchPairs,
				median(ours).Seconds(), rounded(ours), median(starts).Seconds(), rounded(starts), median(tolds).Seconds(), rounded(tolds), median(reports).Seconds(), rounded(reports),
				median(floors).Seconds(), rounded(floors), ratio, fmt.Sprint(ints(ratios)),
				perWorkspace(started)/benchPairs, started, perWorkspace(unchanged), unchanged, perWorkspace(applied), applied)
		})
	}
}

// perWorkspace is how many engine processes there were for each workspace.
func perWorkspace(commands map[string]int) float64 {
	all := 0
	for _, n := range commands {
		all += n
	}
	return float64(all) / benchWorkspaces
}

func median(d []time.Duration) time.Duration {
	s := slices.Sorted(slices.Values(d))
	return (s[(len(s)-1)/2] + s[len(s)/2]) / 2
}

func rounded(d []time.Duration) []time.Duration {
	var out []time.Duration
	for _, x := range d {
		out = append(out, x.Round(10*time.Millisecond))
	}
	return out
}

func ints(d []time.Duration) []int64 {
	var out []int64
	for _, x := range d {
		out = append(out, int64(x))
	}
	return out
}
