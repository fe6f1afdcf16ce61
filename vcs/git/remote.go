package git

import (
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"time"

	"github.com/go-git/go-git/v5/plumbing"
	"github.com/go-git/go-git/v5/plumbing/protocol/packp"
	"github.com/go-git/go-git/v5/plumbing/transport"
	githttp "github.com/go-git/go-git/v5/plumbing/transport/http"
	gitssh "github.com/go-git/go-git/v5/plumbing/transport/ssh"
	"github.com/go-git/go-git/v5/storage/filesystem"
	"golang.org/x/crypto/ssh/knownhosts"

	"holdfast/vcs"
)

// link is one conversation with a remote: first advertised, then at most one
// of fetch and push. Not safe for concurrent use.
type link interface {
	// advertised returns the remote's refs. An empty repository has none, and
	// that is no error.
	advertised(ctx context.Context) (advertisement, error)
	// fetch writes wants, and everything that they lead to and that into does
	// not have, to into. Haves are commits that into has, closed over their
	// history. Either all is written or nothing that counts.
	fetch(ctx context.Context, into *filesystem.Storage, wants, haves []plumbing.Hash) error
	// push sends objects out of from, then moves ref, or removes it where cmd.New
	// is zero. Returns errMoved where ref is not cmd.Old at the remote any more.
	push(ctx context.Context, from *filesystem.Storage, cmd packp.Command, objects []plumbing.Hash) error
	close() error
}

// advertisement is what a remote says it has.
type advertisement struct {
	refs map[plumbing.ReferenceName]plumbing.Hash
	head plumbing.ReferenceName // the branch that HEAD points to; empty where there is none
	// exact is set where any commit may be asked for by its name.
	exact bool
}

// errMoved: a push lost a race. Fetch, and try again.
var errMoved = errors.New("the ref has moved meanwhile")

// location is a validated remote URL.
type location struct {
	scheme string // https, http, ssh or file
	path   string // for file
	url    string // for the others, without a password
}

// scpLike is user@host:path, the short form of an ssh URL.
var scpLike = regexp.MustCompile(`^(?:[A-Za-z0-9._-]+@)?[A-Za-z0-9._-]+:[^:]`)

// locate reads a remote URL. The error never repeats it: it may hold a secret.
func locate(raw string) (location, error) {
	if filepath.IsAbs(raw) {
		return location{scheme: "file", path: filepath.Clean(raw)}, nil
	}
	if strings.ContainsFunc(raw, func(r rune) bool { return r < ' ' || r == 0x7f }) || strings.HasPrefix(raw, "-") {
		return location{}, badURL("has characters that no URL has")
	}
	if !strings.Contains(raw, "://") {
		if scpLike.MatchString(raw) {
			return location{scheme: "ssh", url: raw}, nil
		}
		return location{}, badURL("is neither a URL nor an absolute path")
	}
	u, err := url.Parse(raw)
	if err != nil {
		return location{}, badURL("is not a URL")
	}
	switch u.Scheme {
	case "file":
		if (u.Host != "" && u.Host != "localhost") || !filepath.IsAbs(u.Path) {
			return location{}, badURL("is a file URL without an absolute path on this machine")
		}
		return location{scheme: "file", path: filepath.Clean(u.Path)}, nil
	case "http", "https":
		if u.User != nil {
			return location{}, badURL("has credentials in it")
		}
	case "ssh":
		if _, has := u.User.Password(); has {
			return location{}, badURL("has a password in it")
		}
		if strings.HasPrefix(u.Hostname(), "-") || strings.HasPrefix(u.User.Username(), "-") {
			return location{}, badURL("has a host or user that starts with a dash")
		}
	default:
		return location{}, badURL(fmt.Sprintf("has the scheme %q", u.Scheme))
	}
	if u.Host == "" {
		return location{}, badURL("has no host")
	}
	return location{scheme: u.Scheme, url: raw}, nil
}

func badURL(what string) error {
	return &HintError{
		Err:  errors.New("the remote URL " + what),
		hint: "use https://HOST/PATH, ssh://USER@HOST/PATH, file:///PATH or an absolute path, and give credentials beside the URL, not in it",
	}
}

// dial begins a conversation with a remote, to push or else to fetch.
func (m *Mirrors) dial(ctx context.Context, remote vcs.Remote, push bool) (link, error) {
	loc, err := locate(remote.URL)
	if err != nil {
		return nil, err
	}
	if loc.scheme == "file" {
		return openLocal(loc.path)
	}
	ep, err := transport.NewEndpoint(loc.url)
	if err != nil {
		return nil, badURL("is not a URL")
	}
	l := &packLink{remote: remote}
	var client transport.Transport
	var auth transport.AuthMethod
	if loc.scheme == "ssh" {
		client = gitssh.NewClient(nil)
		if auth, err = sshAuth(ep, remote); err != nil {
			return nil, err
		}
	} else {
		client = githttp.NewClientWithOptions(m.cfg.HTTPClient, nil)
		if remote.Username != "" || remote.Password != "" {
			auth = &githttp.BasicAuth{Username: remote.Username, Password: remote.Password}
		}
	}
	if err := l.open(ctx, client, ep, auth, push); err != nil {
		return nil, err
	}
	return l, nil
}

