package main

import (
	"bufio"
	"cmp"
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"net/url"
	"os"
	"slices"
	"strings"

	"github.com/spf13/cobra"
	"golang.org/x/term"

	"holdfast/vcs"
	"holdfast/workspaces"
)

// tokenVariables are where setup finds a host's token; secrets have no flags.
var tokenVariables = map[string]string{
	"github": "GITHUB_TOKEN", "gitlab": "GITLAB_TOKEN", "gitea": "GITEA_TOKEN", "bitbucket": "BITBUCKET_TOKEN", "azuredevops": "AZURE_DEVOPS_TOKEN",
}

// publicHosts are the addresses that most people mean.
var publicHosts = map[string]string{
	"github": "https://github.com", "gitlab": "https://gitlab.com", "bitbucket": "https://bitbucket.org", "azuredevops": "https://dev.azure.com",
}

// setupOptions are the flags of setup.
type setupOptions struct {
	address      string // the host's
	server       string // Holdfast's own, where webhooks go
	pull         bool
	repositories []string
	username     string
	caFile       string
	write        string
	pullRequest  bool
	app          bool
	organisation string
}

func newSetup() *cobra.Command {
	var o setupOptions
	cmd := &cobra.Command{
		Use:   "setup TYPE [OWNER/NAME]...",
		Short: "Set a host up: token, webhooks, server file, first pull request",
		Long: `Set up a host of TYPE (github, gitlab, gitea, bitbucket, azuredevops) for Holdfast:
check what the token may do, create or repair the webhooks, print the blocks for
the server file, and open a first pull request with a holdfast.hcl made from what
is in the repository. OWNER/* stands for all repositories of an owner. It may be
run again at any time, and changes only what is not as it should be.

The token comes from GITHUB_TOKEN, GITLAB_TOKEN, GITEA_TOKEN, BITBUCKET_TOKEN or
AZURE_DEVOPS_TOKEN, or is asked for; secrets have no flags. The webhooks' secret
comes from HOLDFAST_WEBHOOK_SECRET, or is made.

With --app a GitHub App is made instead of using a token: a page on this machine
leads through it.`,
		Example: "  GITEA_TOKEN=… holdfast setup gitea --host https://git.example.com --url https://holdfast.example.com platform/network\n" +
			"  holdfast setup gitlab --pull 'platform/*'\n  holdfast setup github --app --organization acme --url https://holdfast.example.com 'acme/*'",
		Args: takes(1, 100),
	}
	cmd.Flags().StringVar(&o.address, "host", "", "the host's `address` (default the public one)")
	cmd.Flags().StringVar(&o.server, "url", "", "this server's `address`, which webhooks are sent to")
	cmd.Flags().BoolVar(&o.pull, "pull", false, "no webhooks: the host is asked")
	cmd.Flags().StringVar(&o.username, "username", "", "whose API token it is (bitbucket)")
	cmd.Flags().StringVar(&o.caFile, "ca-file", "", "certificates that the host's own is checked with (gitlab)")
	cmd.Flags().StringVar(&o.write, "write", "", "add the blocks to this server `file` instead of printing them")
	cmd.Flags().BoolVar(&o.pullRequest, "pull-request", false, "open a pull request with a holdfast.hcl in each repository that has none")
	cmd.Flags().BoolVar(&o.app, "app", false, "make a GitHub App (github)")
	cmd.Flags().StringVar(&o.organisation, "organization", "", "the organization that the App belongs to (github)")
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		kind := args[0]
		if _, ok := forges[kind]; !ok {
			return hinted{fmt.Errorf("%q is no type of host", kind), cmp.Or(workspaces.Nearest(kind, hostTypes[:len(hostTypes)-1]), "one of github, gitlab, gitea, bitbucket, azuredevops")}
		}
		o.repositories = args[1:]
		s := &setup{cmd: cmd, o: o, in: bufio.NewReader(cmd.InOrStdin())}
		return s.run(cmd.Context(), kind)
	}
	return cmd
}

