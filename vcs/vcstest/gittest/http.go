package gittest

import (
	"compress/gzip"
	"fmt"
	"io"
	"net/http"
	"path"
	"strings"
	"sync"

	"github.com/go-git/go-git/v5"
	"github.com/go-git/go-git/v5/plumbing"
	"github.com/go-git/go-git/v5/plumbing/format/pktline"
	"github.com/go-git/go-git/v5/plumbing/protocol/packp"
	"github.com/go-git/go-git/v5/plumbing/protocol/packp/capability"
)

// The services of the smart-HTTP protocol (gitprotocol-http(5)).
const (
	uploadPack  = "git-upload-pack"
	receivePack = "git-receive-pack"
)

// Update is a ref that a push moved. Old or New is empty where the ref was
// made or removed.
type Update struct {
	Ref, Old, New string
}

// Handler serves repositories by Git's smart HTTP protocol, version 0: what
// every client can fall back to. It has no shallow fetches and no partial
// clones.
type Handler struct {
	// Repo returns the repository of a URL path without its leading slash,
	// such as "boss/network.git"; nil answers 404.
	Repo func(path string) *Repo
	// Auth decides about a request; user and password are those of basic
	// authentication, empty where there is none. Write is a push. Defaults to
	// everything allowed.
	Auth func(path, user, password string, write bool) bool
	// OnPush is told what a push moved, before the client has its answer.
	OnPush func(path, user string, updates []Update)
	// MaxRequest bounds a request's body after decompression, in bytes.
	// Defaults to 256 MiB.
	MaxRequest int64

	pushes sync.Mutex
}

// Serve returns a handler for one repository under any path, open to all.
func Serve(r *Repo) *Handler {
	return &Handler{Repo: func(string) *Repo { return r }}
}

// ServeHTTP answers the three requests of the protocol.
func (h *Handler) ServeHTTP(w http.ResponseWriter, req *http.Request) {
	dir, service, ok := route(req)
	if !ok {
		http.NotFound(w, req)
		return
	}
	user, password, _ := req.BasicAuth()
	if h.Auth != nil && !h.Auth(dir, user, password, service == receivePack) {
		w.Header().Set("WWW-Authenticate", `Basic realm="git"`)
		http.Error(w, "authentication required", http.StatusUnauthorized)
		return
	}
	repo := h.Repo(dir)
	if repo == nil {
		http.NotFound(w, req)
		return
	}
	g, err := repo.open()
	if err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	w.Header().Set("Cache-Control", "no-cache")
	if req.Method == http.MethodGet {
		h.advertise(w, g, service)
		return
	}
	body, err := h.body(req)
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	w.Header().Set("Content-Type", "application/x-"+service+"-result")
	if service == uploadPack {
		err = serveUploadPack(w, g, body)
	} else {
		err = h.receive(w, repo, body, func(u []Update) {
			if h.OnPush != nil {
				h.OnPush(dir, user, u)
			}
		})
	}
	if err != nil {
		// The status is out already: the protocol's own error line is what a
		// client shows to people.
		_ = pktline.NewEncoder(w).Encodef("ERR %s\n", err)
	}
}

// route splits DIR/info/refs?service=S, DIR/git-upload-pack and
// DIR/git-receive-pack.
func route(req *http.Request) (dir, service string, ok bool) {
	p := strings.TrimPrefix(path.Clean(req.URL.Path), "/")
	switch {
	case req.Method == http.MethodGet && strings.HasSuffix(p, "/info/refs"):
		dir, service = strings.TrimSuffix(p, "/info/refs"), req.URL.Query().Get("service")
	case req.Method == http.MethodPost:
		dir, service = path.Split(p)
		dir = strings.TrimSuffix(dir, "/")
	}
	return dir, service, service == uploadPack || service == receivePack
}

// IsGit reports whether a request is one that a Handler answers.
func IsGit(req *http.Request) bool {
	_, _, ok := route(req)
	return ok
}

func (h *Handler) body(req *http.Request) (io.Reader, error) {
	var r io.Reader = req.Body
	if req.Header.Get("Content-Encoding") == "gzip" {
		z, err := gzip.NewReader(req.Body)
		if err != nil {
			return nil, fmt.Errorf("decompress request: %w", err)
		}
		r = z
	}
	limit := h.MaxRequest
	if limit == 0 {
		limit = 256 << 20
	}
	return io.LimitReader(r, limit), nil
}

func (h *Handler) advertise(w http.ResponseWriter, g *git.Repository, service string) {
	ar, err := references(g, service)
	if err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	w.Header().Set("Content-Type", "application/x-"+service+"-advertisement")
	ar.Prefix = [][]byte{[]byte("# service=" + service), pktline.Flush}
	_ = ar.Encode(w) // a client that went away
}

func references(g *git.Repository, service string) (*packp.AdvRefs, error) {
	ar := packp.NewAdvRefs()
	caps := []capability.Capability{capability.OFSDelta}
	if service == uploadPack {
		caps = append(caps, capability.MultiACKDetailed, capability.Sideband64k, capability.NoProgress,
			capability.AllowTipSHA1InWant, capability.AllowReachableSHA1InWant)
	} else {
		// Packs are stored as they come, so they must be complete: "no-thin".
		caps = append(caps, capability.ReportStatus, capability.DeleteRefs, "no-thin")
	}
	for _, c := range caps {
		if err := ar.Capabilities.Set(c); err != nil {
			return nil, fmt.Errorf("advertise %s: %w", c, err)
		}
	}
	if err := ar.Capabilities.Set(capability.Agent, "gittest"); err != nil {
		return nil, fmt.Errorf("advertise agent: %w", err)
	}
	iter, err := g.Storer.IterReferences()
	if err != nil {
		return nil, fmt.Errorf("list refs: %w", err)
	}
	err = iter.ForEach(func(ref *plumbing.Reference) error {
		if ref.Type() == plumbing.HashReference {
			ar.References[ref.Name().String()] = ref.Hash()
		}
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("list refs: %w", err)
	}
	return ar, advertiseHead(g, ar)
}

func advertiseHead(g *git.Repository, ar *packp.AdvRefs) error {
	ref, err := g.Storer.Reference(plumbing.HEAD)
	if err != nil || ref.Type() != plumbing.SymbolicReference {
		return nil // detached or absent: nothing that a client needs
	}
	target, err := g.Storer.Reference(ref.Target())
	if err != nil {
		return nil // unborn
	}
	if err := ar.AddReference(ref); err != nil {
		return fmt.Errorf("advertise HEAD: %w", err)
	}
	hash := target.Hash()
	ar.Head = &hash
	return nil
}
