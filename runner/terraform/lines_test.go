package terraform_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"holdfast/runner/terraform"
)

func TestLines(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "a[1]")
	if err := os.Mkdir(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	for name, text := range map[string]string{
		"main.tf":        "# one\n\nresource \"x_server\" \"web\" {\n  a = 1\n}\n\nmodule \"net\" {\n  source = \"./net\"\n}\n",
		"data.tf":        "data \"x_image\" \"base\" {}\n",
		"more.tf.json":   "{\n  \"resource\": {\n    \"x_server\": {\n      \"db\": {}\n    }\n  }\n}\n",
		"broken.tf":      "resource \"x_server\" \"half\" {\n",
		"prod.tfvars":    "resource \"x_server\" \"no\" {}\n",
		"large.tf":       "resource \"x_server\" \"large\" {}\n" + strings.Repeat("#", 1<<20),
		"terraform.tfst": "",
	} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	lines := terraform.Lines(dir)
	for address, want := range map[string]terraform.Line{
		"x_server.web":                        {File: "main.tf", Line: 3},
		`x_server.web["a.b"]`:                 {File: "main.tf", Line: 3},
		"module.net.x_server.inner":           {File: "main.tf", Line: 7},
		`module.net["k.v"].module.deep.x_y.z`: {File: "main.tf", Line: 7},
		"data.x_image.base":                   {File: "data.tf", Line: 1},
		"x_server.db":                         {File: "more.tf.json", Line: 4},
		"x_server.gone":                       {},
		"x_server.no":                         {},
		"x_server.large":                      {},
		"x_server":                            {},
		"":                                    {},
	} {
		got, ok := terraform.LineOf(lines, address)
		if got != want || ok != (want != terraform.Line{}) {
			t.Errorf("%s is at %+v, %v, want %+v", address, got, ok, want)
		}
	}
}