// setup is one set-up under way.
type setup struct {
	cmd  *cobra.Command
	o    setupOptions
	in   *bufio.Reader
	h    HostSettings
	host vcs.Host
	// wrong counts what a person has to do.
	wrong int
}

func (s *setup) say(mark, format string, args ...any) {
	fmt.Fprintf(s.cmd.ErrOrStderr(), "%-4s  %s\n", mark, printable(fmt.Sprintf(format, args...)))
}

// todo says what is wrong and what to do about it.
func (s *setup) todo(err error, hint string) {
	own := hintOf(err)
	s.wrong++
	s.say("todo", "%s", withoutHint(err, own))
	if hint = cmp.Or(own, hint); hint != "" {
		s.say("", "-> %s", hint)
	}
}

func (s *setup) run(ctx context.Context, kind string) error {
	if err := s.describe(kind); err != nil {
		return err
	}
	if s.o.app {
		return s.makeApp(ctx)
	}
	var err error
	if s.h.Token, err = s.token(kind); err != nil {
		return err
	}
	if s.host, err = openForge(s.h); err != nil {
		return err
	}
	if err := s.reach(ctx); err != nil {
		return err
	}
	repos, err := s.chosen(ctx)
	if err != nil {
		return err
	}
	for _, r := range repos {
		s.prepare(ctx, r)
	}
	if err := s.blocks(); err != nil {
		return err
	}
	if s.wrong > 0 {
		s.say("", "%s left to do; run this again afterwards, or holdfast doctor", count(s.wrong, "thing is", "things are"))
		return exitError(1)
	}
	s.say("ok", "all is set up: start the server with holdfast serve")
	return nil
}

// describe finds out which host it is and where Holdfast is.
func (s *setup) describe(kind string) error {
	address := s.o.address
	if address == "" {
		address = publicHosts[kind]
	}
	var err error
	if address == "" {
		if address, err = s.ask("The host's address", "the host's address", "--host", "https://git.example.com"); err != nil {
			return err
		}
	}
	if !strings.Contains(address, "://") {
		address = "https://" + address
	}
	if err := checkURL(address); err != nil {
		return hinted{fmt.Errorf("--host %w", err), hintOf(err)}
	}
	address = strings.TrimRight(address, "/")
	u, _ := url.Parse(address) // checkURL has parsed it
	s.h = HostSettings{Type: kind, Name: strings.ToLower(u.Host), URL: address, Pull: s.o.pull, Username: s.o.username, CAFile: s.o.caFile}
	if s.o.app && kind != "github" {
		return hinted{fmt.Errorf("there are no Apps on %s", kind), "leave --app out"}
	}
	if s.o.server == "" && !s.o.pull {
		if s.o.server, err = s.ask("This server's address as the host reaches it (nothing: it cannot, and is to ask the host)", "this server's address", "--url, or --pull to go without webhooks", ""); err != nil {
			return err
		}
		s.h.Pull = s.o.server == ""
	}
	if s.o.server != "" {
		if err := checkURL(s.o.server); err != nil {
			return hinted{fmt.Errorf("--url %w", err), hintOf(err)}
		}
		s.o.server = strings.TrimRight(s.o.server, "/")
	}
	if !s.h.Pull {
		if s.h.WebhookSecret = os.Getenv("HOLDFAST_WEBHOOK_SECRET"); s.h.WebhookSecret == "" {
			secret := make([]byte, 32)
			_, _ = rand.Read(secret) // never fails
			s.h.WebhookSecret = hex.EncodeToString(secret)
		}
	}
	return nil
}

// ask asks a person; without a terminal it says what is missing, and which flag
// has to say it.
func (s *setup) ask(question, what, flag, example string) (string, error) {
	if f, ok := s.cmd.InOrStdin().(*os.File); ok && !term.IsTerminal(int(f.Fd())) {
		return "", hinted{fmt.Errorf("it is not said: %s", what), "give " + flag}
	}
	if example != "" {
		question += ", such as " + example
	}
	fmt.Fprintf(s.cmd.ErrOrStderr(), "%s: ", question)
	line, err := s.in.ReadString('\n')
	if err != nil && !errors.Is(err, io.EOF) {
		return "", err
	}
	return strings.TrimSpace(line), nil
}

