package transport

import (
	"errors"
	"fmt"
	"net/url"
	"strings"

	"holdfast/vcs"
)

// Settings are what the adapters' configurations have in common.
type Settings struct {
	URL    string // the host's address as browsers know it
	Name   string // the host in repository names
	Token  string
	Secret string // of webhooks
	Pull   bool   // no webhooks are expected
	// Example is an address of such a host, and GetToken says how to get a token.
	Example, GetToken string
}

// Check refuses settings that cannot be right.
func (s Settings) Check() error {
	if err := CheckAddress(s.URL, s.Example); err != nil {
		return err
	}
	switch {
	case s.Token == "":
		return errors.New("token is missing: " + s.GetToken)
	case strings.ContainsFunc(s.Token, func(r rune) bool { return r <= ' ' || r > '~' }):
		return errors.New("token holds a blank or a character that no token has")
	case s.Secret == "" && !s.Pull:
		return errors.New("webhook secret is missing: without it anybody could send events")
	}
	if _, err := vcs.ParseRepository(s.Name + "/owner/name"); err != nil {
		return fmt.Errorf("name %q cannot be the host of a repository's name", s.Name)
	}
	return nil
}

// CheckAddress refuses what is not the address of a web server's page.
func CheckAddress(address, example string) error {
	u, err := url.Parse(address)
	switch {
	case err != nil || (u.Scheme != "https" && u.Scheme != "http") || u.Host == "":
		return fmt.Errorf("url %q is not an http or https address, such as %s", address, example)
	case u.User != nil:
		return errors.New("url holds credentials: give the token on its own")
	case u.RawQuery != "" || u.Fragment != "":
		return fmt.Errorf("url %q has a query or a fragment: give the address of the front page", address)
	}
	return nil
}
