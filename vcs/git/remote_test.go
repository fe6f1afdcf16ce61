package git_test

import (
	"bytes"
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"holdfast/vcs"
	"holdfast/vcs/git"
	"holdfast/vcs/vcstest/gittest"
)

const secret = "s3cr3t/tok+en"

// served is a repository behind HTTP with basic authentication.
func served(t *testing.T) (*remoteRepo, vcs.Remote, *gittest.Handler) {
	t.Helper()
	r := newRemote(t)
	h := gittest.Serve(gittest.Open(r.dir))
	h.Auth = func(_, user, password string, _ bool) bool { return user == "bot" && password == secret }
	srv := httptest.NewServer(h)
	t.Cleanup(srv.Close)
	return r, vcs.Remote{URL: srv.URL + "/team/live.git", Username: "bot", Password: secret}, h
}

func TestFetchOverHTTP(t *testing.T) {
	r, remote, _ := served(t)
	data := t.TempDir()
	m := newMirrors(t, data)
	files := map[string]string{}
	for i := range 200 {
		files[fmt.Sprintf("d%d/main.tf", i)] = strings.Repeat(fmt.Sprint(i), i)
	}
	first := r.commit(files)
	r.set("main", first)
	fetch(t, m, remote)
	before := packs(t, data)

	files["d1/main.tf"] = "changed"
	second := r.commit(files, first)
	other := r.commit(map[string]string{"x": "y"}, first)
	r.set("main", second)
	r.set("refs/pull/7/head", other)
	fetch(t, m, remote, "refs/pull/7/head")
	for rev, want := range map[string]string{"main": second, "refs/pull/7/head": other} {
		if got, err := m.Resolve(t.Context(), repo, rev); err != nil || got != want {
			t.Errorf("%s = %q, %v, want %q", rev, got, err, want)
		}
	}
	for path, size := range packs(t, data) {
		if _, old := before[path]; !old && size > 8000 { // the root has 200 entries
			t.Errorf("the second fetch brought %d bytes: it was not incremental", size)
		}
	}
	dir, _ := checkout(t, m, second)
	if diff := cmp.Diff(files, listing(t, dir)); diff != "" {
		t.Error("the checkout differs from the commit")
	}
	noSecretIn(t, data)
}

func TestFetchOverHTTPOfEmptyRepository(t *testing.T) {
	r, remote, _ := served(t)
	m := newMirrors(t, t.TempDir())
	fetch(t, m, remote)
	r.set("main", r.commit(map[string]string{"a": "1"}))
	fetch(t, m, remote)
	if name, err := m.DefaultBranch(t.Context(), repo); err != nil || name != "main" {
		t.Errorf("default branch = %q, %v", name, err)
	}
}

func TestFetchDenied(t *testing.T) {
	r, remote, _ := served(t)
	r.set("main", r.commit(map[string]string{"a": "1"}))
	m := newMirrors(t, t.TempDir())
	for name, change := range map[string]func(*vcs.Remote){
		"wrong password": func(r *vcs.Remote) { r.Password = "wr0ng-one" },
		"none":           func(r *vcs.Remote) { r.Username, r.Password = "", "" },
	} {
		wrong := remote
		change(&wrong)
		err := m.Fetch(t.Context(), repo, wrong)
		if !errors.Is(err, vcs.ErrDenied) {
			t.Errorf("%s: %v, want ErrDenied", name, err)
		}
		if strings.Contains(fmt.Sprintf("%v %+v", err, err), "wr0ng-one") {
			t.Errorf("%s: the error shows the password: %v", name, err)
		}
	}
	fetch(t, m, remote)
}

