package terraform

import (
	"io"
	"os"
	"path/filepath"
	"strings"

	"github.com/hashicorp/hcl/v2"
	"github.com/hashicorp/hcl/v2/hclparse"
)

// Line is a place in a module's own files.
type Line struct {
	File string `json:"file"` // its name, without a directory
	Line int    `json:"line"` // from 1
}

// Bounds of what is read to find lines: beyond them nothing is found.
const (
	maxLinesFile  = 1 << 20 // bytes
	maxLinesFiles = 500
)

var blocks = &hcl.BodySchema{Blocks: []hcl.BlockHeaderSchema{
	{Type: "resource", LabelNames: []string{"type", "name"}},
	{Type: "data", LabelNames: []string{"type", "name"}},
	{Type: "module", LabelNames: []string{"name"}},
}}

// Lines returns where the blocks of a module's directory begin, by the address
// that each has in a plan of that directory: "aws_instance.web",
// "data.aws_ami.base", "module.net". Files that cannot be read or parsed have
// none: this is for showing, and the engine says what is wrong with them.
func Lines(dir string) map[string]Line {
	found := map[string]Line{}
	files, _ := filepath.Glob(filepath.Join(escapeGlob(dir), "*.t*f*"))
	for _, path := range files[:min(len(files), maxLinesFiles)] {
		name := filepath.Base(path)
		parse := (*hclparse.Parser).ParseHCL
		switch {
		case strings.HasSuffix(name, ".tf.json"), strings.HasSuffix(name, ".tofu.json"):
			parse = (*hclparse.Parser).ParseJSON
		case !strings.HasSuffix(name, ".tf") && !strings.HasSuffix(name, ".tofu"):
			continue
		}
		src, err := readLines(path)
		if err != nil {
			continue
		}
		file, _ := parse(hclparse.NewParser(), src, name)
		if file == nil {
			continue
		}
		content, _, _ := file.Body.PartialContent(blocks)
		for _, b := range content.Blocks {
			address := strings.Join(b.Labels, ".")
			if b.Type != "resource" {
				address = b.Type + "." + address
			}
			found[address] = Line{name, b.DefRange.Start.Line}
		}
	}
	return found
}

// LineOf returns where the block of a resource's address begins: for one in a
// module, where that is called.
func LineOf(lines map[string]Line, address string) (Line, bool) {
	parts := strings.SplitN(address, ".", 4)
	n := 2
	if parts[0] == "data" {
		n = 3
	}
	if len(parts) < n {
		return Line{}, false
	}
	key := strings.Join(parts[:n], ".")
	if i := strings.IndexByte(key, '['); i >= 0 {
		key = key[:i] // an instance's key, which may have dots
	}
	l, ok := lines[key]
	return l, ok
}

func readLines(path string) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	src, err := io.ReadAll(io.LimitReader(f, maxLinesFile+1))
	if len(src) > maxLinesFile {
		return nil, os.ErrInvalid
	}
	return src, err
}

// escapeGlob makes a directory's name stand for itself in a pattern.
func escapeGlob(s string) string {
	return strings.NewReplacer(`\`, `\\`, "*", `\*`, "?", `\?`, "[", `\[`).Replace(s)
}
