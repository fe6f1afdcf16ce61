package notify

import (
	"cmp"
	"context"
	"errors"
	"net/url"
	"regexp"
	"slices"
	"strings"
	"unicode"
	"unicode/utf8"

	"holdfast/watch"
)

// secrets are the parts of an address that nobody may read in a log.
type secrets []string

// newSecrets returns userinfo, longer segments of the path, query values, and a
// host that is none: several services have their token there.
func newSecrets(raw string) secrets {
	u, err := url.Parse(raw)
	if err != nil {
		return secrets{raw}
	}
	var found []string
	if u.User != nil {
		password, _ := u.User.Password()
		found = append(found, u.User.Username(), password, u.User.String())
	}
	if host := u.Hostname(); len(host) > 6 && !strings.ContainsAny(host, ".:") && host != "localhost" && !strings.HasPrefix(u.Scheme, host) {
		found = append(found, host, u.Host)
	}
	for _, path := range []string{u.Path, u.EscapedPath(), u.Opaque} {
		for _, segment := range strings.Split(path, "/") {
			if utf8.RuneCountInString(segment) > 6 {
				found = append(found, segment)
			}
		}
	}
	for _, values := range u.Query() {
		found = append(found, values...)
	}
	if u.Fragment != "" {
		found = append(found, u.Fragment)
	}

	var s secrets
	for _, f := range found {
		s = append(s, f, url.PathEscape(f), url.QueryEscape(f))
		// A service may build another address of a token's parts.
		for _, part := range strings.FieldsFunc(f, func(r rune) bool { return !unicode.IsLetter(r) && !unicode.IsDigit(r) }) {
			if len(part) >= 8 {
				s = append(s, part)
			}
		}
	}
	s = slices.DeleteFunc(s, func(f string) bool {
		// Such a word is in every second sentence, and no secret.
		return len(f) < 2 || slices.Contains([]string{"yes", "no", "true", "false", "none", "json"}, strings.ToLower(f))
	})
	slices.SortFunc(s, func(a, b string) int { return cmp.Or(len(b)-len(a), strings.Compare(a, b)) })
	return slices.Compact(s)
}

// address finds addresses in what libraries say; net/http quotes whole ones.
var address = regexp.MustCompile(`(https?://)(?:[^/\s"'@]*@)?([^/\s"'?#]+)[^\s"']*`)

// hide replaces what is secret, and all of an address but its host.
func (s secrets) hide(text string) string {
	for _, secret := range s {
		if len(secret) >= 6 {
			text = strings.ReplaceAll(text, secret, "***")
		} else {
			text = replaceWord(text, secret)
		}
	}
	return watch.Clean(address.ReplaceAllString(text, "$1$2/***"), 600)
}

// replaceWord replaces a short secret where it stands for itself only: a user's
// name of two letters is in many words.
func replaceWord(text, secret string) string {
	word := func(r rune) bool { return unicode.IsLetter(r) || unicode.IsDigit(r) }
	var b strings.Builder
	last := rune(0)
	for text != "" {
		if rest, ok := strings.CutPrefix(text, secret); ok && !word(last) {
			if next, _ := utf8.DecodeRuneInString(rest); rest == "" || !word(next) {
				b.WriteString("***")
				text, last = rest, '*'
				continue
			}
		}
		r, n := utf8.DecodeRuneInString(text)
		b.WriteString(text[:n])
		text, last = text[n:], r
	}
	return b.String()
}

// hideError keeps the words, without secrets, and of the causes only the
// context's: any other may quote the address again.
func (s secrets) hideError(err error) error {
	e := &hidden{text: s.hide(err.Error())}
	for _, cause := range []error{context.DeadlineExceeded, context.Canceled} {
		if errors.Is(err, cause) {
			e.cause = cause
		}
	}
	return e
}

type hidden struct {
	text  string
	cause error
}

func (e *hidden) Error() string { return e.text }
func (e *hidden) Unwrap() error { return e.cause }