// What a server may answer, and what must come of it. Each answer repeats the
// credentials, which must not come through.
func TestFetchFromUnkindServers(t *testing.T) {
	echo := func(req *http.Request) string {
		user, password, _ := req.BasicAuth()
		return user + ":" + password + " " + base64.StdEncoding.EncodeToString([]byte(user+":"+password)) + " \x1b[31m"
	}
	advert := "001e# service=git-upload-pack\n0000"
	tests := map[string]struct {
		answer func(w http.ResponseWriter, req *http.Request)
		want   error
	}{
		"no repository": {func(w http.ResponseWriter, req *http.Request) { http.Error(w, echo(req), 404) }, vcs.ErrNotFound},
		"forbidden":     {func(w http.ResponseWriter, req *http.Request) { http.Error(w, echo(req), http.StatusForbidden) }, vcs.ErrDenied},
		"broken":        {func(w http.ResponseWriter, req *http.Request) { http.Error(w, echo(req), 500) }, nil},
		"endless error": {func(w http.ResponseWriter, req *http.Request) {
			w.WriteHeader(500)
			for req.Context().Err() == nil {
				if _, err := io.WriteString(w, strings.Repeat(echo(req), 1000)); err != nil {
					return
				}
			}
		}, nil},
		"HTML":            {func(w http.ResponseWriter, req *http.Request) { fmt.Fprintf(w, "<html>%s</html>", echo(req)) }, nil},
		"nothing":         {func(http.ResponseWriter, *http.Request) {}, nil},
		"refusal":         {func(w http.ResponseWriter, req *http.Request) { fmt.Fprintf(w, "%s0040ERR %s", advert, echo(req)) }, nil},
		"half a line":     {func(w http.ResponseWriter, _ *http.Request) { fmt.Fprintf(w, "%s00ff12345", advert) }, nil},
		"nonsense length": {func(w http.ResponseWriter, _ *http.Request) { fmt.Fprintf(w, "%szzzz", advert) }, nil},
		"elsewhere": {func(w http.ResponseWriter, req *http.Request) {
			http.Redirect(w, req, "ftp://elsewhere.example.com/"+echo(req), http.StatusFound)
		}, nil},
		"commits that it does not send": {func(w http.ResponseWriter, req *http.Request) {
			if req.Method == http.MethodPost {
				fmt.Fprint(w, "0008NAK\n")
				return
			}
			line := strings.Repeat("ab", 20) + " refs/heads/main\x00ofs-delta\n"
			fmt.Fprintf(w, "%s%04x%s0000", advert, len(line)+4, line)
		}, nil},
		"refs that lead out": {func(w http.ResponseWriter, _ *http.Request) {
			line := strings.Repeat("ab", 20) + " refs/heads/../../config\x00ofs-delta\n"
			fmt.Fprintf(w, "%s%04x%s0000", advert, len(line)+4, line)
		}, errNone},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			srv := httptest.NewServer(http.HandlerFunc(tt.answer))
			defer srv.Close()
			data := t.TempDir()
			m := newMirrors(t, data)
			err := m.Fetch(t.Context(), repo, vcs.Remote{URL: srv.URL + "/x.git", Username: "bot", Password: secret})
			switch {
			case tt.want == errNone:
				if err != nil {
					t.Errorf("got %v, want no error", err)
				}
			case err == nil || tt.want != nil && !errors.Is(err, tt.want):
				t.Errorf("got %v, want %v", err, tt.want)
			}
			if err != nil {
				noSecret(t, "the error", err.Error())
				if strings.ContainsAny(err.Error(), "\x1b\n") || len(err.Error()) > 2000 {
					t.Errorf("unfit for a terminal: %q", err)
				}
			}
			noSecretIn(t, data)
		})
	}
}

var errNone = errors.New("no error")

func TestFetchRateLimited(t *testing.T) {
	at := time.Date(2030, 1, 2, 3, 4, 5, 0, time.UTC)
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Retry-After", at.Format(http.TimeFormat))
		w.WriteHeader(http.StatusTooManyRequests)
	}))
	defer srv.Close()
	err := newMirrors(t, t.TempDir()).Fetch(t.Context(), repo, vcs.Remote{URL: srv.URL})
	var limited *vcs.RateLimitError
	if !errors.As(err, &limited) || !limited.RetryAt.Equal(at) {
		t.Errorf("got %v, want a rate limit until %v", err, at)
	}
}

func TestFetchFromASilentServer(t *testing.T) {
	reached := make(chan struct{})
	srv := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, req *http.Request) {
		close(reached)
		<-req.Context().Done()
	}))
	defer srv.Close()
	ctx, cancel := context.WithCancel(t.Context())
	go func() {
		<-reached
		cancel()
	}()
	err := newMirrors(t, t.TempDir()).Fetch(ctx, repo, vcs.Remote{URL: srv.URL})
	if !errors.Is(err, context.Canceled) {
		t.Errorf("got %v, want context.Canceled", err)
	}
}

// A redirect to another server must not carry the credentials along.
func TestFetchKeepsCredentialsAtHome(t *testing.T) {
	leaked := make(chan string, 1)
	other := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		leaked <- req.Header.Get("Authorization")
		http.NotFound(w, req)
	}))
	defer other.Close()
	home := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		http.Redirect(w, req, other.URL+req.URL.String(), http.StatusFound)
	}))
	defer home.Close()
	err := newMirrors(t, t.TempDir()).Fetch(t.Context(), repo, vcs.Remote{URL: home.URL, Username: "bot", Password: secret})
	if err == nil {
		t.Error("no error")
	}
	if got := <-leaked; got != "" {
		t.Errorf("the other server was sent %q", got)
	}
}

