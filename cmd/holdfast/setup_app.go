package main

import (
	"context"
	"crypto/rand"
	"crypto/subtle"
	"errors"
	"fmt"
	"html/template"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"time"

	"holdfast/vcs/github"
)

// appTimeout is how long a person has to make the App.
const appTimeout = 30 * time.Minute

var appPage = template.Must(template.New("").Parse(`<!doctype html>
<html lang="en"><meta charset="utf-8"><title>Make the GitHub App</title>
<body><h1>Make the GitHub App</h1>
<p>GitHub shows what it may do before it makes it.</p>
<form method="post" action="{{.Action}}"><input type="hidden" name="manifest" value="{{.Manifest}}"><button>Go on at GitHub</button></form>
`))

// makeApp leads through making a GitHub App of a manifest: a page on this machine
// posts it, GitHub sends the browser back with a code, and the code is exchanged
// for the App's key.
func (s *setup) makeApp(ctx context.Context) error {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	state := rand.Text()
	home := "http://" + listener.Addr().String()
	hook := ""
	if !s.h.Pull {
		hook = Settings{URL: s.o.server}.hookAddress(s.h)
	}
	manifest, err := github.Manifest("Holdfast", firstNotEmpty(s.o.server, home), hook, home+"/created")
	if err != nil {
		return err
	}
	codes := make(chan string, 1)
	mux := http.NewServeMux()
	mux.HandleFunc("GET /{$}", func(w http.ResponseWriter, _ *http.Request) {
		_ = appPage.Execute(w, map[string]string{"Action": github.NewAppURL(s.h.URL, s.o.organisation, state), "Manifest": string(manifest)})
	})
	mux.HandleFunc("GET /created", func(w http.ResponseWriter, r *http.Request) {
		if subtle.ConstantTimeCompare([]byte(r.FormValue("state")), []byte(state)) != 1 || r.FormValue("code") == "" {
			http.Error(w, "This is not what was asked for. Begin again.", http.StatusBadRequest)
			return
		}
		fmt.Fprintln(w, "The App is made. Go back to the terminal.")
		select {
		case codes <- r.FormValue("code"):
		default:
		}
	})
	web := &http.Server{Handler: mux, ReadHeaderTimeout: 10 * time.Second}
	go func() { _ = web.Serve(listener) }() // until Close
	defer web.Close()
	s.say("", "open %s in a browser on this machine, and follow it", home)
	limited, cancel := context.WithTimeoutCause(ctx, appTimeout, fmt.Errorf("nobody made the App within %s", appTimeout))
	defer cancel()
	select {
	case <-limited.Done():
		return context.Cause(limited)
	case code := <-codes:
		return s.keepApp(ctx, code)
	}
}

// keepApp gets the App's key and writes it down: GitHub tells it once.
func (s *setup) keepApp(ctx context.Context, code string) error {
	made, err := github.Convert(ctx, github.Config{URL: s.h.URL}, code)
	if err != nil {
		return err
	}
	file, err := filepath.Abs(fmt.Sprintf("github-app-%d.pem", made.ID))
	if err != nil {
		return err
	}
	f, err := os.OpenFile(file, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	if _, err := f.Write(made.PrivateKey); err != nil {
		return errors.Join(err, f.Close())
	}
	if err := f.Close(); err != nil {
		return err
	}
	s.h.AppID, s.h.PrivateKey = strconv.FormatInt(made.ID, 10), file
	if made.WebhookSecret != "" && !s.h.Pull {
		s.h.WebhookSecret = made.WebhookSecret
	}
	s.say("ok", "the App %s is made; its key is in %s", made.Name, file)
	if err := s.blocks(); err != nil {
		return err
	}
	s.say("", "install it for the repositories at %s/installations/new, then run: holdfast doctor", made.Page)
	return nil
}

func firstNotEmpty(a, b string) string {
	if a != "" {
		return a
	}
	return b
}