// token finds the host's token.
func (s *setup) token(kind string) (string, error) {
	if token := os.Getenv(tokenVariables[kind]); token != "" {
		return token, nil
	}
	f, ok := s.cmd.InOrStdin().(*os.File)
	if !ok || !term.IsTerminal(int(f.Fd())) {
		return "", hinted{fmt.Errorf("%s is not set", tokenVariables[kind]), "set it in the environment to a token of the host; docs/hosts.md says what it needs to be allowed"}
	}
	fmt.Fprintf(s.cmd.ErrOrStderr(), "Token for %s (it is not shown): ", s.h.Name)
	token, err := term.ReadPassword(int(f.Fd()))
	fmt.Fprintln(s.cmd.ErrOrStderr())
	return strings.TrimSpace(string(token)), err
}

// reach asks the host whose token it is.
func (s *setup) reach(ctx context.Context) error {
	c, ok := s.host.(vcs.Comments)
	if !ok {
		return nil
	}
	who, err := c.Self(ctx)
	if err != nil {
		return hinted{fmt.Errorf("ask %s: %w", s.h.URL, err), cmp.Or(hintOf(err), "look whether this machine reaches it, and whether --host is right")}
	}
	s.say("ok", "%s answers, and knows the token as %s's", s.h.URL, who)
	return nil
}

// chosen returns the repositories that are named, those of a pattern included.
func (s *setup) chosen(ctx context.Context) ([]vcs.Repository, error) {
	if len(s.o.repositories) == 0 {
		answer, err := s.ask("Repositories", "which repositories", "OWNER/NAME, or OWNER/*", "platform/network or platform/*")
		if err != nil {
			return nil, err
		}
		s.o.repositories = strings.Fields(answer)
	}
	var all []vcs.Repository
	for _, name := range s.o.repositories {
		r, err := vcs.ParseRepository(s.h.Name + "/" + name)
		if err != nil {
			return nil, hinted{fmt.Errorf("%q is not OWNER/NAME", name), "write it like platform/network, or platform/*"}
		}
		if !strings.ContainsAny(name, "*?[{") {
			all = append(all, r)
			continue
		}
		lister, ok := s.host.(vcs.Lister)
		if !ok {
			return nil, fmt.Errorf("%s cannot list its repositories: name each of them", s.h.Name)
		}
		p := Settings{}.pattern(RepositorySettings{Pattern: s.h.Name + "/" + name})
		found, err := lister.Repositories(ctx, p.Owner())
		if err != nil {
			return nil, err
		}
		n := len(all)
		for _, r := range found {
			if p.Matches(r) {
				all = append(all, r)
			}
		}
		s.say("ok", "%s names %s", name, count(len(all)-n, "repository", "repositories"))
	}
	return all, nil
}

// prepare checks one repository, sets its webhook and opens its first pull
// request.
func (s *setup) prepare(ctx context.Context, r vcs.Repository) {
	name := r.Owner + "/" + r.Name
	remote, err := s.host.Remote(ctx, r)
	if err != nil {
		s.todo(err, "check the name, and that the token may see it")
		return
	}
	s.say("ok", "%s is there; its default branch is %s", name, remote.DefaultBranch)
	if g, ok := s.host.(vcs.Grants); ok {
		grants, err := g.Grants(ctx, r)
		if err != nil {
			s.todo(err, "")
		}
		for _, grant := range grants {
			hint := "it is needed for " + grant.For
			if grant.Page != "" {
				hint += "; grant it at " + grant.Page
			}
			switch {
			case grant.Granted:
			case grant.Optional:
				s.say("note", "in %s the token lacks %s: %s", name, grant.Permission, hint)
			default:
				s.todo(fmt.Errorf("in %s the token lacks %s", name, grant.Permission), hint)
			}
		}
	}
	s.hook(ctx, r)
	if s.o.pullRequest {
		if err := s.propose(ctx, r, remote); err != nil {
			s.todo(err, "")
		}
	}
}

