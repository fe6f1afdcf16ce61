package terraform

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"github.com/hashicorp/hcl/v2/hclwrite"
	"github.com/zclconf/go-cty/cty"
)

// overrideFile has the engine keep the state where Holdfast does: files of this
// ending are merged over all others. Only one whose name comes later could say
// otherwise; that is refused.
const overrideFile = "holdfast_override.tf"

const overrideHeader = "# Written by Holdfast, so that the state outlives this checkout.\n"

// writeOverride has m's state kept in m.StateFile, where one is set. Runs of
// all Terraform workspaces in the checkout write the same content.
func writeOverride(m Module, in inputs) error {
	if m.StateFile == "" {
		return nil
	}
	if in.overrides != "" {
		return &ModuleError{
			Message: fmt.Sprintf("%s sets a backend over the one with which Holdfast keeps this root module's state, which would be lost", in.overrides),
			Advice:  "remove the backend block from that file, or give the root module a backend that outlives a checkout",
		}
	}
	backend := in.backend
	if backend != "" && backend != "local" {
		return &ModuleError{
			Message: fmt.Sprintf("the state of %s is kept by its own %s block and cannot be kept by Holdfast", m.Dir, blockName(backend)),
			Advice:  "this is a mistake in Holdfast; report it",
		}
	}
	if !filepath.IsAbs(m.StateFile) {
		return fmt.Errorf("state file %q is not an absolute path", m.StateFile)
	}
	if err := os.MkdirAll(filepath.Dir(m.StateFile), 0o700); err != nil {
		return fmt.Errorf("make the state's directory: %w", err)
	}
	path := filepath.Join(m.Dir, overrideFile)
	want := override(m.StateFile)
	have, err := currentOverride(path)
	if err != nil {
		return err
	}
	if bytes.Equal(have, want) {
		return nil
	}
	if err := writeFile(path, want, 0o644); err != nil {
		return fmt.Errorf("write %s: %w", overrideFile, err)
	}
	return nil
}

// currentOverride returns the override file that is there. One that the
// repository brought is an error.
func currentOverride(path string) ([]byte, error) {
	info, err := os.Lstat(path)
	if errors.Is(err, os.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("read %s: %w", overrideFile, err)
	}
	var data []byte
	if info.Mode().IsRegular() {
		if data, err = readSmall(path); err != nil {
			return nil, fmt.Errorf("read %s: %w", overrideFile, err)
		}
	}
	if !bytes.HasPrefix(data, []byte(overrideHeader)) {
		return nil, &ModuleError{
			Message: fmt.Sprintf("the repository has a file %s, whose name Holdfast needs to keep this root module's state", overrideFile),
			Advice:  "rename the file, or give the root module a backend of its own",
		}
	}
	return data, nil
}

func blockName(backend string) string {
	if backend == "cloud" {
		return "cloud"
	}
	return fmt.Sprintf("backend %q", backend)
}

func override(stateFile string) []byte {
	f := hclwrite.NewEmptyFile()
	backend := f.Body().AppendNewBlock("terraform", nil).Body().AppendNewBlock("backend", []string{"local"}).Body()
	backend.SetAttributeValue("path", cty.StringVal(stateFile))
	backend.SetAttributeValue("workspace_dir", cty.StringVal(stateFile+".workspaces"))
	return append([]byte(overrideHeader), f.Bytes()...)
}