// sshAuth takes the key file, else the agent. Host keys are always checked
// against known_hosts (SSH_KNOWN_HOSTS, ~/.ssh/known_hosts or
// /etc/ssh/ssh_known_hosts): go-git does so where no callback is set.
func sshAuth(ep *transport.Endpoint, remote vcs.Remote) (transport.AuthMethod, error) {
	user := ep.User
	if user == "" {
		user = remote.Username
	}
	if user == "" {
		user = gitssh.DefaultUsername
	}
	if remote.SSHKeyFile == "" {
		auth, err := gitssh.NewSSHAgentAuth(user)
		if err != nil {
			return nil, &HintError{
				Err:  fmt.Errorf("ask the SSH agent: %w", err),
				hint: "set the repository's ssh key file, or start an agent and set SSH_AUTH_SOCK",
			}
		}
		return auth, nil
	}
	auth, err := gitssh.NewPublicKeysFromFile(user, remote.SSHKeyFile, "")
	if err != nil {
		return nil, &HintError{
			Err:  fmt.Errorf("read SSH key file: %w", err),
			hint: "it must be a private key without a passphrase that this process may read",
		}
	}
	return auth, nil
}

func defaultHTTPClient() *http.Client {
	t := http.DefaultTransport.(*http.Transport).Clone()
	// A server may think long before it answers with a large pack, but not for
	// ever.
	t.ResponseHeaderTimeout = 5 * time.Minute
	return &http.Client{Transport: boundedErrors{t}}
}

// remoteError turns what a transport says into vcs's errors, without the
// credentials should the other side have repeated them.
func remoteError(ctx context.Context, remote vcs.Remote, err error) error {
	if err == nil {
		return nil
	}
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	var disk *os.PathError
	if errors.As(err, &disk) {
		return err // this machine's: a full disk has to be told apart
	}
	// UnexpectedError does not unwrap.
	var unexpected *plumbing.UnexpectedError
	if errors.As(err, &unexpected) {
		err = unexpected.Err
	}
	var status *githttp.Err
	var key *knownhosts.KeyError
	switch {
	case errors.Is(err, transport.ErrAuthenticationRequired), errors.Is(err, transport.ErrAuthorizationFailed),
		strings.Contains(err.Error(), "ssh: unable to authenticate"):
		return &HintError{Err: fmt.Errorf("%w: the remote refuses these credentials", vcs.ErrDenied),
			hint: "check the user name and token, or the SSH key, and that they may read the repository"}
	case errors.Is(err, transport.ErrRepositoryNotFound):
		return fmt.Errorf("%w: the remote has no such repository, or these credentials may not see it", vcs.ErrNotFound)
	case errors.As(err, &status) && status.Response != nil && status.Response.StatusCode == http.StatusTooManyRequests:
		return &vcs.RateLimitError{RetryAt: retryAfter(status.Response.Header.Get("Retry-After"))}
	case errors.As(err, &key):
		return &HintError{Err: errors.New(scrub(err.Error(), remote)),
			hint: "add the host's key to known_hosts, after checking it: ssh-keyscan HOST"}
	}
	return errors.New(scrub(err.Error(), remote))
}

// retryAfter reads an HTTP date. A number of seconds would need the time now:
// the caller's own backoff does for that.
func retryAfter(header string) time.Time {
	at, err := http.ParseTime(header)
	if err != nil {
		return time.Time{}
	}
	return at
}

// scrub removes the password from a text that the other side had a say in.
func scrub(text string, remote vcs.Remote) string {
	const mask = "***"
	// One or two characters occur everywhere by chance.
	if len(remote.Password) > 2 {
		for _, form := range []string{
			remote.Password,
			url.QueryEscape(remote.Password),
			url.PathEscape(remote.Password),
			base64.StdEncoding.EncodeToString([]byte(remote.Username + ":" + remote.Password)),
		} {
			text = strings.ReplaceAll(text, form, mask)
		}
	}
	// What is printed to terminals and comments has no control characters.
	text = strings.Map(func(r rune) rune {
		if r < ' ' || r == 0x7f {
			return ' '
		}
		return r
	}, text)
	if len(text) > 1000 {
		text = strings.ToValidUTF8(text[:1000], "") + "…"
	}
	return text
}
