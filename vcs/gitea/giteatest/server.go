// Package giteatest is a Gitea in a test's own process: the API calls that
// Holdfast makes, and signed webhooks, in the shape of Gitea 1.26, over what
// package forge has for all fake hosts.
//
// A test acts as the people who use the host (Repository.Push, OpenPull,
// Review, Merge), decides which webhooks arrive and in what order (Hold, Send,
// Drop, Redeliver), makes calls fail (Fail) or limits them (Config.Limit), and
// reads what the program left behind (Comments, Statuses, Calls, Requests).
package giteatest

import (
	"crypto/hmac"
	"crypto/sha1"
	"encoding/hex"
	"fmt"
	"net/http"
	"time"

	"holdfast/vcs/vcstest/forge"
)

// What a test works with is that of package forge.
type (
	TB         = forge.TB
	Server     = forge.Server
	Repository = forge.Repository
	Config     = forge.Config
	OpenPull   = forge.OpenPull
	Pull       = forge.Pull
	Comment    = forge.Comment
	Status     = forge.Status
	Delivery   = forge.Delivery
	Attempt    = forge.Attempt
	Fault      = forge.Fault
	FaultKind  = forge.FaultKind
	Call       = forge.Call
	Count      = forge.Count
	Requests   = forge.Requests
)

// The ways for a call to go wrong.
const (
	Fail500   = forge.Fail500
	RateLimit = forge.RateLimit
	Denied    = forge.Denied
	Hang      = forge.Hang
	Garbage   = forge.Garbage
	Truncated = forge.Truncated
	Reset     = forge.Reset
	Lost      = forge.Lost
)

// New starts a server that lives as long as the test.
func New(t forge.TB, cfg Config) *Server {
	t.Helper()
	return forge.New(t, forge.Dialect{
		Name: "gitea", Prefix: "/api/v1", PullRef: "refs/pull/%d/head",
		Routes: routes, Hooks: hooks, Refuse: refuse,
	}, cfg)
}

func refuse(w http.ResponseWriter, status int, message string, wait time.Duration) {
	if wait > 0 {
		w.Header().Set("Retry-After", fmt.Sprint(int64((wait+time.Second-1)/time.Second)))
	}
	answer := object{"message": message, "url": "/api/swagger"}
	if status == http.StatusNotFound {
		answer["errors"] = nil
	}
	forge.WriteJSON(w, status, answer)
}

// Sign returns the signature headers that Gitea sends with body.
func Sign(secret string, body []byte) http.Header {
	sum1 := hmac.New(sha1.New, []byte(secret))
	sum1.Write(body)
	hex256 := forge.MAC(secret, body)
	h := http.Header{}
	h.Set("X-Gitea-Signature", hex256)
	h.Set("X-Gogs-Signature", hex256)
	h.Set("X-Hub-Signature", "sha1="+hex.EncodeToString(sum1.Sum(nil)))
	h.Set("X-Hub-Signature-256", "sha256="+hex256)
	return h
}
