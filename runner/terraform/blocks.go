package terraform

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"unicode/utf8"

	"github.com/hashicorp/hcl/v2"
	"github.com/hashicorp/hcl/v2/hclsyntax"
	"github.com/hashicorp/hcl/v2/hclwrite"
	"github.com/zclconf/go-cty/cty"
)

// Block is something that people asked to be done to a state beside what the
// configuration says.
type Block struct {
	// Import takes the object with this ID into the state; otherwise the
	// state forgets what it has at the address, and nothing is destroyed.
	Import bool
	// Address is that of a managed resource: module.a["k"].aws_instance.b[0].
	// To be forgotten it is all instances of it, without keys.
	Address string
	// ID is the object's in its provider's form.
	ID string
}

// commandsFile is where WriteBlocks writes.
const commandsFile = "holdfast_commands.tf"

const commandsHeader = "# Written by Holdfast, as somebody asked for it in a comment.\n"

// WriteBlocks writes import and removed blocks into the root module m, which is
// a copy of CopyModule's. A mistake in them, or a file of the repository's that
// is in the way, is a *ModuleError. Terraform knows removed blocks from 1.7 on,
// OpenTofu in this form from 1.10 on.
func WriteBlocks(m Module, blocks []Block) error {
	f := hclwrite.NewEmptyFile()
	for i, b := range blocks {
		if i > 0 {
			f.Body().AppendNewline()
		}
		if err := b.write(f.Body()); err != nil {
			return err
		}
	}
	err := writeInside(m, commandsFile, append([]byte(commandsHeader), f.Bytes()...))
	if errors.Is(err, os.ErrExist) {
		return &ModuleError{
			Message: fmt.Sprintf("the repository has a file %s, whose name Holdfast needs to import and to forget resources", commandsFile),
			Advice:  "rename the file",
		}
	}
	if err != nil {
		return fmt.Errorf("write %s: %w", commandsFile, err)
	}
	return nil
}

// writeInside makes a new file in m.Dir, which no symbolic link of the
// repository's may have lie outside of m.Root.
func writeInside(m Module, name string, data []byte) error {
	dir, err := filepath.Rel(m.Root, m.Dir)
	if err != nil {
		return err
	}
	root, err := os.OpenRoot(m.Root)
	if err != nil {
		return err
	}
	defer root.Close()
	out, err := root.OpenFile(filepath.Join(dir, name), os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o644)
	if err != nil {
		return err
	}
	_, err = out.Write(data)
	return errors.Join(err, out.Close())
}

// write appends b to a file's body.
func (b Block) write(body *hclwrite.Body) error {
	address, keys, err := parseAddress(b.Address)
	if err != nil {
		return err
	}
	if !b.Import {
		if keys {
			return &ModuleError{
				Message: fmt.Sprintf("%s is one instance, and an engine can forget only all instances of a resource", b.Address),
				Advice:  fmt.Sprintf("name it without keys, as in %s, or run `state rm` by hand", withoutKeys(address)),
			}
		}
		removed := body.AppendNewBlock("removed", nil).Body()
		removed.SetAttributeTraversal("from", address)
		removed.AppendNewBlock("lifecycle", nil).Body().SetAttributeValue("destroy", cty.False)
		return nil
	}
	if b.ID == "" || !utf8.ValidString(b.ID) {
		return &ModuleError{
			Message: fmt.Sprintf("%q cannot be the ID of an object to import into %s", b.ID, b.Address),
			Advice:  "give the ID that the provider's documentation asks for",
		}
	}
	imported := body.AppendNewBlock("import", nil).Body()
	imported.SetAttributeTraversal("to", address)
	imported.SetAttributeValue("id", cty.StringVal(b.ID))
	return nil
}

// parseAddress reads the address of a managed resource, or an instance of one,
// and says whether there are instances' keys in it. The error is a
// *ModuleError.
func parseAddress(s string) (t hcl.Traversal, keys bool, err error) {
	wrong := &ModuleError{
		Message: fmt.Sprintf("%q is not the address of a resource", s),
		Advice:  `write it as in a plan, such as aws_instance.web or module.net["a"].aws_instance.web[0]`,
	}
	if len(s) > maxAddress || strings.ContainsAny(s, "\r\n") {
		wrong.Message = "that is not the address of a resource"
		return nil, false, wrong
	}
	t, diags := hclsyntax.ParseTraversalAbs([]byte(s), "address", hcl.InitialPos)
	if diags.HasErrors() {
		return nil, false, wrong
	}
	r := addressReader{steps: t}
	kind := r.name()
	for ; kind == "module"; kind = r.name() {
		r.name()
		r.key()
	}
	if slices.Contains(notResources, kind) {
		r.wrong = true
	}
	r.name()
	r.key()
	if r.wrong || len(r.steps) > 0 {
		return nil, false, wrong
	}
	return t, r.keys, nil
}

// notResources begin addresses of other things than managed resources.
var notResources = []string{
	"data", "ephemeral", "action", "resource", "provider", "var", "local", "output", "each", "count", "self", "path", "terraform",
}

// addressReader reads an address step by step.
type addressReader struct {
	steps hcl.Traversal
	keys  bool // there was a key
	wrong bool
}

// name reads a name, and returns it.
func (r *addressReader) name() string {
	if len(r.steps) > 0 {
		switch step := r.steps[0].(type) {
		case hcl.TraverseRoot:
			r.steps = r.steps[1:]
			return step.Name
		case hcl.TraverseAttr:
			r.steps = r.steps[1:]
			return step.Name
		}
	}
	r.wrong = true
	return ""
}

// key reads an instance's key, where one is there.
func (r *addressReader) key() {
	if len(r.steps) == 0 {
		return
	}
	step, ok := r.steps[0].(hcl.TraverseIndex)
	if !ok {
		return
	}
	r.steps, r.keys = r.steps[1:], true
	if step.Key.Type() == cty.Number {
		n := step.Key.AsBigFloat()
		r.wrong = r.wrong || !n.IsInt() || n.Sign() < 0
	}
}

// withoutKeys returns an address that has none.
func withoutKeys(t hcl.Traversal) string {
	var names []string
	for _, step := range t {
		switch step := step.(type) {
		case hcl.TraverseRoot:
			names = append(names, step.Name)
		case hcl.TraverseAttr:
			names = append(names, step.Name)
		}
	}
	return strings.Join(names, ".")
}
