// Package hook asks a program of the operator's who changed something in the
// cloud, for clouds and logs that Holdfast has no adapter for, and knows which
// requests such a program has signed.
//
// A request is signed in both directions alike: X-Holdfast-Timestamp has the
// time in seconds since 1970, X-Holdfast-Signature is "sha256=" and the
// hexadecimal HMAC-SHA256, under the shared secret, of that time, a full stop and
// the body.
package hook

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"net/http"
	"strconv"
	"strings"
	"time"
)

const (
	// SignatureHeader has a request's signature.
	SignatureHeader = "X-Holdfast-Signature"
	// TimestampHeader has the time at which a request was signed.
	TimestampHeader = "X-Holdfast-Timestamp"
	// Tolerance is how far a request's time may be from ours, either way.
	Tolerance = 5 * time.Minute
)

var (
	// ErrSignature is a request that was not signed with the secret.
	ErrSignature = errors.New("the request's signature is not right")
	// ErrStale is a request that was signed well, but not within the Tolerance.
	ErrStale = errors.New("the request was signed more than five minutes ago, or the clocks differ")
)

// Sign returns the headers that sign a body at a time.
func Sign(secret string, body []byte, now time.Time) http.Header {
	timestamp := strconv.FormatInt(now.Unix(), 10)
	h := http.Header{}
	h.Set(TimestampHeader, timestamp)
	h.Set(SignatureHeader, "sha256="+hex.EncodeToString(mac(secret, timestamp, body)))
	return h
}

// Verify returns ErrSignature unless a request is signed with the secret, and
// ErrStale when it was signed too long ago. Nothing is signed with an empty
// secret. Within the Tolerance a request may come again: what it asks for has to
// bear that.
func Verify(secret string, header http.Header, body []byte, now time.Time) error {
	timestamp := header.Get(TimestampHeader)
	text, ok := strings.CutPrefix(header.Get(SignatureHeader), "sha256=")
	got, err := hex.DecodeString(text)
	// The time is looked at only where the signature is right: who does not know
	// the secret learns nothing about our clock.
	if !ok || err != nil || secret == "" || !hmac.Equal(got, mac(secret, timestamp, body)) {
		return ErrSignature
	}
	seconds, err := strconv.ParseInt(timestamp, 10, 64)
	if err != nil {
		return ErrSignature
	}
	// Compared in seconds: a difference of times would overflow for a far one.
	if low, high := now.Add(-Tolerance).Unix(), now.Add(Tolerance).Unix(); seconds < low || seconds > high {
		return ErrStale
	}
	return nil
}

func mac(secret, timestamp string, body []byte) []byte {
	m := hmac.New(sha256.New, []byte(secret))
	m.Write([]byte(timestamp + "."))
	m.Write(body)
	return m.Sum(nil)
}
