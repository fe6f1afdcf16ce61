package terraform

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"hash"
	"io"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/hashicorp/hcl/v2"
	"github.com/hashicorp/hcl/v2/hclsyntax"
)

// maxConfigFile bounds a configuration file that is read; the engine itself
// reads a larger one, and init runs each time.
const maxConfigFile = 16 << 20

// inputs are what init reads of a root module and the local modules it uses.
type inputs struct {
	// sum is a hash over all of it but the dependency lock file.
	sum string
	// backend is the backend block's type, "cloud", or empty.
	backend string
	// overrides is the file that has the last word on the backend, where that is
	// not Holdfast's.
	overrides string
	// providers says that there are providers to install.
	providers bool
	// remote says that there are modules to download.
	remote bool
}

// scanner collects inputs.
type scanner struct {
	hash  hash.Hash
	root  string
	names map[string]bool // providers' local names
	in    inputs
}

// note adds parts to the hash so that no two lists of parts look the same.
func (s *scanner) note(parts ...string) {
	for _, p := range parts {
		fmt.Fprintf(s.hash, "%d:%s,", len(p), p)
	}
	io.WriteString(s.hash, ";")
}

// scan reads what init would read. Blocks that init ignores are left out, so
// that most changes of a configuration need no init. Where a file cannot be
// understood, all of it counts.
func (e *Engines) scan(m Module, eng engine) (inputs, error) {
	s := &scanner{hash: sha256.New(), root: m.Dir, names: map[string]bool{}}
	s.note("v1", eng.name, eng.version, m.StateFile)
	reattached := e.reattached()
	s.note(reattached...)
	for _, name := range slices.Sorted(maps.Keys(e.env)) {
		if strings.HasPrefix(name, "TF_CLI_ARGS") || strings.HasPrefix(name, "TF_REGISTRY_") {
			s.note(name, e.env[name])
		}
	}
	for _, path := range e.cliConfig(eng.name) {
		if data, err := readSmall(path); err == nil {
			s.note("cli config", string(data))
		}
	}
	for _, dir := range append([]string{m.Dir}, slices.Sorted(slices.Values(m.Modules))...) {
		if err := s.dir(dir, eng.name); err != nil {
			return inputs{}, err
		}
	}
	for name := range s.names {
		if name != "terraform" && !slices.ContainsFunc(reattached, func(addr string) bool {
			return addr == name || strings.HasSuffix(addr, "/"+name)
		}) {
			s.in.providers = true
		}
	}
	s.note(slices.Sorted(maps.Keys(s.names))...)
	s.in.sum = hex.EncodeToString(s.hash.Sum(nil)[:16])
	return s.in, nil
}

// reattached returns the addresses of the providers that run already. Where
// they listen changes with each start and is of no matter to init.
func (e *Engines) reattached() []string {
	var servers map[string]json.RawMessage
	if err := json.Unmarshal([]byte(e.env["TF_REATTACH_PROVIDERS"]), &servers); err != nil {
		return nil
	}
	return slices.Sorted(maps.Keys(servers))
}

// cliConfig returns where the engine's own configuration may be.
func (e *Engines) cliConfig(engine string) []string {
	if path := e.env["TF_CLI_CONFIG_FILE"]; path != "" {
		return []string{path}
	}
	home := e.env["HOME"]
	if home == "" {
		return nil
	}
	if engine == "tofu" {
		return []string{filepath.Join(home, ".tofurc"), filepath.Join(home, ".terraformrc")}
	}
	return []string{filepath.Join(home, ".terraformrc")}
}

// dir adds the configuration files of one directory.
func (s *scanner) dir(dir, engine string) error {
	entries, err := os.ReadDir(dir)
	if errors.Is(err, os.ErrNotExist) && dir != s.root {
		s.note("missing module") // the engine's own error says it best
		return nil
	}
	if err != nil {
		return fmt.Errorf("read root module: %w", err)
	}
	rel, err := filepath.Rel(s.root, dir)
	if err != nil {
		return fmt.Errorf("read root module: %w", err)
	}
	s.note("dir", filepath.ToSlash(rel))
	for _, entry := range entries {
		name := entry.Name()
		if !isConfig(name, engine) || name == overrideFile {
			continue
		}
		data, err := readSmall(filepath.Join(dir, name))
		if err != nil {
			// Not even read: the engine will say what is wrong with it.
			s.note("unreadable", name)
			s.unknown()
			continue
		}
		earlier := s.in.backend
		s.in.backend = ""
		s.file(name, data, dir == s.root)
		switch {
		case s.in.backend == "":
			s.in.backend = earlier
		case isOverride(name) && name > overrideFile:
			s.in.overrides = name
		}
	}
	return nil
}

// isOverride says whether the engine merges a configuration file over the
// others. It takes such files in the order of their names.
func isOverride(name string) bool {
	base := strings.TrimSuffix(strings.TrimSuffix(strings.TrimSuffix(name, ".json"), ".tf"), ".tofu")
	return base == "override" || strings.HasSuffix(base, "_override")
}

// isConfig says whether the engine reads a file of this name as configuration.
func isConfig(name, engine string) bool {
	if strings.HasPrefix(name, ".") || strings.HasSuffix(name, "~") ||
		strings.HasPrefix(name, "#") && strings.HasSuffix(name, "#") {
		return false
	}
	endings := []string{".tf", ".tf.json"}
	if engine == "tofu" {
		endings = append(endings, ".tofu", ".tofu.json")
	}
	return slices.ContainsFunc(endings, func(end string) bool { return strings.HasSuffix(name, end) })
}