func (s *setup) hook(ctx context.Context, r vcs.Repository) {
	if s.h.Pull {
		return
	}
	address := Settings{URL: s.o.server}.hookAddress(s.h)
	byHand := "create it by hand: address " + address + ", content type JSON, the secret below, and the events of pull requests, comments, reviews and pushes"
	hooks, ok := s.host.(vcs.Hooks)
	if !ok {
		s.todo(fmt.Errorf("webhooks of %s cannot be set up by an API", s.h.Name), byHand)
		return
	}
	did, err := hooks.SetHook(ctx, r, address)
	switch {
	case err != nil:
		s.todo(err, byHand)
	case did == "":
		s.say("ok", "the webhook to %s is as it should be", address)
	default:
		s.say("ok", "%s to %s", did, address)
	}
}

// blocks prints what belongs into the server file, or adds what it does not have.
func (s *setup) blocks() error {
	text := s.hostBlock()
	for _, name := range s.o.repositories {
		text += fmt.Sprintf("\nrepository %q {}\n", s.h.Name+"/"+name)
	}
	if s.o.write == "" {
		_, err := io.WriteString(s.cmd.OutOrStdout(), text)
		s.secretSaid()
		return err
	}
	src, err := os.ReadFile(s.o.write)
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	var missing string
	for _, block := range strings.SplitAfter(text, "\n}\n") {
		for _, one := range splitBlocks(block) {
			header, _, _ := strings.Cut(strings.TrimSpace(one), " {")
			if header != "" && !strings.Contains(string(src), header) {
				missing += "\n" + strings.TrimSpace(one) + "\n"
			}
		}
	}
	if missing == "" {
		s.say("ok", "%s has all of it already", s.o.write)
		return nil
	}
	if len(src) == 0 {
		missing = strings.TrimPrefix(missing, "\n")
		if s.o.server != "" {
			missing = fmt.Sprintf("url = %q\n\n", s.o.server) + missing
		}
	}
	if err := os.WriteFile(s.o.write, append(src, missing...), 0o600); err != nil {
		return err
	}
	s.say("ok", "added to %s what it did not have", s.o.write)
	s.secretSaid()
	return nil
}

// splitBlocks takes apart what has several one-line blocks.
func splitBlocks(text string) []string {
	parts := strings.SplitAfter(text, "{}\n")
	return slices.DeleteFunc(parts, func(p string) bool { return strings.TrimSpace(p) == "" })
}

func (s *setup) hostBlock() string {
	lines := []string{fmt.Sprintf("  url   = %q", s.h.URL)}
	if s.h.AppID != "" {
		lines = append(lines, fmt.Sprintf("  app_id = %q", s.h.AppID), fmt.Sprintf("  private_key = file(%q)", s.h.PrivateKey))
	} else {
		lines = append(lines, fmt.Sprintf("  token = env(%q)", tokenVariables[s.h.Type]))
	}
	if s.h.Username != "" {
		lines = append(lines, fmt.Sprintf("  username = %q", s.h.Username))
	}
	if s.h.CAFile != "" {
		lines = append(lines, fmt.Sprintf("  ca_file = %q", s.h.CAFile))
	}
	if s.h.Pull {
		lines = append(lines, `  mode = "pull"`)
	} else {
		lines = append(lines, `  webhook_secret = env("HOLDFAST_WEBHOOK_SECRET")`)
	}
	return fmt.Sprintf("host %q %q {\n%s\n}\n", s.h.Type, s.h.Name, strings.Join(lines, "\n"))
}

// secretSaid tells the secret that was made, once: nothing else keeps it.
func (s *setup) secretSaid() {
	if s.h.WebhookSecret != "" && os.Getenv("HOLDFAST_WEBHOOK_SECRET") == "" {
		s.say("note", "set this in the server's environment, and nowhere else: HOLDFAST_WEBHOOK_SECRET=%s", s.h.WebhookSecret)
	}
}
