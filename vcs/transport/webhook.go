package transport

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"math"
	"net/http"
	"strings"

	"holdfast/vcs"
)

// ValidMAC reports, in constant time, whether signature is the hexadecimal
// HMAC-SHA256 of body. A "sha256=" before it is left out. An empty secret signs
// nothing.
func ValidMAC(secret, signature string, body []byte) bool {
	got, err := hex.DecodeString(strings.TrimPrefix(signature, "sha256="))
	if err != nil || secret == "" {
		return false
	}
	mac := hmac.New(sha256.New, []byte(secret))
	mac.Write(body)
	return hmac.Equal(got, mac.Sum(nil))
}

// Delivery is the host's id of a delivery, taken from the first header that has
// one, else one made of the body: the same body sent again is then the same
// delivery.
func Delivery(header http.Header, body []byte, names ...string) string {
	id := First(header, names...)
	if id != "" && len(id) <= 128 && !strings.ContainsFunc(id, func(r rune) bool { return r <= ' ' || r > '~' }) {
		return id
	}
	sum := sha256.Sum256(body)
	return "body-" + hex.EncodeToString(sum[:])
}

// First is the first header that is there.
func First(header http.Header, names ...string) string {
	for _, n := range names {
		if v := header.Get(n); v != "" {
			return v
		}
	}
	return ""
}

// Ignored is vcs.ErrIgnored with the reason.
func Ignored(format string, args ...any) error {
	return fmt.Errorf("%w: %s", vcs.ErrIgnored, fmt.Sprintf(format, args...))
}

// SetNumber gives an event the number of its pull request.
func SetNumber(e *vcs.Event, n int64) error {
	if n <= 0 || n > math.MaxInt32 {
		return fmt.Errorf("pull request %d is not a number that a host gives", n)
	}
	e.Number = int(n)
	return nil
}

// SetTicket gives an event the number of its ticket.
func SetTicket(e *vcs.Event, n int64) error {
	if n <= 0 || n > math.MaxInt32 {
		return fmt.Errorf("issue %d is not a number that a host gives", n)
	}
	e.Ticket = int(n)
	return nil
}

// SetPush makes e a push of ref from before to after. Tags and deleted branches
// are ignored.
func SetPush(e *vcs.Event, ref, before, after string) error {
	branch, ok := strings.CutPrefix(ref, "refs/heads/")
	if !ok {
		return Ignored("push to %s", Printable(ref))
	}
	if branch == "" || strings.ContainsFunc(branch, func(r rune) bool { return r <= ' ' || r == 0x7f }) {
		return fmt.Errorf("branch %q is not a name that Git allows", branch)
	}
	if !IsSHA(before) || !IsSHA(after) {
		return fmt.Errorf("push from %q to %q: not commit ids", Printable(before), Printable(after))
	}
	if strings.Trim(after, "0") == "" {
		return Ignored("branch %s was deleted", Printable(branch))
	}
	e.Kind, e.Branch, e.After = vcs.EventPush, branch, after
	if strings.Trim(before, "0") != "" { // all zeros: the branch is new
		e.Before = before
	}
	return nil
}

// IsSHA reports whether s is a full commit id, SHA-1 or SHA-256.
func IsSHA(s string) bool {
	if len(s) != 40 && len(s) != 64 {
		return false
	}
	_, err := hex.DecodeString(s)
	return err == nil
}

// Printable makes a word from outside fit for a log line.
func Printable(s string) string {
	if s == "" {
		return "unnamed"
	}
	s = strings.Map(func(r rune) rune {
		if r <= ' ' || r == 0x7f {
			return '_'
		}
		return r
	}, strings.ToValidUTF8(s, "_"))
	return Cut(s, 80)
}

// OneLine is s without control characters and line breaks, of n bytes at most.
func OneLine(s string, n int) string {
	s = strings.Join(strings.FieldsFunc(s, func(r rune) bool { return r <= ' ' || r == 0x7f }), " ")
	if len(s) > n {
		s = s[:n] + "…"
	}
	return strings.ToValidUTF8(s, "")
}

// Cut shortens s to n characters, the last of them "…" where any were lost.
func Cut(s string, n int) string {
	runes := []rune(s)
	if len(runes) <= n {
		return s
	}
	return string(runes[:n-1]) + "…"
}

// CutBytes shortens a text of several lines to n bytes, at the end of a line
// where there is one, and says that it did.
func CutBytes(s string, n int) string {
	const mark = "\n\n… cut."
	if len(s) <= n {
		return s
	}
	s = s[:max(n-len(mark), 0)]
	if i := strings.LastIndexByte(s, '\n'); i > 0 {
		s = s[:i]
	}
	return strings.ToValidUTF8(s, "") + mark
}

// Storable drops NUL bytes, which PostgreSQL refuses, and what is not UTF-8.
func Storable(s string) string {
	return strings.ReplaceAll(strings.ToValidUTF8(s, "\uFFFD"), "\x00", "")
}
