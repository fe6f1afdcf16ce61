package workspaces

import (
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strings"
)

// MatchAddress reports whether a resource's address matches a pattern, in
// which * stands for any characters, dots and brackets included. A pattern
// without an instance key matches all instances.
func MatchAddress(pattern, address string) bool {
	if wildcard(pattern, address) {
		return true
	}
	for i := range address {
		if address[i] == '[' && keySize(address[i:]) == len(address)-i {
			return wildcard(pattern, address[:i])
		}
	}
	return false
}

// MatchAttribute reports whether a pattern covers an attribute's path: the
// path itself and all below it, with * for any characters.
func MatchAttribute(pattern, path string) bool {
	if wildcard(pattern, path) {
		return true
	}
	for i := range path {
		if (path[i] == '.' || path[i] == '[') && wildcard(pattern, path[:i]) {
			return true
		}
	}
	return false
}

// wildcard matches s with a pattern that has * for any characters.
func wildcard(pattern, s string) bool {
	parts := strings.Split(pattern, "*")
	if len(parts) == 1 {
		return pattern == s
	}
	if !strings.HasPrefix(s, parts[0]) {
		return false
	}
	s = s[len(parts[0]):]
	last := len(parts) - 1
	for _, p := range parts[1:last] {
		i := strings.Index(s, p)
		if i < 0 {
			return false
		}
		s = s[i+len(p):]
	}
	return strings.HasSuffix(s, parts[last])
}

// maxPattern bounds patterns of addresses and attributes, in bytes.
const maxPattern = 300

// CheckAddress says what is wrong with a pattern of addresses, and the valid
// form that may have been meant.
func CheckAddress(pattern string) (hint string, err error) {
	const form = `write it like "aws_instance.web", "module.vpc.*" or "aws_autoscaling_group.*"`
	switch {
	case pattern == "":
		return form, errors.New("the pattern is empty")
	case len(pattern) > maxPattern:
		return form, fmt.Errorf("the pattern is longer than %d characters", maxPattern)
	case validAddress(pattern):
		return "", nil
	}
	fixed := strings.TrimSpace(pattern)
	fixed = strings.NewReplacer(`\.`, ".", ".*", ".*", "%", "*", "/", ".", "…", "*").Replace(strings.Trim(fixed, "^$"))
	for _, f := range []string{fixed, strings.Trim(fixed, "."), strings.ReplaceAll(fixed, ".+", ".*"), fixed + ".*", fixed + "]", fixed + `"]`} {
		if validAddress(f) {
			return fmt.Sprintf("did you mean %q?", f), fmt.Errorf("%q is no pattern of a resource's address", cut(clean(pattern), 60))
		}
	}
	return form, fmt.Errorf("%q is no pattern of a resource's address", cut(clean(pattern), 60))
}

var addressPart = regexp.MustCompile(`^[\pL_*][\pL\pN_*-]*$`)

// validAddress reports whether a pattern could be an address: module.NAME
// pairs, then data or not, a type and a name, each with an instance key or
// not. A part with * may stand for all that follows.
func validAddress(pattern string) bool {
	parts, ok := addressParts(pattern)
	if !ok {
		return false
	}
	for len(parts) >= 2 && parts[0] == "module" {
		parts = parts[2:]
		if len(parts) == 0 {
			return true // everything of a module, with or without a * for it
		}
	}
	if len(parts) > 0 && parts[0] == "data" {
		parts = parts[1:]
	}
	if len(parts) == 1 {
		return strings.Contains(parts[0], "*")
	}
	return len(parts) == 2 || slices.ContainsFunc(parts, func(p string) bool { return strings.Contains(p, "*") })
}

// addressParts splits a pattern at its dots, without the instance keys.
func addressParts(pattern string) ([]string, bool) {
	var parts []string
	rest := pattern
	for {
		end := strings.IndexAny(rest, ".[")
		if end < 0 {
			return append(parts, rest), addressPart.MatchString(rest)
		}
		if !addressPart.MatchString(rest[:end]) {
			return nil, false
		}
		parts = append(parts, rest[:end])
		if rest[end] == '[' {
			size := keySize(rest[end:])
			if size == 0 {
				return nil, false
			}
			end += size
			if end == len(rest) {
				return parts, true
			}
			if rest[end] != '.' {
				return nil, false
			}
		}
		rest = rest[end+1:]
	}
}

var instanceKey = regexp.MustCompile(`^\[(?:\d+|\*|"(?:[^"\\]|\\.)*")\]`)

// keySize is the length of the instance key that s begins with; 0 for none.
func keySize(s string) int { return len(instanceKey.FindString(s)) }

// CheckAttribute says what is wrong with a pattern of an attribute's path.
func CheckAttribute(pattern string) (hint string, err error) {
	const form = `write it like "tags", "tags.*", "ingress[*].port" or labels["a.b/c"]`
	rest := pattern
	if pattern == "" || len(pattern) > maxPattern {
		return form, errors.New("an attribute's pattern has from 1 to 300 characters")
	}
	for i := 0; rest != ""; i++ {
		switch {
		case rest[0] == '[' && i > 0:
			size := keySize(rest)
			if size == 0 {
				return form, fmt.Errorf("%q is no pattern of an attribute", cut(clean(pattern), 60))
			}
			rest = rest[size:]
			continue
		case rest[0] == '.' && i > 0:
			rest = rest[1:]
		case i > 0:
			return form, fmt.Errorf("%q is no pattern of an attribute", cut(clean(pattern), 60))
		}
		end := strings.IndexAny(rest, ".[")
		if end < 0 {
			end = len(rest)
		}
		if !addressPart.MatchString(rest[:end]) {
			if fixed := strings.Trim(strings.TrimSpace(pattern), "."); fixed != pattern && fixed != "" {
				return fmt.Sprintf("did you mean %q?", fixed), fmt.Errorf("%q is no pattern of an attribute", cut(clean(pattern), 60))
			}
			return form, fmt.Errorf("%q is no pattern of an attribute", cut(clean(pattern), 60))
		}
		rest = rest[end:]
	}
	return "", nil
}
