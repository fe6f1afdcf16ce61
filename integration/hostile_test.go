package integration

import (
	"bytes"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"holdfast/runner/markdown"
	"holdfast/store"
	"holdfast/vcs/gitea/giteatest"
)

// spy prints the environment of its own process and of all whose it can read.
const spy = `resource "terraform_data" "spy" {
  provisioner "local-exec" {
    command = "env; for f in /proc/[0-9]*/environ; do tr '\\0' '\\n' < $f; done 2>&1; cat /proc/[0-9]*/cmdline 2>/dev/null | tr '\\0' ' '; echo spied"
  }
}
`

// TestCodeOfAPullRequestFindsNoTokens runs code that looks for the server's
// tokens in every process's environment.
func TestCodeOfAPullRequestFindsNoTokens(t *testing.T) {
	t.Parallel()
	w := newWorld(t, map[string]string{"app/main.tf": "resource \"terraform_data\" \"one\" {}\n"})
	w.asNobody()
	w.start()
	w.repo.Push("spy", map[string]string{"app/spy.tf": spy}, "Spy")
	number := w.repo.OpenPull(giteatest.OpenPull{Head: "spy"})
	w.comment(number, "terraform_data.spy")
	w.repo.Merge(number, "merge")
	w.comment(number, "pplied")
	run := w.ended(1, store.RunFilter{Kind: store.KindApply})[0]
	log := w.page("/runs/" + run.ID + "/log")
	if !strings.Contains(log, "spied") || !strings.Contains(log, "TF_IN_AUTOMATION=1") {
		t.Fatalf("the spy did not print:\n%s", log)
	}
	for name, text := range w.shown(number, run.ID) {
		for what, secret := range map[string]string{"token": w.forge.AddUser("holdfast", true), "webhook secret's variable": "GITEA_WEBHOOK_SECRET", "token's variable": "GITEA_TOKEN"} {
			if strings.Contains(text, secret) {
				t.Errorf("%s shows the %s", name, what)
			}
		}
	}
	w.quiet()
}

// asNobody has the server run by a user without rights, where the test has
// all: root reads any process, whatever that does against it.
func (w *world) asNobody() {
	w.Helper()
	if os.Geteuid() != 0 {
		return
	}
	const nobody = 65534
	dir, err := os.MkdirTemp("", "holdfast-nobody-")
	if err != nil {
		w.Fatal(err)
	}
	w.Cleanup(func() {
		w.stop()
		_ = os.RemoveAll(dir)
	})
	program := filepath.Join(dir, "holdfast")
	data, err := os.ReadFile(binaries.holdfast)
	if err == nil {
		err = os.WriteFile(program, data, 0o755)
	}
	if err == nil {
		err = os.Chown(dir, nobody, nobody)
	}
	if err != nil {
		w.Fatal(err)
	}
	w.dir = dir
	w.env = append(w.env, "HOME="+dir, "TMPDIR="+dir, "TF_CLI_CONFIG_FILE=")
	w.launch = func(cmd *exec.Cmd) {
		cmd.Path, cmd.Args[0] = program, program
		cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: nobody, Gid: nobody}}
		for _, a := range cmd.Args {
			if strings.HasSuffix(a, "server.hcl") {
				if err := os.Chown(a, nobody, nobody); err != nil {
					w.Fatal(err)
				}
			}
		}
	}
}

// shown returns all that people see of a pull request and one of its runs, by
// where it is shown.
func (w *world) shown(number int, run string) map[string]string {
	w.Helper()
	out := map[string]string{"the server's log": w.log.String()}
	for _, path := range []string{"/", "/runs", "/runs/" + run, "/runs/" + run + "/log", "/pulls/" + w.repository() + fmt.Sprintf("/%d", number), "/api/runs", "/api/runs/" + run, "/api/workspaces", "/metrics"} {
		out[path] = w.page(path)
	}
	for _, c := range w.repo.Comments(number) {
		out["the comment"] += c.Body
	}
	for _, c := range []string{"change", "spy"} {
		if sha, err := w.repo.Git.Repo.Head(c); err == nil {
			out["the statuses"] += fmt.Sprintf("%+v", w.repo.Statuses(sha))
		}
	}
	return out
}

// TestSensitiveValues are nowhere in the clear: not where people look, and not
// in the data directory but for Terraform's own state.
func TestSensitiveValues(t *testing.T) {
	t.Parallel()
	const secret, later = "correct-horse-battery-staple", "another-horse-of-course"
	w := newWorld(t, map[string]string{"app/main.tf": app(), "holdfast.hcl": "defaults {\n  drift {\n    schedule = \"@every 2s\"\n  }\n}\n"})
	w.env = append(w.env, "TF_VAR_password="+secret)
	w.start()
	w.repo.Push("change", map[string]string{"app/more.tf": `variable "password" {
  sensitive = true
}
output "hidden" {
  value     = "the ${var.password} itself"
  sensitive = true
}
resource "terraform_data" "derived" {
  input = { list = ["x", var.password], "${sensitive("key")}" = 1 }
}
` + server("one", "password = var.password", "tags = { t = var.password }")}, "change")
	number := w.repo.OpenPull(giteatest.OpenPull{Head: "change"})
	w.comment(number, "smallcloud_server.one")
	check := func() {
		t.Helper()
		for _, run := range w.runs(store.RunFilter{Limit: 6}) {
			for name, text := range w.shown(number, run.ID) {
				if strings.Contains(text, secret) || strings.Contains(text, later) {
					t.Errorf("%s shows the secret after %s of %s (%s)", name, run.Kind, run.Workspace, run.State)
				}
			}
		}
		for _, file := range w.filesWith(secret, later) {
			t.Errorf("%s holds the secret", file)
		}
	}
	check()
	w.repo.Merge(number, "merge")
	w.comment(number, "pplied")
	w.quietBut("drift")
	if got := w.cloud.attribute("one", "password"); got != secret {
		t.Errorf("the cloud has %v", got)
	}
	check()
	// Drift of a sensitive value is found, and not shown.
	w.cloud.set("one", "password", later)
	w.until("the drift is found", func() bool { return w.workspace("app").Class == "cloud_change" })
	check()
	// A merge that is another change is held, and the comparison is not shown
	// either.
	w.stop()
	if left, err := filepath.Glob(filepath.Join(w.dir, "data", "runs", "*", "*")); err != nil || len(left) > 0 {
		t.Errorf("files of runs are left: %v %v", left, err)
	}
	for _, file := range w.filesWith(secret, later) {
		t.Errorf("%s holds the secret", file)
	}
}

