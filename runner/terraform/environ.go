package terraform

import (
	"errors"
	"fmt"
	"maps"
	"path"
	"slices"
	"strings"
)

// ours is the prefix of Holdfast's own variables; engines never get one.
const ours = "HOLDFAST_"

// allowed is what engines get of the server's environment without being
// listed: what a program needs to run, to reach the network and to find
// Terraform's own configuration. Credentials are not among it.
func allowed() []string {
	return []string{
		"PATH", "HOME", "USER", "LOGNAME", "LANG", "LC_*", "TMPDIR", "TZ",
		"TF_CLI_CONFIG_FILE", "TF_PLUGIN_CACHE_DIR", "TF_REGISTRY_*", "TF_REATTACH_PROVIDERS",
		"HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY", "ALL_PROXY",
		"http_proxy", "https_proxy", "no_proxy", "all_proxy",
		"SSL_CERT_FILE", "SSL_CERT_DIR", "GIT_SSL_CAINFO",
	}
}

// steered are variables that would change what this package relies on.
func steered(name string) bool {
	return name == "TF_DATA_DIR" || name == "TF_WORKSPACE" || name == "TF_INPUT" ||
		name == "TF_IN_AUTOMATION" || strings.HasPrefix(name, ours)
}

// environment returns the variables that every engine process gets, from the
// server's (environ, as os.Environ returns it) and the configuration.
func environment(environ []string, c Config) map[string]string {
	patterns := append(allowed(), c.Pass...)
	env := map[string]string{}
	for _, kv := range environ {
		name, value, ok := strings.Cut(kv, "=")
		if ok && name != "" && !steered(name) && matches(patterns, name) {
			env[name] = value
		}
	}
	maps.Copy(env, c.Set)
	env["TF_IN_AUTOMATION"] = "1"
	env["TF_INPUT"] = "0"
	env["CHECKPOINT_DISABLE"] = "1"
	return env
}

func matches(patterns []string, name string) bool {
	return slices.ContainsFunc(patterns, func(p string) bool {
		ok, err := path.Match(p, name)
		return err == nil && ok
	})
}

// validateEnvironment finds mistakes in what the configuration passes and sets.
func validateEnvironment(c Config) error {
	var errs []error
	for _, p := range c.Pass {
		if _, err := path.Match(p, ""); err != nil {
			errs = append(errs, fmt.Errorf("environment: pass %q: %w", p, err))
		}
	}
	for _, name := range slices.Sorted(maps.Keys(c.Set)) {
		switch {
		case name == "" || strings.ContainsAny(name, "=\x00"):
			errs = append(errs, fmt.Errorf("environment: %q is no variable's name", name))
		case steered(name):
			errs = append(errs, fmt.Errorf("environment: %s cannot be set for engines", name))
		case strings.Contains(c.Set[name], "\x00"):
			errs = append(errs, fmt.Errorf("environment: the value of %s contains a zero byte", name))
		}
	}
	return errors.Join(errs...)
}

// validateArguments refuses arguments that an apply gets from its environment
// and that would have the engine hide what it does, or say it in another form:
// from what it prints is known whether it has begun.
func validateArguments(env map[string]string) error {
	for _, name := range []string{"TF_CLI_ARGS", "TF_CLI_ARGS_apply"} {
		for _, arg := range strings.Fields(env[name]) {
			arg, _, _ = strings.Cut(strings.Trim(arg, `"'`), "=")
			if arg = strings.TrimLeft(arg, "-"); arg == "json" || arg == "json-into" || arg == "concise" {
				return fmt.Errorf("environment: %s cannot have -%s for engines", name, arg)
			}
		}
	}
	return nil
}

// list turns variables into what os/exec takes, sorted.
func list(env map[string]string) []string {
	out := make([]string, 0, len(env))
	for _, name := range slices.Sorted(maps.Keys(env)) {
		out = append(out, name+"="+env[name])
	}
	return out
}
