package git_test

import (
	"crypto/ed25519"
	"crypto/rand"
	"encoding/pem"
	"errors"
	"io"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/go-git/go-git/v5/plumbing/format/pktline"
	"github.com/go-git/go-git/v5/plumbing/protocol/packp"
	"github.com/go-git/go-git/v5/plumbing/storer"
	"github.com/go-git/go-git/v5/plumbing/transport"
	"github.com/go-git/go-git/v5/plumbing/transport/server"
	"golang.org/x/crypto/ssh"
	"golang.org/x/crypto/ssh/knownhosts"

	"holdfast/vcs"
	"holdfast/vcs/git"
)

// sshServer serves one repository for reading, to one key.
type sshServer struct {
	config *ssh.ServerConfig
	repo   *remoteRepo
	addr   string
	host   ssh.PublicKey
}

func newKey(t *testing.T) (ssh.Signer, []byte) {
	t.Helper()
	_, private, err := ed25519.GenerateKey(rand.Reader)
	must(t, err)
	signer, err := ssh.NewSignerFromKey(private)
	must(t, err)
	block, err := ssh.MarshalPrivateKey(private, "")
	must(t, err)
	return signer, pem.EncodeToMemory(block)
}

func serveSSH(t *testing.T, r *remoteRepo, client ssh.PublicKey) *sshServer {
	t.Helper()
	host, _ := newKey(t)
	s := &sshServer{repo: r, host: host.PublicKey()}
	s.config = &ssh.ServerConfig{
		PublicKeyCallback: func(c ssh.ConnMetadata, key ssh.PublicKey) (*ssh.Permissions, error) {
			if c.User() != "git" || string(key.Marshal()) != string(client.Marshal()) {
				return nil, errors.New("no")
			}
			return nil, nil
		},
	}
	s.config.AddHostKey(host)
	l, err := net.Listen("tcp", "127.0.0.1:0")
	must(t, err)
	s.addr = l.Addr().String()
	t.Cleanup(func() { l.Close() })
	go func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			go s.serve(conn)
		}
	}()
	return s
}

func (s *sshServer) serve(conn net.Conn) {
	defer conn.Close()
	_, channels, requests, err := ssh.NewServerConn(conn, s.config)
	if err != nil {
		return
	}
	go ssh.DiscardRequests(requests)
	for c := range channels {
		channel, requests, err := c.Accept()
		if err != nil {
			return
		}
		go func() {
			defer channel.Close()
			for req := range requests {
				if req.Type != "exec" {
					_ = req.Reply(true, nil)
					continue
				}
				_ = req.Reply(true, nil)
				status := byte(0)
				if !strings.Contains(string(req.Payload), "git-upload-pack '/team/live.git'") || s.upload(channel) != nil {
					status = 1
				}
				_, _ = channel.SendRequest("exit-status", false, []byte{0, 0, 0, status})
				return
			}
		}()
	}
}

// Load implements server.Loader.
func (s *sshServer) Load(*transport.Endpoint) (storer.Storer, error) { return s.repo.repo.Storer, nil }

func (s *sshServer) upload(rw io.ReadWriter) error {
	ep, err := transport.NewEndpoint("ssh://x/y")
	if err != nil {
		return err
	}
	session, err := server.NewServer(s).NewUploadPackSession(ep, nil)
	if err != nil {
		return err
	}
	adv, err := session.AdvertisedReferences()
	if err != nil {
		return err
	}
	if err := adv.Encode(rw); err != nil {
		return err
	}
	req := packp.NewUploadPackRequest()
	if err := req.UploadRequest.Decode(rw); err != nil {
		return err
	}
	// All of the request is read before the answer: whoever still writes to a
	// channel that is closed gets an error instead.
	for lines := pktline.NewScanner(rw); lines.Scan(); {
		if strings.TrimSpace(string(lines.Bytes())) == "done" {
			break
		}
	}
	res, err := session.UploadPack(s.repo.t.Context(), req)
	if err != nil {
		return err
	}
	return res.Encode(rw)
}

func TestFetchOverSSH(t *testing.T) {
	r := newRemote(t)
	sha := r.commit(map[string]string{"a": "1"})
	r.set("main", sha)
	signer, key := newKey(t)
	srv := serveSSH(t, r, signer.PublicKey())
	dir := t.TempDir()
	keyFile, known := filepath.Join(dir, "key"), filepath.Join(dir, "known_hosts")
	must(t, os.WriteFile(keyFile, key, 0o600))
	must(t, os.WriteFile(known, []byte(knownhosts.Line([]string{srv.addr}, srv.host)+"\n"), 0o600))
	t.Setenv("SSH_KNOWN_HOSTS", known)
	remote := vcs.Remote{URL: "ssh://" + srv.addr + "/team/live.git", SSHKeyFile: keyFile}

	m := newMirrors(t, t.TempDir())
	fetch(t, m, remote)
	if got, err := m.Resolve(t.Context(), repo, "main"); err != nil || got != sha {
		t.Errorf("main = %q, %v, want %q", got, err, sha)
	}
	fetch(t, m, remote) // with nothing new

	t.Run("another key", func(t *testing.T) {
		_, other := newKey(t)
		wrong := remote
		wrong.SSHKeyFile = filepath.Join(t.TempDir(), "key")
		must(t, os.WriteFile(wrong.SSHKeyFile, other, 0o600))
		if err := m.Fetch(t.Context(), repo, wrong); !errors.Is(err, vcs.ErrDenied) {
			t.Errorf("got %v, want ErrDenied", err)
		}
	})
	hinted := func(what string, remote vcs.Remote, want string) {
		t.Helper()
		err := m.Fetch(t.Context(), repo, remote)
		var hint *git.HintError
		if !errors.As(err, &hint) || !strings.Contains(hint.Hint(), want) {
			t.Errorf("%s: %v, want a hint with %q", what, err, want)
		}
	}
	bad := remote
	bad.SSHKeyFile = filepath.Join(dir, "nothing")
	hinted("no key file", bad, "private key")
	bad.SSHKeyFile = known
	hinted("no key in the file", bad, "private key")

	stranger, _ := newKey(t)
	for what, content := range map[string]string{
		"unknown host": "",
		"changed host": knownhosts.Line([]string{srv.addr}, stranger.PublicKey()) + "\n",
	} {
		must(t, os.WriteFile(known, []byte(content), 0o600))
		hinted(what, remote, "known_hosts")
	}
	bad = remote
	t.Setenv("SSH_AUTH_SOCK", "")
	bad.SSHKeyFile = ""
	hinted("no agent", bad, "SSH_AUTH_SOCK")
}
