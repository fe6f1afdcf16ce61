package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"os"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/sync/errgroup"

	"holdfast/aws"
	"holdfast/queue"
	"holdfast/runner/terraform"
	"holdfast/vcs"
	"holdfast/vcs/git"
)

// The results of a check.
const (
	checkOK   = "ok"
	checkWarn = "warn"
	checkFail = "fail"
)

const (
	// clockWarn and clockFail are how far this machine's clock may be from a
	// host's.
	clockWarn, clockFail = 30 * time.Second, 5 * time.Minute
	// doctorTimeout bounds what one host or repository is asked.
	doctorTimeout = 30 * time.Second
)

// checkRow is one check and what came of it.
type checkRow struct {
	Check  string `json:"check"`
	Result string `json:"result"`
	Detail string `json:"detail"`
	Hint   string `json:"hint,omitempty"`
}

func newDoctor() *cobra.Command {
	var f serverFlags
	cmd := &cobra.Command{
		Use:   "doctor",
		Short: "Check an installation, and say what to do",
		Long: `Check an installation: the server file, the data directory and its store, the
engines, the clock, the server, and of each host and repository the token, its
permissions, the webhook and its latest deliveries. Each failure says what to do.
A bucket for artifacts gets a small object, which is deleted again; nothing else
is changed. It may run beside the server.

The exit code is 0 where nothing has failed, else 1.`,
		Example: "  holdfast doctor --config /etc/holdfast/server.hcl",
		Args:    takes(0, 0),
	}
	f.register(cmd)
	format := outputFlag(cmd)
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		d := &doctor{}
		s, err := f.settings(LoadSettings)
		switch {
		case err != nil:
			d.fail("server file", err, "")
		case len(s.Repositories) == 0:
			d.fail("server file", errNoRepository, "")
		default:
			d.ok("server file", fmt.Sprintf("%s, %s", count(len(s.Hosts), "host", "hosts"), count(len(s.Repositories), "repository block", "repository blocks")))
			d.installation(cmd.Context(), s)
		}
		if err := d.print(cmd, *format); err != nil {
			return err
		}
		if d.failed() {
			return exitError(1)
		}
		return nil
	}
	return cmd
}

// doctor collects what checks found. Safe for concurrent use.
type doctor struct {
	mu   sync.Mutex
	rows []checkRow
}

func (d *doctor) add(r checkRow) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.rows = append(d.rows, r)
}

func (d *doctor) ok(check, detail string) { d.add(checkRow{check, checkOK, detail, ""}) }

func (d *doctor) warn(check, detail, hint string) {
	d.add(checkRow{check, checkWarn, detail, hint})
}

func (d *doctor) fail(check string, err error, hint string) {
	own := hintOf(err)
	d.add(checkRow{check, checkFail, withoutHint(err, own), cmp.Or(own, hint)})
}

func (d *doctor) failed() bool {
	return slices.ContainsFunc(d.rows, func(r checkRow) bool { return r.Result == checkFail })
}

func (d *doctor) print(cmd *cobra.Command, format string) error {
	if format == "json" {
		return list(cmd, format, d.rows, "", "", nil)
	}
	for _, r := range d.rows {
		fmt.Fprintf(cmd.OutOrStdout(), "%-4s  %s: %s\n", r.Result, oneLine(r.Check), printable(r.Detail))
		if r.Hint != "" {
			fmt.Fprintf(cmd.OutOrStdout(), "      -> %s\n", printable(r.Hint))
		}
	}
	return nil
}

// installation checks everything that the settings name.
func (d *doctor) installation(ctx context.Context, s Settings) {
	d.dataDir(s)
	d.engines(ctx, s)
	d.serverAnswers(ctx, s)
	mirrors, err := git.New(git.Config{Dir: s.DataDir})
	if err != nil {
		d.fail("data directory", err, "")
		return
	}
	known := d.store(ctx, s)
	d.artifacts(ctx, s)
	forges := s
	forges.Hosts = slices.DeleteFunc(slices.Clone(s.Hosts), func(h HostSettings) bool { return h.Type == "git" })
	opened := map[string]vcs.Host{}
	for _, h := range forges.Hosts {
		host, err := openForge(h)
		if err != nil {
			d.fail("host "+h.Name, err, "")
			continue
		}
		opened[h.Name] = host
	}
	// Results are printed in the order of the file, however long each takes.
	var parts []*doctor
	var group errgroup.Group
	group.SetLimit(8)
	part := func(check func(context.Context, *doctor)) {
		own := &doctor{}
		parts = append(parts, own)
		group.Go(func() error {
			limited, cancel := context.WithTimeoutCause(ctx, doctorTimeout, fmt.Errorf("no answer within %s", doctorTimeout))
			defer cancel()
			check(limited, own)
			return nil
		})
	}
	for _, h := range s.Hosts {
		if host := opened[h.Name]; host != nil {
			part(func(ctx context.Context, d *doctor) { d.host(ctx, s, h, host, len(known)) })
		}
	}
	for _, r := range d.repositories(s, known) {
		i := slices.IndexFunc(s.Hosts, func(h HostSettings) bool { return h.Name == r.Host })
		host := opened[r.Host]
		switch {
		case i < 0:
		case host != nil:
			part(func(ctx context.Context, d *doctor) { d.repository(ctx, s, s.Hosts[i], host, r) })
		case s.Hosts[i].Type == "git":
			part(func(ctx context.Context, d *doctor) { d.plain(ctx, s, mirrors, r) })
		}
	}
	_ = group.Wait() // none returns an error
	for _, p := range parts {
		d.rows = append(d.rows, p.rows...)
	}
}

