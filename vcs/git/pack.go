package git

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"

	"github.com/go-git/go-git/v5/plumbing"
	"github.com/go-git/go-git/v5/plumbing/format/packfile"
	"github.com/go-git/go-git/v5/plumbing/protocol/packp"
	"github.com/go-git/go-git/v5/plumbing/protocol/packp/capability"
	"github.com/go-git/go-git/v5/plumbing/protocol/packp/sideband"
	"github.com/go-git/go-git/v5/plumbing/transport"
	"github.com/go-git/go-git/v5/storage/filesystem"

	"holdfast/vcs"
)

// packLink speaks Git's pack protocol over HTTP or SSH. It stands above
// go-git's transports and below its Remote, which would keep the URL in a
// configuration file and look transports up in a global registry.
type packLink struct {
	remote vcs.Remote
	up     transport.UploadPackSession  // to fetch, or
	down   transport.ReceivePackSession // to push
	adv    *packp.AdvRefs
}

// open connects. SSH connects without a context, so that a dead host is left
// behind when ctx ends; the connection is closed when it comes up after all.
func (l *packLink) open(ctx context.Context, t transport.Transport, ep *transport.Endpoint, auth transport.AuthMethod, push bool) error {
	type opened struct {
		up   transport.UploadPackSession
		down transport.ReceivePackSession
		err  error
	}
	done := make(chan opened, 1)
	go func() {
		var o opened
		if push {
			o.down, o.err = t.NewReceivePackSession(ep, auth)
		} else {
			o.up, o.err = t.NewUploadPackSession(ep, auth)
		}
		done <- o
	}()
	select {
	case o := <-done:
		l.up, l.down = o.up, o.down
		return remoteError(ctx, l.remote, o.err)
	case <-ctx.Done():
		go func() {
			o := <-done
			if o.err == nil {
				_ = (&packLink{up: o.up, down: o.down}).close()
			}
		}()
		return context.Cause(ctx)
	}
}

func (l *packLink) close() error {
	if l.down != nil {
		return l.down.Close()
	}
	return l.up.Close()
}

func (l *packLink) advertised(ctx context.Context) (advertisement, error) {
	var err error
	if l.down != nil {
		l.adv, err = l.down.AdvertisedReferencesContext(ctx)
	} else {
		l.adv, err = l.up.AdvertisedReferencesContext(ctx)
	}
	if errors.Is(err, transport.ErrEmptyRemoteRepository) {
		return advertisement{}, nil
	}
	if err != nil {
		return advertisement{}, remoteError(ctx, l.remote, err)
	}
	a := advertisement{
		refs: make(map[plumbing.ReferenceName]plumbing.Hash, len(l.adv.References)),
		exact: l.adv.Capabilities.Supports(capability.AllowReachableSHA1InWant) ||
			l.adv.Capabilities.Supports(capability.AllowTipSHA1InWant),
	}
	for name, hash := range l.adv.References {
		ref := plumbing.ReferenceName(name)
		// A name that no Git accepts could lead out of the mirror.
		if !strings.HasPrefix(name, "refs/") || ref.Validate() != nil {
			continue
		}
		a.refs[ref] = hash
	}
	a.head = headBranch(l.adv, a.refs)
	return a, nil
}

// headBranch returns the branch that the remote's HEAD points to. Servers that
// do not say it are taken at HEAD's commit.
func headBranch(adv *packp.AdvRefs, refs map[plumbing.ReferenceName]plumbing.Hash) plumbing.ReferenceName {
	for _, s := range adv.Capabilities.Get(capability.SymRef) {
		from, to, _ := strings.Cut(s, ":")
		if name := plumbing.ReferenceName(to); from == "HEAD" && name.IsBranch() && name.Validate() == nil {
			return name
		}
	}
	if adv.Head == nil {
		return ""
	}
	return guessHead(*adv.Head, refs)
}

// guessHead returns the likeliest branch at a commit.
func guessHead(at plumbing.Hash, refs map[plumbing.ReferenceName]plumbing.Hash) plumbing.ReferenceName {
	best := plumbing.ReferenceName("")
	for name, hash := range refs {
		switch {
		case hash != at || !name.IsBranch():
		case name == "refs/heads/main" || name == "refs/heads/master":
			return name
		case best == "" || name < best:
			best = name
		}
	}
	return best
}

func (l *packLink) fetch(ctx context.Context, into *filesystem.Storage, wants, haves []plumbing.Hash) error {
	req := packp.NewUploadPackRequestFromCapabilities(l.adv.Capabilities)
	if l.adv.Capabilities.Supports(capability.NoProgress) {
		if err := req.Capabilities.Set(capability.NoProgress); err != nil {
			return fmt.Errorf("ask for no progress: %w", err)
		}
	}
	req.Wants, req.Haves = wants, haves
	res, err := l.up.UploadPack(ctx, req)
	if err != nil {
		return remoteError(ctx, l.remote, err)
	}
	defer res.Close()
	var pack io.Reader = res
	switch {
	case req.Capabilities.Supports(capability.Sideband64k):
		pack = sideband.NewDemuxer(sideband.Sideband64k, res)
	case req.Capabilities.Supports(capability.Sideband):
		pack = sideband.NewDemuxer(sideband.Sideband, res)
	}
	if err := packfile.WritePackfileToObjectStorage(into, pack); err != nil {
		return fmt.Errorf("receive pack: %w", remoteError(ctx, l.remote, err))
	}
	return nil
}

func (l *packLink) push(ctx context.Context, from *filesystem.Storage, cmd packp.Command, objects []plumbing.Hash) error {
	req := packp.NewReferenceUpdateRequestFromCapabilities(l.adv.Capabilities)
	req.Commands = []*packp.Command{&cmd}
	var done func() error
	if cmd.New.IsZero() { // no pack comes with it
		if err := req.Capabilities.Set(capability.DeleteRefs); err != nil {
			return fmt.Errorf("ask to delete a ref: %w", err)
		}
	} else {
		pr, pw := io.Pipe()
		req.Packfile, done = pr, pr.Close
		go func() {
			_, err := packfile.NewEncoder(pw, from, !l.adv.Capabilities.Supports(capability.OFSDelta)).Encode(objects, 0)
			_ = pw.CloseWithError(err)
		}()
	}
	report, err := l.down.ReceivePack(ctx, req)
	if done != nil {
		_ = done() // frees the encoder where the other side did not read to the end
	}
	if report != nil && report.Error() != nil {
		// The server took the pack and refused the ref: somebody was faster, or
		// a rule forbids it. One more look at the ref tells which.
		return fmt.Errorf("%w: %s", errMoved, scrub(report.Error().Error(), l.remote))
	}
	return remoteError(ctx, l.remote, err)
}

// boundedErrors cuts the bodies of refusals, which go-git reads to their end.
type boundedErrors struct{ next http.RoundTripper }

// RoundTrip implements http.RoundTripper.
func (b boundedErrors) RoundTrip(req *http.Request) (*http.Response, error) {
	res, err := b.next.RoundTrip(req)
	if err == nil && res.StatusCode >= 300 {
		res.Body = struct {
			io.Reader
			io.Closer
		}{io.LimitReader(res.Body, 4<<10), res.Body}
	}
	return res, err
}