// unknown takes everything for possible.
func (s *scanner) unknown() { s.in.providers, s.in.remote = true, true }

func (s *scanner) file(name string, data []byte, root bool) {
	if strings.HasSuffix(name, ".json") {
		s.json(data, root)
		return
	}
	f, diags := hclsyntax.ParseConfig(data, name, hcl.InitialPos)
	body, ok := (*hclsyntax.Body)(nil), false
	if f != nil {
		body, ok = f.Body.(*hclsyntax.Body)
	}
	if diags.HasErrors() || !ok {
		s.note(string(data))
		s.unknown()
		return
	}
	s.blocks(body.Blocks, data, root)
}

// json adds a file in JSON syntax as a whole.
func (s *scanner) json(data []byte, root bool) {
	s.note(string(data))
	s.unknown()
	var top struct {
		Terraform json.RawMessage `json:"terraform"`
	}
	if !root || json.Unmarshal(data, &top) != nil || top.Terraform == nil {
		return
	}
	// One block may be an object, or an array of one.
	var blocks []map[string]json.RawMessage
	if json.Unmarshal(top.Terraform, &blocks) != nil {
		blocks = make([]map[string]json.RawMessage, 1)
		if json.Unmarshal(top.Terraform, &blocks[0]) != nil {
			return
		}
	}
	for _, b := range blocks {
		if _, ok := b["cloud"]; ok {
			s.in.backend = "cloud"
		}
		var types []map[string]json.RawMessage
		if json.Unmarshal(b["backend"], &types) != nil {
			types = make([]map[string]json.RawMessage, 1)
			_ = json.Unmarshal(b["backend"], &types[0])
		}
		for _, t := range types {
			for name := range t {
				s.in.backend = name
			}
		}
	}
}

func (s *scanner) blocks(blocks hclsyntax.Blocks, src []byte, root bool) {
	for _, b := range blocks {
		switch b.Type {
		case "terraform":
			s.settings(b, src, root)
		case "module":
			s.module(b, src)
		case "provider":
			s.provider(b, src)
		case "resource", "data", "ephemeral", "list", "action":
			s.resource(b)
		case "check":
			s.blocks(b.Body.Blocks, src, false)
		}
	}
}

// settings adds the blocks of a terraform block that init reads.
func (s *scanner) settings(b *hclsyntax.Block, src []byte, root bool) {
	for _, inner := range b.Body.Blocks {
		switch inner.Type {
		case "backend":
			if root && len(inner.Labels) == 1 {
				s.in.backend = inner.Labels[0]
			}
		case "cloud", "state_store":
			if root {
				s.in.backend = inner.Type
			}
		case "required_providers":
			for name := range inner.Body.Attributes {
				s.names[name] = true
			}
		default:
			continue
		}
		s.note("terraform", string(inner.Range().SliceBytes(src)))
		s.note(string(hcl.RangeBetween(inner.OpenBraceRange, inner.CloseBraceRange).SliceBytes(src)))
	}
}

func (s *scanner) module(b *hclsyntax.Block, src []byte) {
	s.note("module", strings.Join(b.Labels, " "))
	local := false
	for _, name := range []string{"source", "version"} {
		attr := b.Body.Attributes[name]
		if attr == nil {
			continue
		}
		s.note(name, string(attr.Expr.Range().SliceBytes(src)))
		if v, diags := attr.Expr.Value(nil); name == "source" && !diags.HasErrors() && v.Type().FriendlyName() == "string" && v.IsKnown() && !v.IsNull() {
			source := v.AsString()
			local = strings.HasPrefix(source, "./") || strings.HasPrefix(source, "../")
		}
	}
	if !local {
		s.unknown() // a downloaded module may need providers, too
	}
}

func (s *scanner) provider(b *hclsyntax.Block, src []byte) {
	if len(b.Labels) != 1 {
		return
	}
	s.names[b.Labels[0]] = true
	if attr := b.Body.Attributes["version"]; attr != nil {
		s.note("provider", b.Labels[0], string(attr.Expr.Range().SliceBytes(src)))
	}
}

// resource adds the provider that a resource's type or its provider argument
// implies: it need not be named anywhere else.
func (s *scanner) resource(b *hclsyntax.Block) {
	if len(b.Labels) == 0 {
		return
	}
	name, _, _ := strings.Cut(b.Labels[0], "_")
	if attr := b.Body.Attributes["provider"]; attr != nil {
		if t, diags := hcl.AbsTraversalForExpr(attr.Expr); !diags.HasErrors() {
			name = t.RootName()
		}
	}
	s.names[name] = true
}

// readSmall reads a regular file of bounded size: a repository may hold a link
// to a device that never ends.
func readSmall(path string) ([]byte, error) {
	info, err := os.Stat(path)
	if err != nil {
		return nil, err
	}
	if !info.Mode().IsRegular() || info.Size() > maxConfigFile {
		return nil, fmt.Errorf("%s is not a regular file of at most %d bytes", path, maxConfigFile)
	}
	return os.ReadFile(path)
}

func digest(data []byte) string {
	sum := sha256.Sum256(data)
	return hex.EncodeToString(sum[:16])
}