func (d *doctor) dataDir(s Settings) {
	info, err := os.Stat(s.DataDir)
	switch {
	case errors.Is(err, os.ErrNotExist):
		d.warn("data directory", s.DataDir+" is not there yet", "the server makes it when it first starts")
		return
	case err != nil:
		d.fail("data directory", err, "give this user the right to read and write there")
		return
	case info.Mode().Perm()&0o077 != 0:
		d.warn("data directory", fmt.Sprintf("%s may be read by others (%s)", s.DataDir, info.Mode().Perm()), "chmod 700 "+s.DataDir)
	}
	if err := checkDisk(s.DataDir); err != nil {
		d.fail("disk", err, "")
		return
	}
	d.ok("data directory", s.DataDir)
}

func (d *doctor) engines(ctx context.Context, s Settings) {
	e, err := newEngines(s, serverOptions{EngineDir: s.DataDir + "/engines", Progress: func(string) {}})
	if err != nil {
		d.fail("engine", err, "")
		return
	}
	found := false
	for _, name := range []string{"terraform", "tofu"} {
		path, version, err := e.Find(ctx, name, "")
		if missing := (*terraform.NotInstalledError)(nil); errors.As(err, &missing) {
			continue
		}
		if found = true; err != nil {
			d.fail("engine", err, "")
			continue
		}
		d.ok("engine", fmt.Sprintf("%s %s at %s", name, version, path))
	}
	if !found {
		d.fail("engine", errors.New("neither terraform nor tofu is installed"), "install one of them and put it on the server's PATH")
	}
}

// serverAnswers asks a running server whether it can work.
func (d *doctor) serverAnswers(ctx context.Context, s Settings) {
	address := cmp.Or(s.URL, "http://"+s.Listen)
	limited, cancel := context.WithTimeout(ctx, doctorTimeout)
	defer cancel()
	req, err := http.NewRequestWithContext(limited, http.MethodGet, address+"/readyz", nil)
	if err != nil {
		d.fail("server", err, "")
		return
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		d.warn("server", "nobody answers at "+address, "start it with: holdfast serve; where it runs, url in the server file does not lead to it from here")
		return
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		d.fail("server", fmt.Errorf("%s/readyz answers %s", address, resp.Status), "its log says why it cannot work")
		return
	}
	d.ok("server", address+" is ready")
}

// store looks into the store and returns the repositories that are known there.
func (d *doctor) store(ctx context.Context, s Settings) map[vcs.Repository]time.Time {
	known := map[vcs.Repository]time.Time{}
	if _, err := os.Stat(s.StorePath()); err != nil && !s.Shared() {
		d.warn("store", "there is none at "+s.StorePath()+" yet", "the server makes it when it first starts")
		return known
	}
	if _, err := masterKey(s); s.Shared() && err != nil {
		d.fail("key", err, hintOf(err))
	}
	if s.Key == "" && !s.Shared() {
		if _, err := os.Stat(s.DataDir + "/key"); err != nil {
			d.fail("key", fmt.Errorf("the server's key is missing: %w", err), `restore the file "key" from the backup, or set HOLDFAST_KEY`)
		}
	}
	st, err := openBackend(ctx, s, slog.New(slog.DiscardHandler), nil)
	if err != nil {
		d.fail("store", err, hintOf(err))
		return known
	}
	defer st.Close()
	if key, kerr := masterKey(s); kerr == nil {
		// Only where there is one to compare with: doctor makes nothing.
		if _, err := st.Records.Get(ctx, "key/digests"); err == nil {
			if _, err := openDigestKey(ctx, st, s, key); err != nil {
				d.fail("key", err, hintOf(err))
			}
		}
	}
	records, err := st.Records.List(ctx, "repository/")
	if err != nil {
		d.fail("store", err, "")
		return known
	}
	for _, rec := range records {
		if r, err := vcs.ParseRepository(strings.TrimPrefix(rec.Key, "repository/")); err == nil {
			known[r] = seenTo(rec.Value)
		}
	}
	dead, err := st.Queue.List(ctx, queue.Filter{State: queue.StateDead, Limit: 100})
	switch {
	case err != nil:
		d.fail("store", err, "")
	case len(dead) > 0:
		d.warn("jobs", fmt.Sprintf("%s given up, the latest: %s: %s", count(len(dead), "job was", "jobs were"), dead[0].Key, oneLine(dead[0].LastError)), "")
	default:
		d.ok("store", s.storeName())
	}
	return known
}

// artifacts tries the bucket, if there is one.
func (d *doctor) artifacts(ctx context.Context, s Settings) {
	if s.S3.Bucket == "" {
		return
	}
	ctx, cancel := context.WithTimeout(ctx, doctorTimeout)
	defer cancel()
	bucket, err := aws.NewS3(ctx, s.S3)
	if err == nil {
		err = bucket.Check(ctx)
	}
	if err != nil {
		d.fail("artifacts", err, "see whether the server can reach the endpoint")
		return
	}
	d.ok("artifacts", "bucket "+s.S3.Bucket)
}

// repositories are those that the file names, and of those that a pattern names
// the ones that the server has seen.
func (d *doctor) repositories(s Settings, known map[vcs.Repository]time.Time) []vcs.Repository {
	var all []vcs.Repository
	for _, r := range s.Repositories {
		if r.Pattern == "" {
			all = append(all, r.Repository)
		}
	}
	for r := range known {
		if !slices.Contains(all, r) && slices.ContainsFunc(patternsOf(s), func(p patternOf) bool { return p.Matches(r) }) {
			all = append(all, r)
		}
	}
	slices.SortFunc(all, func(a, b vcs.Repository) int { return strings.Compare(a.String(), b.String()) })
	return all
}