// quietBut waits until no job of other kinds than these is left.
func (w *world) quietBut(kinds ...string) {
	w.Helper()
	st := w.open()
	defer st.Close()
	w.until("the jobs are done", func() bool {
		for _, j := range w.busy(w.Context(), st) {
			if !strings.Contains(strings.Join(kinds, " "), j.Kind) {
				return false
			}
		}
		return true
	})
}

// filesWith returns the files of the data directory, other than states, that
// hold one of the texts as it is.
func (w *world) filesWith(texts ...string) []string {
	w.Helper()
	var found []string
	data := filepath.Join(w.dir, "data")
	err := filepath.WalkDir(data, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			if os.IsNotExist(err) {
				return nil // gone meanwhile
			}
			return err
		}
		if rel, _ := filepath.Rel(data, path); strings.HasPrefix(rel, "state"+string(filepath.Separator)) {
			return nil
		}
		if !d.Type().IsRegular() {
			return nil
		}
		content, err := os.ReadFile(path)
		if os.IsNotExist(err) {
			return nil
		}
		for _, text := range texts {
			if bytes.Contains(content, []byte(text)) {
				found = append(found, path)
			}
		}
		return err
	})
	if err != nil {
		w.Fatal(err)
	}
	return found
}

// TestHostileNames shows names that a terminal, a browser or Markdown would
// obey as what they are.
func TestHostileNames(t *testing.T) {
	t.Parallel()
	w := newWorld(t, map[string]string{"app/main.tf": "resource \"terraform_data\" \"one\" {}\n"})
	w.start()
	// A directory of the second name is refused, one of the first is planned.
	dir, refused := "x`|<img src=x onerror=alert(1)>", "y\x1b[31m"
	w.repo.Push("change", map[string]string{
		dir + "/main.tf":     "resource \"terraform_data\" \"one\" {}\n",
		refused + "/main.tf": "resource \"terraform_data\" \"one\" {}\n",
		"app/more.tf": "resource \"terraform_data\" \"many\" {\n  for_each = toset([\"\\u001b]0;owned\\u0007\", \"\\u001b[2J\", \"a`b``c```\", \"|x|\", \"<!-- holdfast -->\", \"```\\n# injected\\n\", \"@everyone\", \"\\u202egnp\", \"</details><script>alert(1)</script>\", \"[click](https://evil.example)\"])\n" +
			"  input = \"\\n```\\n\\n# injected\\n\\n<!-- holdfast -->\\n@everyone \\u001b[31m ${each.key}\"\n}\n",
	}, "\x1b[31mchange\n\n<!-- holdfast -->")
	number := w.repo.OpenPull(giteatest.OpenPull{Head: "change", Title: "<script>alert(1)</script>\x1b[31m"})
	runs := w.ended(2, store.RunFilter{PullRequest: number})
	w.quiet()
	body := w.comment(number, "terraform_data.many", "control characters")
	if n := strings.Count(body, markdown.Marker); n != 1 {
		t.Errorf("the comment has %d markers:\n%s", n, body)
	}
	fence := ""
	for i, line := range strings.Split(body, "\n") {
		trimmed := strings.TrimSpace(line)
		switch {
		case fence == "" && strings.HasPrefix(trimmed, "```"):
			fence = trimmed[:len(trimmed)-len(strings.TrimLeft(trimmed, "`"))]
		case fence != "" && trimmed == fence:
			fence = ""
		case fence == "" && (strings.HasPrefix(trimmed, "# injected") || strings.Contains(line, "<script>") || strings.Contains(line, "<img")):
			t.Errorf("line %d of the comment is not text: %q", i+1, line)
		}
	}
	if fence != "" {
		t.Errorf("a block is left open:\n%s", body)
	}
	for _, run := range runs {
		for name, text := range w.shown(number, run.ID) {
			if i := strings.IndexFunc(text, func(r rune) bool { return r < ' ' && r != '\n' && r != '\t' && r != '\r' || r == 0x7f || r == 0x202e }); i >= 0 {
				t.Errorf("%s has a control character: %q", name, text[max(0, i-60):min(len(text), i+60)])
			}
			if strings.HasPrefix(name, "/") && !strings.HasPrefix(name, "/api") && !strings.HasSuffix(name, "/log") && strings.Contains(text, "<script>alert") {
				t.Errorf("%s has a foreign script", name)
			}
		}
	}
}