func TestWriteNote(t *testing.T) {
	for _, transport := range []string{"http", "path"} {
		t.Run(transport, func(t *testing.T) {
			r, remote, _ := served(t)
			if transport == "path" {
				remote = r.remote()
			}
			one := r.commit(map[string]string{"a": "1"})
			two := r.commit(map[string]string{"a": "2"}, one)
			r.set("main", two)
			data := t.TempDir()
			m := newMirrors(t, data)
			write := func(m *git.Mirrors, sha, text string) {
				t.Helper()
				must(t, m.WriteNote(t.Context(), repo, remote, sha, text))
			}
			write(m, one, "first")
			write(m, two, "second")
			tip := r.ref(git.NotesRef)
			write(m, two, "second") // nothing new
			if r.ref(git.NotesRef) != tip {
				t.Error("a note that is there already was written again")
			}
			// Somebody else, who does not know of the first one's mirror.
			write(newMirrors(t, t.TempDir()), one, "first, again\n")
			write(m, two, "zweite ü")
			want := map[string]string{one: "first, again\n", two: "zweite ü"}
			if diff := cmp.Diff(want, r.files(git.NotesRef)); diff != "" {
				t.Errorf("notes (-want +got):\n%s", diff)
			}
			for sha, text := range want {
				if sha == two {
					if got, err := m.Note(t.Context(), repo, sha); err != nil || got != text {
						t.Errorf("Note = %q, %v, want %q", got, err, text)
					}
				}
			}
			if n := r.count(git.NotesRef); n != 4 {
				t.Errorf("%d commits of notes, want 4", n)
			}
			noSecretIn(t, data)
		})
	}
}

// Notes that Git has spread over directories are replaced, not doubled.
func TestWriteNoteOverFanout(t *testing.T) {
	r := newRemote(t)
	sha := r.commit(map[string]string{"a": "1"})
	r.set("main", sha)
	old := map[string]string{sha[:2] + "/" + sha[2:]: "old", "ab/" + strings.Repeat("c", 38): "other", "README": "not a note"}
	r.set(git.NotesRef, r.commit(old))
	m := newMirrors(t, t.TempDir())
	must(t, m.WriteNote(t.Context(), repo, r.remote(), sha, "new"))
	want := map[string]string{sha: "new", "ab" + strings.Repeat("c", 38): "other", "README": "not a note"}
	if diff := cmp.Diff(want, r.files(git.NotesRef)); diff != "" {
		t.Errorf("notes (-want +got):\n%s", diff)
	}
}

// Whoever loses the race for the ref tries again on top of the winner.
func TestWriteNoteRace(t *testing.T) {
	r, remote, h := served(t)
	sha := r.commit(map[string]string{"a": "1"})
	r.set("main", sha)
	theirs := strings.Repeat("ab", 20)
	interfere := 2
	auth := h.Auth
	h.Auth = func(path, user, password string, write bool) bool {
		if write && interfere > 0 {
			interfere--
			var parents []string
			if tip := r.ref(git.NotesRef); tip != "" {
				parents = append(parents, tip)
			}
			r.set(git.NotesRef, r.commit(map[string]string{theirs: fmt.Sprint("theirs ", interfere)}, parents...))
		}
		return auth(path, user, password, write)
	}
	m := newMirrors(t, t.TempDir())
	must(t, m.WriteNote(t.Context(), repo, remote, sha, "ours"))
	if diff := cmp.Diff(map[string]string{sha: "ours", theirs: "theirs 0"}, r.files(git.NotesRef)); diff != "" {
		t.Errorf("notes (-want +got):\n%s", diff)
	}
}

func TestWriteNoteDenied(t *testing.T) {
	r, remote, h := served(t)
	sha := r.commit(map[string]string{"a": "1"})
	r.set("main", sha)
	h.Auth = func(_, _, _ string, write bool) bool { return !write }
	err := newMirrors(t, t.TempDir()).WriteNote(t.Context(), repo, remote, sha, "x")
	if !errors.Is(err, vcs.ErrDenied) {
		t.Errorf("got %v, want ErrDenied", err)
	}
}

func packs(t *testing.T, data string) map[string]int64 {
	t.Helper()
	sizes := map[string]int64{}
	each(t, filepath.Join(data, "mirrors/*/objects/pack/*.pack"), func(f string) {
		info, err := os.Stat(f)
		must(t, err)
		sizes[f] = info.Size()
	})
	return sizes
}

func noSecret(t *testing.T, where, text string) {
	t.Helper()
	for _, form := range []string{secret, "s3cr3t", base64.StdEncoding.EncodeToString([]byte("bot:" + secret))} {
		if strings.Contains(text, form) {
			t.Errorf("%s has the password in it: %q", where, text)
		}
	}
}

func noSecretIn(t *testing.T, dir string) {
	t.Helper()
	must(t, filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || !d.Type().IsRegular() {
			return err
		}
		content, err := os.ReadFile(path)
		if bytes.Contains(content, []byte("s3cr3t")) || bytes.Contains(content, []byte("127.0.0.1")) {
			t.Errorf("%s has the password or the URL in it", path)
		}
		return err
	}))
}
