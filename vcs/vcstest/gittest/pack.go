package gittest

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"strings"

	"github.com/go-git/go-git/v5"
	"github.com/go-git/go-git/v5/plumbing"
	"github.com/go-git/go-git/v5/plumbing/format/packfile"
	"github.com/go-git/go-git/v5/plumbing/format/pktline"
	"github.com/go-git/go-git/v5/plumbing/protocol/packp"
	"github.com/go-git/go-git/v5/plumbing/protocol/packp/sideband"
	"github.com/go-git/go-git/v5/plumbing/revlist"
)

// fetchRequest is what a client sends to git-upload-pack.
type fetchRequest struct {
	wants    []plumbing.Hash
	haves    []plumbing.Hash // only those that the server has too
	multiAck bool            // multi_ack_detailed
	sideband bool
	done     bool
}

// readFetchRequest reads wants, a flush, haves (in rounds, with a flush after
// each) and "done".
func readFetchRequest(g *git.Repository, r io.Reader) (fetchRequest, error) {
	var req fetchRequest
	s := pktline.NewScanner(r)
	for s.Scan() {
		word, rest, _ := strings.Cut(strings.TrimSuffix(string(s.Bytes()), "\n"), " ")
		switch word {
		case "":
		case "want":
			id, caps, _ := strings.Cut(rest, " ")
			h, err := parseID(id)
			if err != nil {
				return req, err
			}
			if g.Storer.HasEncodedObject(h) != nil {
				return req, fmt.Errorf("upload-pack: not our ref %s", h)
			}
			req.wants = append(req.wants, h)
			if caps != "" {
				caps = " " + caps + " "
				req.sideband = strings.Contains(caps, " side-band-64k ")
				req.multiAck = strings.Contains(caps, " multi_ack_detailed ")
			}
		case "have":
			h, err := parseID(rest)
			if err != nil {
				return req, err
			}
			if g.Storer.HasEncodedObject(h) == nil {
				req.haves = append(req.haves, h)
			}
		case "done":
			req.done = true
			return req, nil
		default:
			return req, fmt.Errorf("upload-pack: %q is not supported", word)
		}
	}
	if err := s.Err(); err != nil {
		return req, fmt.Errorf("read request: %w", err)
	}
	return req, nil
}

func parseID(s string) (plumbing.Hash, error) {
	if !plumbing.IsHash(s) {
		return plumbing.ZeroHash, fmt.Errorf("upload-pack: malformed object id %q", s)
	}
	return plumbing.NewHash(s), nil
}

// serveUploadPack answers one round of the negotiation; only "done" gets the
// pack (gitprotocol-pack(5)). git asks in rounds, which over HTTP works with
// multi_ack_detailed alone; go-git has one round and no multi_ack.
func serveUploadPack(w io.Writer, g *git.Repository, body io.Reader) error {
	req, err := readFetchRequest(g, body)
	if err != nil {
		return err
	}
	if len(req.wants) == 0 {
		return nil
	}
	if err := req.acknowledge(w); err != nil || !req.done {
		return err
	}
	return req.sendPack(w, g)
}

func (req fetchRequest) acknowledge(w io.Writer) error {
	e := pktline.NewEncoder(w)
	if req.multiAck {
		for _, h := range req.haves {
			if err := e.Encodef("ACK %s common\n", h); err != nil {
				return err
			}
		}
	}
	if len(req.haves) > 0 && (req.done || !req.multiAck) {
		return e.Encodef("ACK %s\n", req.haves[len(req.haves)-1])
	}
	return e.EncodeString("NAK\n")
}

func (req fetchRequest) sendPack(w io.Writer, g *git.Repository) error {
	have, err := revlist.Objects(g.Storer, req.haves, nil)
	if err != nil {
		return fmt.Errorf("walk what the client has: %w", err)
	}
	send, err := revlist.Objects(g.Storer, req.wants, have)
	if err != nil {
		return fmt.Errorf("walk what the client wants: %w", err)
	}
	out := w
	if req.sideband {
		out = sideband.NewMuxer(sideband.Sideband64k, w)
	}
	// No delta search (window 0): the repositories are small, and time counts
	// more than bytes.
	if _, err := packfile.NewEncoder(out, g.Storer, false).Encode(send, 0); err != nil {
		return fmt.Errorf("send pack: %w", err)
	}
	if req.sideband {
		return pktline.NewEncoder(w).Flush()
	}
	return nil
}

// receive takes a push: the pack first, then each ref whose old value is still
// what the client saw.
func (h *Handler) receive(w io.Writer, repo *Repo, body io.Reader, pushed func([]Update)) error {
	var probe bytes.Buffer
	first := make([]byte, 4)
	if _, err := io.ReadFull(body, first); err != nil || bytes.Equal(first, pktline.FlushPkt) {
		return nil // git asks with an empty request whether it may push
	}
	probe.Write(first)
	req := packp.NewReferenceUpdateRequest()
	if err := req.Decode(io.MultiReader(&probe, body)); err != nil {
		return fmt.Errorf("read push: %w", err)
	}
	h.pushes.Lock()
	report, updates := repo.update(req)
	h.pushes.Unlock()
	if len(updates) > 0 {
		pushed(updates)
	}
	return report.Encode(w)
}

func (r *Repo) update(req *packp.ReferenceUpdateRequest) (*packp.ReportStatus, []Update) {
	r.mu.Lock()
	defer r.mu.Unlock()
	report := packp.NewReportStatus()
	g, err := r.open()
	if err == nil && needsPack(req) {
		err = packfile.UpdateObjectStorage(g.Storer, req.Packfile)
		// All objects may be there already: then the pack is empty.
		if errors.Is(err, packfile.ErrEmptyPackfile) {
			err = nil
		}
	}
	report.UnpackStatus = "ok"
	if err != nil {
		report.UnpackStatus = oneLine(err)
	}
	var updates []Update
	for _, c := range req.Commands {
		cmdErr := err
		if cmdErr == nil {
			cmdErr = move(g, c)
		}
		status := "ok"
		if cmdErr != nil {
			status = oneLine(cmdErr)
		} else {
			updates = append(updates, Update{Ref: c.Name.String(), Old: idOrEmpty(c.Old), New: idOrEmpty(c.New)})
		}
		report.CommandStatuses = append(report.CommandStatuses, &packp.CommandStatus{ReferenceName: c.Name, Status: status})
	}
	return report, updates
}

func needsPack(req *packp.ReferenceUpdateRequest) bool {
	for _, c := range req.Commands {
		if !c.New.IsZero() {
			return req.Packfile != nil
		}
	}
	return false
}

func move(g *git.Repository, c *packp.Command) error {
	var now plumbing.Hash
	ref, err := g.Storer.Reference(c.Name)
	switch {
	case err == nil:
		now = ref.Hash()
	case !errors.Is(err, plumbing.ErrReferenceNotFound):
		return err
	}
	if now != c.Old {
		return errors.New("stale info")
	}
	if !strings.HasPrefix(c.Name.String(), "refs/") || c.Name.Validate() != nil {
		return errors.New("funny refname")
	}
	if c.New.IsZero() {
		return g.Storer.RemoveReference(c.Name)
	}
	if err := g.Storer.HasEncodedObject(c.New); err != nil {
		return fmt.Errorf("missing object %s", c.New)
	}
	return g.Storer.SetReference(plumbing.NewHashReference(c.Name, c.New))
}

func idOrEmpty(h plumbing.Hash) string {
	if h.IsZero() {
		return ""
	}
	return h.String()
}

func oneLine(err error) string { return strings.ReplaceAll(err.Error(), "\n", " ") }
